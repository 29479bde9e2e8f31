"""Rotary positions between `config.json` and GGUF: key-values, and Llama 3's tensor of factors.

Sources: `modeling_rope_utils.py` of transformers; `llama-context.cpp` and the conversion script of
llama.cpp (`generate_extra_tensors`).
"""

import math
from collections.abc import Mapping
from typing import Any

import gguf
import numpy as np
from numpy.typing import NDArray

FREQS = "rope_freqs.weight"
_KINDS = ("default", "linear", "llama3", "yarn")
_YARN_FIXED = {"beta_fast": 32, "beta_slow": 1, "truncate": True}
"""The file has keys for the first two, but llama.cpp does not read them for this architecture."""
_LOW, _HIGH = 1.0, 4.0
"""Llama 3's; only the products with the original length decide, so a file says no more."""
_ORIGINAL_LENGTHS = tuple(2**power for power in range(6, 21))


def rope_of(config: Mapping[str, Any]) -> dict[str, Any]:
    """The rotary parameters of a configuration, as transformers 5 writes them.

    Older configurations have `rope_theta` and `rope_scaling` instead of `rope_parameters`.

    Raises:
        ValueError: A kind of scaling that llama.cpp's llama architecture does not have.
    """
    rope = {**(config.get("rope_scaling") or {}), **(config.get("rope_parameters") or {})}
    kind = rope.pop("type", "default")
    rope["rope_type"] = rope.get("rope_type") or kind
    rope.setdefault("rope_theta", config.get("rope_theta") or 10_000.0)
    if rope["rope_type"] not in _KINDS:
        raise ValueError(
            f"rope scaling {rope['rope_type']!r:.40}, which GGUF files of this kind cannot hold; "
            f"known are {', '.join(_KINDS)}"
        )
    needed = {
        "linear": ("factor",),
        "yarn": ("factor", "original_max_position_embeddings"),
        "llama3": (
            "factor",
            "low_freq_factor",
            "high_freq_factor",
            "original_max_position_embeddings",
        ),
    }.get(rope["rope_type"], ())
    for name in ("rope_theta", *needed):
        value = rope.get(name)
        if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
            raise ValueError(f"rope parameter {name} is {value!r:.40}, but should be above 0")
    if rope["rope_type"] == "yarn":
        for name, fixed in _YARN_FIXED.items():
            if rope.get(name) not in (None, fixed):
                raise ValueError(
                    f"rope parameter {name} is {rope[name]!r:.40}; llama.cpp computes this "
                    f"architecture with {fixed} always"
                )
    return rope


def add_rope(writer: gguf.GGUFWriter, config: Mapping[str, Any]) -> None:
    """Write the key-values; Llama 3's scaling stands in a tensor, see `computed_tensors`."""
    rope = rope_of(config)
    writer.add_rope_freq_base(float(rope["rope_theta"]))
    match rope["rope_type"]:
        case "linear":
            writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
            writer.add_rope_scaling_factor(float(rope["factor"]))
        case "yarn":
            writer.add_rope_scaling_type(gguf.RopeScalingType.YARN)
            writer.add_rope_scaling_factor(float(rope["factor"]))
            writer.add_rope_scaling_orig_ctx_len(int(rope["original_max_position_embeddings"]))
            factor = _attention_factor(rope) / _magnitude(rope["factor"])
            if not math.isclose(factor, 1):
                # Its own converter writes the factor as it is, under a key that is not read.
                writer.add_rope_scaling_attn_factors(factor)


def computed_tensors(config: Mapping[str, Any]) -> dict[str, NDArray[np.float32]]:
    """Tensors of a GGUF file that no checkpoint has, by GGUF name: they follow from the config.

    Llama 3's scaling: by how much each pair of dimensions turns slower.
    """
    rope = rope_of(config)
    if rope["rope_type"] != "llama3":
        return {}
    head_dim = config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"]
    return {FREQS: _llama3_factors(rope, head_dim)}


def read_rope(
    fields: Mapping[str, Any], factors: NDArray[np.float32] | None, head_dim: int
) -> dict[str, Any]:
    """The rotary parameters of a GGUF file, as `config.json` has them.

    Args:
        fields: Key-values of the header.
        factors: The tensor `rope_freqs.weight`, where there is one.
        head_dim: Dimensions of a head.

    Raises:
        ValueError: A kind of scaling that is not known here, or a value that is damaged.
    """

    def number(key: str, default: float | None = None) -> float:
        value = fields.get(f"llama.rope.{key}", default)
        if type(value) not in (int, float) or not 0 < value < math.inf:
            raise ValueError(f"llama.rope.{key} is {value!r:.60}, but should be above 0")
        return float(np.float32(value))

    theta = {"rope_theta": number("freq_base", 10_000.0)}
    kind = fields.get("llama.rope.scaling.type", "none")
    if factors is not None:
        if kind != "none":
            raise ValueError(f"rope scaling {kind!r:.60} and {FREQS} at once")
        return _llama3_of(theta, factors, head_dim)
    match kind:
        case "none":
            return {"rope_type": "default", **theta}
        case "linear":
            return {"rope_type": "linear", **theta, "factor": number("scaling.factor")}
        case "yarn":
            factor = number("scaling.factor")
            rope = {
                "rope_type": "yarn",
                **theta,
                "factor": factor,
                "original_max_position_embeddings": int(number("scaling.original_context_length")),
            }
            attention = number("scaling.attn_factor", 1.0)
            return rope | (
                {} if attention == 1 else {"attention_factor": attention * _magnitude(factor)}
            )
    raise ValueError(f"rope scaling {kind!r:.60} in a GGUF file is not known here")


def _llama3_factors(rope: Mapping[str, Any], head_dim: int) -> NDArray[np.float32]:
    """As transformers divides the frequencies, and llama.cpp's converter writes the divisors."""
    steps = np.arange(0, head_dim, 2, dtype=np.float32) / np.float32(head_dim)
    frequencies = np.float32(1) / np.power(np.float32(rope["rope_theta"]), steps, dtype=np.float32)
    length, factor = rope["original_max_position_embeddings"], rope["factor"]
    low, high = rope["low_freq_factor"], rope["high_freq_factor"]
    factors = []
    for frequency in frequencies:
        wavelength = np.float32(2 * math.pi) / frequency
        if wavelength < length / high:
            factors.append(1.0)
        elif wavelength > length / low:
            factors.append(factor)
        else:
            smooth = (length / wavelength - low) / (high - low)
            factors.append(1 / ((1 - smooth) / factor + smooth))
    return np.array(factors, np.float32)


def _llama3_of(
    theta: Mapping[str, float], factors: NDArray[np.float32], head_dim: int
) -> dict[str, Any]:
    """Find the parameters that give these factors; the length is a power of two in all models."""
    for length in _ORIGINAL_LENGTHS:
        rope = {
            "rope_type": "llama3",
            **theta,
            "factor": float(factors.max(initial=1.0)),
            "low_freq_factor": _LOW,
            "high_freq_factor": _HIGH,
            "original_max_position_embeddings": length,
        }
        wanted = _llama3_factors(rope, head_dim)
        if wanted.shape == factors.shape and np.allclose(wanted, factors, rtol=1e-5, atol=0):
            return rope
    raise ValueError(f"{FREQS} is not the rope scaling of Llama 3, the only one known here")


def _magnitude(factor: float, scale: float = 1.0) -> float:
    """Of cosine and sine under yarn (`get_mscale`); llama.cpp multiplies by it on its own."""
    return 0.1 * scale * math.log(factor) + 1 if factor > 1 else 1.0


def _attention_factor(rope: Mapping[str, Any]) -> float:
    if rope.get("attention_factor") is not None:
        return float(rope["attention_factor"])
    scale, over_all = rope.get("mscale"), rope.get("mscale_all_dim")
    if scale and over_all:
        return _magnitude(rope["factor"], scale) / _magnitude(rope["factor"], over_all)
    return _magnitude(rope["factor"])
