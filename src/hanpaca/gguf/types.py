"""Which type each tensor of a GGUF file gets.

The rules are those of llama.cpp's quantizer (llama-quant.cpp: `llama_tensor_get_type_impl` and
`tensor_type_fallback`) for its llama architecture. Models with experts are not written, so its
rules for them are not here.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

from gguf.constants import GGML_QUANT_SIZES
from gguf.constants import GGMLQuantizationType as Type
from gguf.constants import LlamaFileType as FileType

FILE_TYPES: dict[str, tuple[Type, FileType]] = {
    "f32": (Type.F32, FileType.ALL_F32),
    "f16": (Type.F16, FileType.MOSTLY_F16),
    "bf16": (Type.BF16, FileType.MOSTLY_BF16),
    "q8_0": (Type.Q8_0, FileType.MOSTLY_Q8_0),
    "q6_k": (Type.Q6_K, FileType.MOSTLY_Q6_K),
    "q5_k_m": (Type.Q5_K, FileType.MOSTLY_Q5_K_M),
    "q5_k_s": (Type.Q5_K, FileType.MOSTLY_Q5_K_S),
    "q5_1": (Type.Q5_1, FileType.MOSTLY_Q5_1),
    "q5_0": (Type.Q5_0, FileType.MOSTLY_Q5_0),
    "q4_k_m": (Type.Q4_K, FileType.MOSTLY_Q4_K_M),
    "q4_k_s": (Type.Q4_K, FileType.MOSTLY_Q4_K_S),
    "iq4_nl": (Type.IQ4_NL, FileType.MOSTLY_IQ4_NL),
    "iq4_xs": (Type.IQ4_XS, FileType.MOSTLY_IQ4_XS),
    "q4_1": (Type.Q4_1, FileType.MOSTLY_Q4_1),
    "q4_0": (Type.Q4_0, FileType.MOSTLY_Q4_0),
    "q3_k_l": (Type.Q3_K, FileType.MOSTLY_Q3_K_L),
    "q3_k_m": (Type.Q3_K, FileType.MOSTLY_Q3_K_M),
    "q3_k_s": (Type.Q3_K, FileType.MOSTLY_Q3_K_S),
    "q2_k": (Type.Q2_K, FileType.MOSTLY_Q2_K),
    "q2_k_s": (Type.Q2_K, FileType.MOSTLY_Q2_K_S),
}
"""Kind of file, finest first: the type of most of its tensors, and llama.cpp's number for it."""
UNQUANTIZED = (Type.F32, Type.F16, Type.BF16)
_FALLBACK = {
    Type.Q2_K: Type.Q4_0,
    Type.Q3_K: Type.Q4_0,
    Type.Q4_K: Type.Q5_0,
    Type.Q5_K: Type.Q5_1,
    Type.Q6_K: Type.Q8_0,
    Type.IQ4_XS: Type.IQ4_NL,
}
"""For rows that are no multiple of 256, the block of the K-types."""
_LAYERS_OF_65B = 80
_SHARED = 4
"""From so many query heads on each value head, the small value matrix gets a finer type."""


@dataclass(frozen=True)
class Shape:
    """What of a model decides the types of its tensors."""

    num_layers: int
    num_heads: int
    num_kv_heads: int
    tied: bool
    """The embedding is also the head, and gets the head's type."""
    importance: bool = False
    """An importance matrix is given."""

    @classmethod
    def of(cls, config: Mapping[str, Any], *, importance: bool = False) -> "Shape":
        """Read it from a `config.json`."""
        heads = config["num_attention_heads"]
        return cls(
            num_layers=config["num_hidden_layers"],
            num_heads=heads,
            num_kv_heads=config.get("num_key_value_heads") or heads,
            tied=bool(config.get("tie_word_embeddings")),
            importance=importance,
        )


def tensor_type(name: str, shape: tuple[int, ...], *, file_type: str, model: Shape) -> Type:
    """Choose the type of one tensor as llama.cpp does.

    Args:
        name: GGUF name.
        shape: (rows, row length), or (length,) for a norm, which stays in float32.
        file_type: A key of `FILE_TYPES`.
        model: Whose tensor it is.
    """
    kind = FILE_TYPES[file_type][0]
    if len(shape) == 1:
        return Type.F32
    if kind in UNQUANTIZED:
        return kind
    if name == "output.weight" or (model.tied and name == "token_embd.weight"):
        kind = Type.Q8_0 if kind == Type.Q8_0 or not _fits(kind, shape) else Type.Q6_K
    elif match := re.fullmatch(r"blk\.(\d+)\.(\w+)\.weight", name):
        kind = _in_layer(match[2], int(match[1]), file_type, model) or kind
    if not _fits(kind, shape):
        kind = _FALLBACK.get(kind, kind)
    return kind if _fits(kind, shape) else Type.F16


def needs_importance(name: str, kind: Type, *, file_type: str) -> bool:
    """Whether llama.cpp refuses to write a tensor in a type without an importance matrix."""
    ends = name in ("token_embd.weight", "output.weight")
    return file_type == "q2_k_s" and kind == Type.Q2_K and not ends


def num_bytes(shape: tuple[int, ...], kind: Type) -> int:
    """Size of a tensor's data in a type."""
    block, block_bytes = GGML_QUANT_SIZES[kind]
    return prod(shape) // block * block_bytes


def _fits(kind: Type, shape: tuple[int, ...]) -> bool:
    return bool(shape[-1] % GGML_QUANT_SIZES[kind][0] == 0)


def _in_layer(part: str, layer: int, file_type: str, model: Shape) -> Type | None:
    """A type other than the file's for a matrix of a layer, if it gets one."""
    match part:
        case "attn_v":
            return _of_values(layer, file_type, model)
        case "ffn_down":
            return _of_ffn_down(layer, file_type, model)
        case "attn_output":
            kinds = {"q2_k": Type.Q3_K, "q3_k_m": Type.Q4_K, "q3_k_l": Type.Q5_K}
            return kinds.get(file_type)
    return None


def _of_values(layer: int, file_type: str, model: Shape) -> Type | None:
    shared = model.num_heads // model.num_kv_heads >= _SHARED
    kind = None
    match file_type:
        case "q2_k":
            kind = Type.Q4_K if shared else Type.Q3_K
        case "q2_k_s" if shared:
            kind = Type.Q4_K
        case "q3_k_m":
            kind = Type.Q5_K if layer < 2 else Type.Q4_K
        case "q3_k_l":
            kind = Type.Q5_K
        case "iq4_nl" | "iq4_xs" if shared:
            kind = Type.Q5_K
        case "q4_k_m" | "q5_k_m" if _gets_more_bits(layer, model.num_layers):
            kind = Type.Q6_K
        case "q4_k_s" if layer < 4:
            kind = Type.Q5_K
    is_70b = model.num_layers == _LAYERS_OF_65B and model.num_heads != model.num_kv_heads
    if is_70b and (kind or FILE_TYPES[file_type][0]) in (Type.Q3_K, Type.Q4_K):
        return Type.Q5_K
    return kind


def _of_ffn_down(layer: int, file_type: str, model: Shape) -> Type | None:
    first_eighth = layer < model.num_layers // 8
    match file_type:
        case "q2_k":
            return Type.Q3_K
        case "q2_k_s" if first_eighth:
            return Type.Q4_K
        case "q3_k_m":
            return Type.Q5_K if layer < model.num_layers // 16 else Type.Q4_K
        case "q3_k_l":
            return Type.Q5_K
        case "q4_k_m" | "q5_k_m" if _gets_more_bits(layer, model.num_layers):
            return Type.Q6_K
        case "q4_k_s" if first_eighth:
            return Type.Q5_K
        case "iq4_nl" | "iq4_xs" if first_eighth and not model.importance:
            return Type.Q5_K
        case "q4_0" | "q5_0" if first_eighth and model.importance:
            return Type.Q4_1 if file_type == "q4_0" else Type.Q5_1
    return None


def _gets_more_bits(layer: int, num_layers: int) -> bool:
    """The first and last eighth of the layers and every third between (`use_more_bits`)."""
    eighth = num_layers // 8
    return layer < eighth or layer >= 7 * num_layers // 8 or (layer - eighth) % 3 == 2
