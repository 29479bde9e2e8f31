"""What llama.cpp's `llama` architecture can hold of a `config.json`; the rest is refused by name.

Source: llama.cpp's models/llama.cpp (the tensors and the graph) and its conversion script.
"""

from collections.abc import Mapping
from typing import Any

from hanpaca.checkpoints.rope import lost_theta, rope_of
from hanpaca.errors import ArtifactError

MODEL_TYPES = ("llama", "mistral")
_COUNTS = (
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "max_position_embeddings",
    "vocab_size",
)
_OPTIONAL_COUNTS = ("num_key_value_heads", "head_dim")
_LIMIT = 2**32
"""Of a whole number in the header of a GGUF file."""
_UNKNOWN = ("quantization_config", "num_local_experts", "layer_types", "attn_logit_softcapping")
"""Fields that change what a model computes, and that neither model type has."""


def check_config(config: Mapping[str, Any]) -> tuple[str, ...]:
    """Check that a GGUF file can hold a model of this configuration.

    Args:
        config: As `config.json` has it.

    Returns:
        What the file will not say, in words; to be told.

    Raises:
        ArtifactError: It has something that cannot be written.
    """
    try:
        return _checked(config)
    except ValueError as error:
        raise ArtifactError(f"config.json: {error}") from error


def _checked(config: Mapping[str, Any]) -> tuple[str, ...]:
    if config.get("model_type") not in MODEL_TYPES:
        raise ValueError(
            f"model_type {config.get('model_type')!r:.40} cannot be written to GGUF here; known "
            f"are {' and '.join(MODEL_TYPES)}"
        )
    for name in _UNKNOWN:
        if config.get(name):
            raise ValueError(f"{name} is set, which GGUF's llama architecture cannot hold")
    if config.get("hidden_act", "silu") != "silu":
        raise ValueError(f"hidden_act is {config['hidden_act']!r:.40}; llama.cpp computes silu")
    _check_numbers(config)
    _check_heads(config)
    rope = rope_of(config)
    if rope.get("partial_rotary_factor", 1) != 1:
        raise ValueError("partial_rotary_factor is not 1; llama.cpp rotates whole heads")
    return tuple(note for note in (lost_theta(config), _lost_window(config)) if note)


def _lost_window(config: Mapping[str, Any]) -> str | None:
    window = config.get("sliding_window")
    if type(window) is not int or window >= config["max_position_embeddings"]:
        return None
    return (
        f"attention over a sliding window of {window} tokens is no part of GGUF's llama "
        f"architecture: beyond {window} tokens llama.cpp attends to all of the text"
    )


def _check_numbers(config: Mapping[str, Any]) -> None:
    for name in (*_COUNTS, *_OPTIONAL_COUNTS):
        value = config.get(name)
        if value is None and name in _OPTIONAL_COUNTS:
            continue
        if type(value) is not int or value < 1:
            raise ValueError(f"{name} is {value!r:.40}, but should be a whole number above 0")
        if value >= _LIMIT:
            raise ValueError(f"{name} is {value!r:.40}; a GGUF file has room for less than 2**32")
    epsilon = config.get("rms_norm_eps")
    if type(epsilon) is not float or not 0 < epsilon < 1:
        raise ValueError(f"rms_norm_eps is {epsilon!r:.40}, but should be a number above 0")


def _check_heads(config: Mapping[str, Any]) -> None:
    heads = config["num_attention_heads"]
    kv_heads = config.get("num_key_value_heads") or heads
    if not config.get("head_dim") and config["hidden_size"] % heads:
        raise ValueError(f"hidden_size {config['hidden_size']} is no multiple of {heads} heads")
    head_dim = config.get("head_dim") or config["hidden_size"] // heads
    if head_dim % 2 or heads % kv_heads:
        raise ValueError(
            f"{heads} heads of {head_dim} and {kv_heads} for keys: heads must be of even size, and "
            "each key serve as many"
        )
