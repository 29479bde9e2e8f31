"""The same tensors under two names: Hugging Face's Llama and llama.cpp's `llama` architecture.

Source: gguf-py's tensor_mapping.py and llama.cpp's conversion script.
"""

import re

import numpy as np
from numpy.typing import NDArray

_TOP = {
    "model.embed_tokens.weight": "token_embd.weight",
    "model.norm.weight": "output_norm.weight",
    "lm_head.weight": "output.weight",
}
_LAYER = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
}
_NO_BIAS = {("input_layernorm", "bias"), ("post_attention_layernorm", "bias")}
_TOP_BACK = {value: key for key, value in _TOP.items()}
_LAYER_BACK = {value: key for key, value in _LAYER.items()}


def gguf_name(name: str) -> str | None:
    """GGUF's name of a Hugging Face tensor; None if llama.cpp has no such tensor.

    >>> gguf_name("model.layers.3.self_attn.q_proj.weight")
    'blk.3.attn_q.weight'
    """
    if name in _TOP:
        return _TOP[name]
    match = re.fullmatch(r"model\.layers\.(\d+)\.(.+)\.(weight|bias)", name)
    if match is None or match[2] not in _LAYER or (match[2], match[3]) in _NO_BIAS:
        return None
    return f"blk.{match[1]}.{_LAYER[match[2]]}.{match[3]}"


def hf_name(name: str) -> str | None:
    """Hugging Face's name of a GGUF tensor; None if it has none.

    >>> hf_name("blk.3.attn_q.weight")
    'model.layers.3.self_attn.q_proj.weight'
    """
    if name in _TOP_BACK:
        return _TOP_BACK[name]
    match = re.fullmatch(r"blk\.(\d+)\.(\w+)\.(weight|bias)", name)
    part = _LAYER_BACK.get(match[2]) if match else None
    if match is None or part is None or (part, match[3]) in _NO_BIAS:
        return None
    return f"model.layers.{match[1]}.{part}.{match[3]}"


def num_rotary_heads(name: str, *, num_heads: int, num_kv_heads: int) -> int:
    """Heads of a GGUF tensor whose rows llama.cpp keeps in another order; 0 for all others."""
    part = name.split(".")[-2:-1]
    return {"attn_q": num_heads, "attn_k": num_kv_heads}.get(part[0] if part else "", 0)


def to_interleaved(weight: NDArray[np.float32], num_heads: int) -> NDArray[np.float32]:
    """Reorder query or key rows from two halves a head to interleaved pairs.

    Hugging Face rotates dimension i with i + d/2, llama.cpp 2i with 2i + 1.
    """
    shape = weight.shape
    halves = weight.reshape(num_heads, 2, shape[0] // num_heads // 2, *shape[1:])
    return halves.swapaxes(1, 2).reshape(shape)


def to_halves(weight: NDArray[np.float32], num_heads: int) -> NDArray[np.float32]:
    """Undo `to_interleaved`."""
    shape = weight.shape
    pairs = weight.reshape(num_heads, shape[0] // num_heads // 2, 2, *shape[1:])
    return pairs.swapaxes(1, 2).reshape(shape)
