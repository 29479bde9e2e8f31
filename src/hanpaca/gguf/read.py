"""Open a GGUF file: its configuration, tokenizer and weights under their Hugging Face names.

Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import gguf
import numpy as np
from numpy.typing import NDArray

from hanpaca.errors import ArtifactError
from hanpaca.gguf.names import hf_name, num_rotary_heads, to_halves
from hanpaca.gguf.vocab import Vocabulary

_ROLES = {"bos": "bos", "eos": "eos", "unk": "unknown", "pad": "padding"}
_IGNORED = ("rope_freqs.weight",)


@dataclass(frozen=True)
class GgufModel:
    """An open GGUF file of a Llama-style model."""

    path: Path
    config: Mapping[str, Any]
    """As `config.json` has it."""
    vocabulary: Vocabulary
    shapes: Mapping[str, tuple[int, ...]]
    """Of every weight, by Hugging Face name."""
    tensors: Mapping[str, Any]

    def weight(self, name: str) -> NDArray[np.float32]:
        """Dequantize one weight, with query and key rows in Hugging Face's order."""
        tensor = self.tensors[name]
        values = gguf.quants.dequantize(tensor.data, tensor.tensor_type).astype(np.float32)
        num_heads = num_rotary_heads(
            tensor.name,
            num_heads=self.config["num_attention_heads"],
            num_kv_heads=self.config["num_key_value_heads"],
        )
        values = values.reshape(self.shapes[name])
        return to_halves(values, num_heads) if num_heads else values


def open_gguf(path: Path) -> GgufModel:
    """Open a GGUF file and check that it is a model that can be trained further.

    Raises:
        ArtifactError: Not a GGUF file, damaged, or of another architecture or tokenizer kind.
    """
    if not path.is_file():
        raise ArtifactError(f"{path}: no such file")
    try:
        reader = gguf.GGUFReader(path)
        fields = {name: field.contents() for name, field in reader.fields.items()}
    except (
        ValueError,
        IndexError,
        KeyError,
        OverflowError,
        MemoryError,
        UnicodeDecodeError,
    ) as error:
        raise ArtifactError(f"{path}: not a whole GGUF file: {error}; download it again") from error
    architecture = fields.get("general.architecture")
    if architecture != "llama":
        raise ArtifactError(f"{path}: architecture {architecture!r}; only llama can be read")
    tensors: dict[str, Any] = {}
    for tensor in reader.tensors:
        name = hf_name(tensor.name)
        if name is not None:
            tensors[name] = tensor
        elif tensor.name not in _IGNORED:
            raise ArtifactError(f"{path}: tensor {tensor.name} is of a kind not known here")
    try:
        config = _config(fields, tied="lm_head.weight" not in tensors)
        vocabulary = _vocabulary(fields, path)
    except KeyError as error:
        raise ArtifactError(f"{path}: the header lacks {error}; download it again") from error
    shapes = {name: tuple(int(n) for n in reversed(t.shape)) for name, t in tensors.items()}
    return GgufModel(path, config, vocabulary, shapes, tensors)


def _config(fields: Mapping[str, Any], *, tied: bool) -> dict[str, Any]:
    llama = {name.removeprefix("llama."): value for name, value in fields.items()}
    scaling = llama.get("rope.scaling.type", "none")
    if scaling != "none":
        raise ArtifactError(f"rope scaling {scaling!r} in a GGUF base is not supported")
    heads = llama["attention.head_count"]
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": len(fields["tokenizer.ggml.tokens"]),
        "hidden_size": llama["embedding_length"],
        "intermediate_size": llama["feed_forward_length"],
        "num_hidden_layers": llama["block_count"],
        "num_attention_heads": heads,
        "num_key_value_heads": llama.get("attention.head_count_kv", heads),
        "max_position_embeddings": llama["context_length"],
        "rms_norm_eps": float(np.float32(llama["attention.layer_norm_rms_epsilon"])),
        "rope_parameters": {
            "rope_type": "default",
            "rope_theta": llama.get("rope.freq_base", 10_000.0),
        },
        "hidden_act": "silu",
        "tie_word_embeddings": tied,
        "dtype": "bfloat16",
    }
    if "attention.key_length" in llama:
        config["head_dim"] = llama["attention.key_length"]
    for role in ("bos", "eos", "pad"):
        token = fields.get(f"tokenizer.ggml.{_ROLES[role]}_token_id")
        config[f"{role}_token_id"] = token
    return config


def _vocabulary(fields: Mapping[str, Any], path: Path) -> Vocabulary:
    kind = fields["tokenizer.ggml.model"]
    if kind != "gpt2":
        raise ArtifactError(
            f"{path}: tokenizer kind {kind!r}; only byte-level BPE ('gpt2') can be read from GGUF: "
            "give the model's Hugging Face folder instead"
        )
    special = {
        role: int(fields[f"tokenizer.ggml.{name}_token_id"])
        for role, name in _ROLES.items()
        if f"tokenizer.ggml.{name}_token_id" in fields
    }
    return Vocabulary(
        pre=cast(str, fields["tokenizer.ggml.pre"]),
        tokens=list(fields["tokenizer.ggml.tokens"]),
        token_types=[int(kind) for kind in fields["tokenizer.ggml.token_type"]],
        merges=list(fields["tokenizer.ggml.merges"]),
        special=special,
        add_bos=bool(fields.get("tokenizer.ggml.add_bos_token", False)),
        chat_template=fields.get("tokenizer.chat_template"),
    )
