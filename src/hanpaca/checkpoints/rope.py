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
_NEEDED = {
    "default": (),
    "linear": ("factor",),
    "yarn": ("factor", "original_max_position_embeddings"),
    "llama3": (
        "factor",
        "low_freq_factor",
        "high_freq_factor",
        "original_max_position_embeddings",
    ),
}
_BETAS = {"beta_fast": 32, "beta_slow": 1}
"""Of YaRN; the file has keys for them, but llama.cpp does not read them for this architecture."""
_LOW, _HIGH = 1.0, 4.0
"""Llama 3's; only the products with the original length decide, so a file says no more."""
_ORIGINAL_LENGTHS = tuple(2**power for power in range(6, 21))
_MOST = float(np.finfo(np.float32).max)
_MOST_TOKENS = 2**32


def rope_of(config: Mapping[str, Any]) -> dict[str, Any]:
    """The rotary parameters of a configuration, as transformers 5 takes them.

    `rope_scaling`, the older key, is taken whole where it stands beside `rope_parameters`: then the
    latter's `rope_theta` does not count, but the one of the configuration itself, or 10,000.
    A length of the configuration itself goes before the one among the parameters.

    Source: `convert_rope_params_to_dict` and `standardize_rope_params` of transformers 5.

    Raises:
        ValueError: A kind of scaling that llama.cpp's llama architecture does not have, or a value
            that is none.
    """
    rope = _as_written(config)
    kind = rope.setdefault("rope_type", rope.get("type", "default"))
    rope.pop("type", None)
    if kind not in _KINDS:
        raise ValueError(
            f"rope scaling {kind!r:.40}, which GGUF files of this kind cannot hold; "
            f"known are {', '.join(_KINDS)}"
        )
    length = "original_max_position_embeddings"
    if kind in ("yarn", "llama3"):
        if length in config:
            rope[length] = config[length]
        rope.setdefault(length, config.get("max_position_embeddings"))
    if kind == "yarn" and "factor" in rope and rope["factor"] is None:
        _check(length, rope[length], _MOST_TOKENS)
        rope["factor"] = config["max_position_embeddings"] / rope[length]
    for name in ("rope_theta", *_NEEDED[kind]):
        _check(name, rope.get(name), _MOST_TOKENS if name == length else _MOST)
    if kind == "yarn":
        _check_yarn(rope)
    return rope


def lost_theta(config: Mapping[str, Any]) -> str | None:
    """What to tell where `rope_scaling` takes the place of another `rope_theta`; see `rope_of`."""
    parameters = config.get("rope_parameters")
    if not config.get("rope_scaling") or not isinstance(parameters, Mapping):
        return None
    said, taken = parameters.get("rope_theta"), rope_of(config)["rope_theta"]
    if said in (None, taken):
        return None
    return (
        f"config.json has rope_scaling beside rope_parameters with rope_theta {said}: transformers "
        f"takes rope_scaling alone and {taken} as rope_theta, and so does this file; put both "
        "into rope_parameters if that is not meant"
    )


def _as_written(config: Mapping[str, Any]) -> dict[str, Any]:
    """The one of the two keys that counts, with what stands beside it for want of it."""
    for name in ("rope_scaling", "rope_parameters"):
        if config.get(name) and not isinstance(config[name], Mapping):
            raise ValueError(f"{name} is {config[name]!r:.40}, but should be a table")
    rope = dict(config.get("rope_scaling") or config.get("rope_parameters") or {})
    rope.setdefault("rope_theta", config.get("rope_theta", 10_000.0))
    if config.get("partial_rotary_factor") is not None:
        rope.setdefault("partial_rotary_factor", config["partial_rotary_factor"])
    return rope


def _check(name: str, value: object, limit: float) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < limit:
        raise ValueError(
            f"rope parameter {name} is {value!r:.40}, but should be above 0 and below {limit:g}"
        )


def _check_yarn(rope: Mapping[str, Any]) -> None:
    """llama.cpp's YaRN has no settings beyond those of a file."""
    fixed = {name: rope.get(name) or value for name, value in _BETAS.items()}
    fixed["truncate"] = bool(rope.get("truncate", True))
    for name, value in (_BETAS | {"truncate": True}).items():
        if fixed[name] != value:
            raise ValueError(
                f"rope parameter {name} is {rope[name]!r:.40}; llama.cpp computes this "
                f"architecture with {value} always"
            )
    if rope["factor"] < 1:
        raise ValueError(
            f"rope parameter factor is {rope['factor']!r:.40}; llama.cpp's yarn only stretches"
        )
    for name in ("attention_factor", "mscale", "mscale_all_dim"):
        if rope.get(name) is not None:
            _check(name, rope[name], _MOST)


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
