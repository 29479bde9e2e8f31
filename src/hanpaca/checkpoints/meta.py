"""Meta's own format of LLaMA: `consolidated.0k.pth` and `params.json`, against Hugging Face's.

Three differences: names; the order of query and key rows, which Meta rotates in pairs; and the cut
into files for model parallelism. Source: convert_llama_weights_to_hf.py of transformers 4 and
llama/model.py of facebookresearch/llama.
"""

import re
from collections.abc import Mapping, Sequence
from itertools import pairwise
from math import isclose
from pathlib import Path
from typing import Any

from hanpaca.errors import ArtifactError

PARAMS = "params.json"
EMBEDDING, HEAD = "model.embed_tokens.weight", "lm_head.weight"
_TOP = {
    EMBEDDING: "tok_embeddings.weight",
    "model.norm.weight": "norm.weight",
    HEAD: "output.weight",
}
_LAYER = {
    "self_attn.q_proj": "attention.wq",
    "self_attn.k_proj": "attention.wk",
    "self_attn.v_proj": "attention.wv",
    "self_attn.o_proj": "attention.wo",
    "mlp.gate_proj": "feed_forward.w1",
    "mlp.down_proj": "feed_forward.w2",
    "mlp.up_proj": "feed_forward.w3",
    "input_layernorm": "attention_norm",
    "post_attention_layernorm": "ffn_norm",
}
_TOP_BACK = {value: key for key, value in _TOP.items()}
_LAYER_BACK = {value: key for key, value in _LAYER.items()}
_BY_COLUMNS = ("embed_tokens", "o_proj", "down_proj")
_COPIED = ("norm", "input_layernorm", "post_attention_layernorm")
_NUM_FILES = {4096: 1, 5120: 2, 6656: 4, 8192: 8}


def meta_name(name: str) -> str | None:
    """Meta's name of a Hugging Face tensor; None if Meta's format has no such tensor.

    >>> meta_name("model.layers.3.mlp.up_proj.weight")
    'layers.3.feed_forward.w3.weight'
    """
    if name in _TOP:
        return _TOP[name]
    match = re.fullmatch(r"model\.layers\.(\d+)\.(.+)\.weight", name)
    if match is None or match[2] not in _LAYER:
        return None
    return f"layers.{match[1]}.{_LAYER[match[2]]}.weight"


def hf_name(name: str) -> str | None:
    """Hugging Face's name of one of Meta's tensors; None if it has none.

    >>> hf_name("layers.3.attention.wo.weight")
    'model.layers.3.self_attn.o_proj.weight'
    """
    if name in _TOP_BACK:
        return _TOP_BACK[name]
    match = re.fullmatch(r"layers\.(\d+)\.(.+)\.weight", name)
    if match is None or match[2] not in _LAYER_BACK:
        return None
    return f"model.layers.{match[1]}.{_LAYER_BACK[match[2]]}.weight"


def cut(name: str) -> str:
    """How a tensor is dealt to several files: by `rows`, by `columns`, or `copied` to each."""
    module = name.removesuffix(".weight").rsplit(".", 1)[-1]
    if module in _COPIED:
        return "copied"
    return "columns" if module in _BY_COLUMNS else "rows"


def shares(size: int, num_files: int) -> list[range]:
    """Equal shares; what is left over goes to the last.

    >>> [len(share) for share in shares(49953, 2)]
    [24976, 24977]
    """
    each = size // num_files
    starts = [each * number for number in range(num_files)] + [size]
    return [range(start, stop) for start, stop in pairwise(starts)]


def head_rows(name: str, config: Mapping[str, Any]) -> int:
    """Rows of a head, for the matrices whose rows are in another order; 0 for all others."""
    if not name.endswith((".q_proj.weight", ".k_proj.weight")):
        return 0
    return int(config["hidden_size"]) // int(config["num_attention_heads"])


def default_num_files(config: Mapping[str, Any]) -> int:
    """Into how many files Meta cut a model of this size: 7B 1, 13B 2, 30B 4, 65B 8."""
    return _NUM_FILES.get(int(config["hidden_size"]), 1)


def params_of(config: Mapping[str, Any]) -> dict[str, Any]:
    """`params.json` of a Hugging Face configuration.

    Raises:
        ArtifactError: Meta's format cannot say what the configuration says.
    """
    rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
    kind = rope.get("rope_type", rope.get("type", "default"))
    hidden, heads = int(config["hidden_size"]), int(config["num_attention_heads"])
    kv_heads = int(config.get("num_key_value_heads") or heads)
    faults = {
        f"model_type {config.get('model_type')!r}": config.get("model_type") != "llama",
        f"rope scaling {kind!r}": kind != "default",
        "biases": bool(config.get("attention_bias") or config.get("mlp_bias")),
        "a head size of its own": int(config.get("head_dim") or hidden // heads) * heads != hidden,
    }
    for fault, is_there in faults.items():
        if is_there:
            raise ArtifactError(f"Meta's format has no place for {fault}", "use hf for {format}")
    params: dict[str, Any] = {
        "dim": hidden,
        "multiple_of": 256,
        "n_heads": heads,
        "n_layers": int(config["num_hidden_layers"]),
        "norm_eps": float(config["rms_norm_eps"]),
        "vocab_size": -1,
    }
    if kv_heads != heads:
        params["n_kv_heads"] = kv_heads
    theta = float(rope.get("rope_theta", config.get("rope_theta") or 10_000.0))
    if not isclose(theta, 10_000.0):
        params["rope_theta"] = theta
    return params | _feed_forward(hidden, int(config["intermediate_size"]))


def _feed_forward(hidden: int, intermediate: int) -> dict[str, Any]:
    """What makes Meta's formula give this size: round up `multiplier * 8/3 hidden`."""
    plain = int(2 * 4 * hidden / 3)
    if -(-plain // 256) * 256 == intermediate:
        return {}
    return {"multiple_of": intermediate, "ffn_dim_multiplier": intermediate / plain}


def config_of(params: Mapping[str, Any], shapes: Mapping[str, Sequence[int]]) -> dict[str, Any]:
    """`config.json` of a model in Meta's format.

    Args:
        params: Content of `params.json`.
        shapes: Of the whole tensors, by Hugging Face name.

    Raises:
        KeyError, TypeError, ValueError: A field is missing or of the wrong kind.
    """
    heads = int(params["n_heads"])
    vocabulary, hidden = shapes[EMBEDDING]
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": vocabulary,
        "hidden_size": hidden,
        "intermediate_size": shapes["model.layers.0.mlp.gate_proj.weight"][0],
        "num_hidden_layers": int(params["n_layers"]),
        "num_attention_heads": heads,
        "num_key_value_heads": int(params.get("n_kv_heads") or heads),
        "max_position_embeddings": int(params.get("max_seq_len") or 2048),
        "rms_norm_eps": float(params["norm_eps"]),
        "rope_parameters": {
            "rope_type": "default",
            "rope_theta": float(params.get("rope_theta") or 10_000.0),
        },
        "hidden_act": "silu",
        "initializer_range": 0.02,
        "tie_word_embeddings": False,
        "bos_token_id": 1,
        "eos_token_id": 2,
    }


def meta_files(folder: Path) -> list[Path]:
    """The weights of a folder in Meta's format, in order; empty if it is in another.

    Raises:
        ArtifactError: One is missing.
    """
    files = sorted(folder.glob("consolidated.*.pth"))
    for number, file in enumerate(files):
        if file.name != file_name(number):
            raise ArtifactError(f"{folder / file_name(number)}: missing; download it again")
    return files


def file_name(number: int) -> str:
    """Name of a file.

    >>> file_name(1)
    'consolidated.01.pth'
    """
    return f"consolidated.{number:02d}.pth"
