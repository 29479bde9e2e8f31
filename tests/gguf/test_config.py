"""What a configuration may say, and what GGUF has no place for."""

from typing import Any

import numpy as np
import pytest
import torch
from transformers import LlamaConfig
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from hanpaca.checkpoints.gguf_names import gguf_name, hf_name, num_rotary_heads
from hanpaca.checkpoints.rope import FREQS, computed_tensors, read_rope, rope_of
from hanpaca.errors import ArtifactError
from hanpaca.gguf.config import check_config

PLAIN: dict[str, Any] = {
    "model_type": "llama",
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 512,
    "vocab_size": 400,
    "rms_norm_eps": 1e-5,
}
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 128}
LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"model_type": "mixtral"}, "model_type 'mixtral' cannot be written"),
        ({"model_type": None}, "model_type None"),
        ({"num_local_experts": 8}, "num_local_experts is set"),
        ({"quantization_config": {"bits": 4}}, "quantization_config is set"),
        ({"hidden_act": "gelu"}, "hidden_act is 'gelu'"),
        ({"hidden_size": "64"}, "hidden_size is '64'"),
        ({"num_hidden_layers": 0}, "num_hidden_layers is 0"),
        ({"num_hidden_layers": True}, "num_hidden_layers is True"),
        ({"vocab_size": None}, "vocab_size is None"),
        ({"rms_norm_eps": None}, "rms_norm_eps is None"),
        ({"hidden_size": 65}, "no multiple of 4 heads"),
        ({"hidden_size": 60}, "heads must be of even size"),
        ({"num_key_value_heads": 3}, "3 for keys"),
        ({"rope_scaling": {"type": "dynamic", "factor": 2.0}}, "rope scaling 'dynamic'"),
        ({"rope_parameters": {"rope_type": "longrope"}}, "rope scaling 'longrope'"),
        ({"rope_parameters": {"rope_type": "linear"}}, "rope parameter factor is None"),
        ({"rope_parameters": {"rope_theta": -1.0}}, "rope_theta is -1"),
        ({"rope_parameters": {**YARN, "beta_fast": 8}}, "beta_fast is 8; llama.cpp computes"),
        ({"rope_parameters": {**YARN, "truncate": False}}, "truncate is False"),
        ({"rope_parameters": {**LLAMA3, "low_freq_factor": None}}, "low_freq_factor is None"),
        ({"partial_rotary_factor": 0.5}, "partial_rotary_factor is not 1"),
    ],
)
def test_what_has_no_place_is_refused_by_name(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ArtifactError, match=message):
        check_config({**PLAIN, **fields})


def test_a_sliding_window_is_told() -> None:
    assert check_config({**PLAIN, "model_type": "mistral", "sliding_window": None}) == ()
    assert check_config({**PLAIN, "model_type": "mistral", "sliding_window": 512}) == ()
    (told,) = check_config({**PLAIN, "model_type": "mistral", "sliding_window": 64})
    assert "sliding window of 64 tokens" in told


@pytest.mark.parametrize(
    ("fields", "rope"),
    [
        ({}, {"rope_type": "default", "rope_theta": 10_000.0}),
        ({"rope_theta": 500.0}, {"rope_type": "default", "rope_theta": 500.0}),
        (
            {"rope_theta": 500.0, "rope_scaling": {"type": "linear", "factor": 2.0}},
            {"rope_type": "linear", "factor": 2.0, "rope_theta": 500.0},
        ),
        (
            {"rope_parameters": {"rope_type": "linear", "factor": 2.0, "rope_theta": 9.0}},
            {"rope_type": "linear", "factor": 2.0, "rope_theta": 9.0},
        ),
    ],
)
def test_old_and_new_configurations_say_the_same(
    fields: dict[str, Any], rope: dict[str, Any]
) -> None:
    assert rope_of({**PLAIN, **fields}) == rope


@pytest.mark.parametrize("head_dim", [16, 64, 128])
@pytest.mark.parametrize("length", [64, 8192])
def test_llama3_divides_frequencies_as_transformers_does(head_dim: int, length: int) -> None:
    rope = {**LLAMA3, "original_max_position_embeddings": length, "rope_theta": 500_000.0}
    config = {**PLAIN, "head_dim": head_dim, "rope_parameters": rope}
    factors = computed_tensors(config)[FREQS]
    scaled, _ = ROPE_INIT_FUNCTIONS["llama3"](LlamaConfig(**config), torch.device("cpu"))
    steps = np.arange(0, head_dim, 2) / head_dim
    assert np.allclose(500_000.0**-steps / factors, scaled.numpy(), rtol=1e-5)
    fields = {"llama.rope.freq_base": 500_000.0}
    back = read_rope(fields, factors, head_dim)
    assert np.allclose(computed_tensors({**config, "rope_parameters": back})[FREQS], factors)
    if head_dim > 16:
        assert back == rope


def test_other_factors_are_refused() -> None:
    with pytest.raises(ValueError, match="not the rope scaling of Llama 3"):
        read_rope({}, np.array([1.0, 2.0, 5.0, 3.0], np.float32), 8)
    with pytest.raises(ValueError, match="at once"):
        read_rope({"llama.rope.scaling.type": "linear"}, np.ones(4, np.float32), 8)


@pytest.mark.parametrize(
    "fields",
    [
        {"scaling.type": "longrope"},
        {"scaling.type": 5},
        {"scaling.type": "linear"},
        {"scaling.type": "linear", "scaling.factor": 0.0},
        {"scaling.type": "linear", "scaling.factor": "2"},
        {"scaling.type": "linear", "scaling.factor": float("nan")},
        {"scaling.type": "yarn", "scaling.factor": 2.0},
        {"freq_base": True},
    ],
)
def test_damaged_scaling_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="rope"):
        read_rope({f"llama.rope.{key}": value for key, value in fields.items()}, None, 8)


def test_biases_have_names_and_move_with_their_heads() -> None:
    name = "model.layers.3.self_attn.q_proj.bias"
    assert gguf_name(name) == "blk.3.attn_q.bias"
    assert hf_name("blk.3.attn_q.bias") == name
    assert gguf_name("model.layers.3.input_layernorm.bias") is None
    assert hf_name("blk.3.attn_norm.bias") is None
    heads = {"num_heads": 8, "num_kv_heads": 2}
    for part, wanted in (("attn_q", 8), ("attn_k", 2), ("attn_v", 0), ("attn_output", 0)):
        for kind in ("weight", "bias"):
            assert num_rotary_heads(f"blk.0.{part}.{kind}", **heads) == wanted
    assert num_rotary_heads("output.weight", **heads) == 0
