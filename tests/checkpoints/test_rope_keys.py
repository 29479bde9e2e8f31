"""`rope_scaling` and `rope_parameters`, alone and beside each other: as transformers takes them."""

from itertools import product
from typing import Any

import numpy as np
import pytest
from transformers import LlamaConfig
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

from hanpaca.checkpoints.rope import FREQS, computed_tensors, lost_theta, rope_of
from hanpaca.errors import ArtifactError
from hanpaca.gguf.config import check_config

PLAIN: dict[str, Any] = {
    "model_type": "llama",
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "max_position_embeddings": 512,
    "vocab_size": 400,
    "rms_norm_eps": 1e-5,
}
BANDS = {"low_freq_factor": 1.0, "high_freq_factor": 4.0}
FORMS: dict[str, dict[str, Any] | None] = {
    "null": None,
    "empty": {},
    "default": {"rope_type": "default", "rope_theta": 500_000.0},
    "theta alone": {"rope_theta": 700.0},
    "linear": {"type": "linear", "factor": 4.0},
    "linear, both names": {"type": "dynamic", "rope_type": "linear", "factor": 2},
    "factor without a type": {"factor": 4.0},
    "yarn": {"rope_type": "yarn", "factor": 8.0, "original_max_position_embeddings": 64},
    "yarn without a length": {"type": "yarn", "factor": 2.0, "rope_theta": 900.0},
    "yarn, factor of the lengths": {
        "rope_type": "yarn",
        "factor": None,
        "original_max_position_embeddings": 128,
    },
    "yarn, betas of 0": {"rope_type": "yarn", "factor": 4.0, "beta_fast": 0, "beta_slow": None},
    "yarn, attention": {"rope_type": "yarn", "factor": 4.0, "attention_factor": 1.7},
    "yarn, magnitudes": {"rope_type": "yarn", "factor": 4.0, "mscale": 0.7, "mscale_all_dim": 0.5},
    "llama3": {
        "rope_type": "llama3",
        "factor": 8.0,
        **BANDS,
        "original_max_position_embeddings": 64,
    },
    "llama3 without a length": {"type": "llama3", "factor": 8.0, **BANDS, "rope_theta": 300.0},
}
MAGNITUDES = ("mscale", "mscale_all_dim")
BESIDE: dict[str, dict[str, Any]] = {
    "nothing": {},
    "theta": {"rope_theta": 20_000.0},
    "length": {"original_max_position_embeddings": 256},
}


@pytest.mark.parametrize("beside", BESIDE)
@pytest.mark.parametrize(("old", "new"), product(("absent", *FORMS), repeat=2))
def test_frequencies_are_those_of_transformers(old: str, new: str, beside: str) -> None:
    config = {**PLAIN, **BESIDE[beside]}
    for key, name in (("rope_scaling", old), ("rope_parameters", new)):
        if name != "absent":
            form = FORMS[name]
            config[key] = None if form is None else dict(form)
    ours, attention = frequencies(config)
    check_config(config)
    theirs = LlamaRotaryEmbedding(LlamaConfig(**{k: copied(v) for k, v in config.items()}))
    assert np.allclose(ours, theirs.inv_freq.numpy(), rtol=2e-6, atol=0)
    assert attention == pytest.approx(theirs.attention_scaling)


def copied(value: Any) -> Any:
    """Transformers writes into what it is given."""
    return dict(value) if isinstance(value, dict) else value


def frequencies(config: dict[str, Any]) -> tuple[np.ndarray[Any, Any], float]:
    """What llama.cpp computes from the keys and the tensor of a file, in plain numpy.

    Source: `ggml_rope_yarn_corr_dims`, `rope_yarn` and `rope_yarn_ramp` of ggml.
    """
    rope, size = rope_of(config), 32
    plain = float(rope["rope_theta"]) ** -(np.arange(0, size, 2) / size)
    match rope["rope_type"]:
        case "linear":
            return plain / rope["factor"], 1.0
        case "llama3":
            return plain / computed_tensors(config)[FREQS], 1.0
        case "yarn":
            return yarn(rope, plain, size)
    return plain, 1.0


def yarn(
    rope: dict[str, Any], plain: np.ndarray[Any, Any], size: int
) -> tuple[np.ndarray[Any, Any], float]:
    def dimension(rotations: float) -> float:
        length = rope["original_max_position_embeddings"] / (rotations * 2 * np.pi)
        return float(size * np.log(length) / (2 * np.log(rope["rope_theta"])))

    low = max(0.0, np.floor(dimension(32.0)))
    high = min(size - 1.0, np.ceil(dimension(1.0)))
    ramp = 1 - np.clip((np.arange(size // 2) - low) / max(0.001, high - low), 0, 1)
    magnitude = 0.1 * np.log(rope["factor"]) + 1
    if rope.get("attention_factor") is not None:
        magnitude = rope["attention_factor"]
    elif rope.get("mscale"):
        over, under = (rope[name] * 0.1 * np.log(rope["factor"]) + 1 for name in MAGNITUDES)
        magnitude = over / under
    return plain / rope["factor"] * (1 - ramp) + plain * ramp, float(magnitude)


def test_a_theta_that_does_not_count_is_told() -> None:
    yarn = {"rope_type": "yarn", "factor": 8.0, "original_max_position_embeddings": 64}
    both = {**PLAIN, "rope_scaling": yarn, "rope_parameters": FORMS["default"]}
    assert rope_of(both)["rope_theta"] == 10_000.0
    (told,) = check_config(both)
    assert "rope_theta 500000.0" in told
    assert "10000.0" in told
    assert lost_theta({**both, "rope_theta": 500_000.0}) is None


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"rope_scaling": [1]}, r"rope_scaling is \[1\], but should be a table"),
        ({"rope_parameters": {"rope_type": None, "type": "linear"}}, "rope scaling None"),
        ({"rope_theta": None}, "rope_theta is None"),
        ({"rope_theta": 10**399}, "rope_theta is 1000"),
        ({"rope_scaling": {"type": "linear", "factor": 10**399}}, "factor is 1000"),
        ({"rope_scaling": {"type": "yarn", "factor": 0.5}}, "factor is 0.5; llama.cpp's yarn"),
        ({"rope_scaling": {"type": "yarn", "factor": 2, "truncate": None}}, "truncate is None"),
        (
            {
                "rope_scaling": {"type": "yarn", "factor": 2.0},
                "original_max_position_embeddings": None,
            },
            "original_max_position_embeddings is None",
        ),
        (
            {"rope_scaling": {"type": "yarn", "factor": 2.0, "attention_factor": "x"}},
            "attention_factor is 'x'",
        ),
        ({"rope_parameters": {"partial_rotary_factor": 0.5}}, "partial_rotary_factor is not 1"),
        ({"max_position_embeddings": 10**40}, "max_position_embeddings is 1000"),
        ({"vocab_size": 2**32}, r"vocab_size is 4294967296; a GGUF file has room for less"),
    ],
)
def test_what_a_file_cannot_say_is_refused_by_name(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ArtifactError, match=message):
        check_config({**PLAIN, **fields})
