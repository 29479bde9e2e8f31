"""llama.cpp computes from our GGUF what transformers computes, for every option that it has."""

import json
import shutil
from collections.abc import Mapping
from contextlib import closing
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest
import torch
import xllamacpp
from transformers import (
    AutoModelForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
)

from hanpaca.checkpoints.gguf_model import open_gguf
from hanpaca.steps.write_gguf import folder_to_gguf, gguf_to_folder

SIZES: dict[str, Any] = {
    "vocab_size": 397,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "initializer_range": 0.2,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
THETA = {"rope_theta": 500.0}
LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 128}
OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "tied": {"tie_word_embeddings": True},
    "all heads have keys": {"num_key_value_heads": 4},
    "wide heads": {"head_dim": 32},
    "theta": {"rope_parameters": {"rope_type": "default", **THETA}},
    "linear": {"rope_parameters": {"rope_type": "linear", "factor": 4.0, **THETA}},
    "llama3": {"rope_parameters": {**LLAMA3, **THETA}},
    "yarn": {"rope_parameters": {**YARN, **THETA}},
    "yarn, attention": {"rope_parameters": {**YARN, **THETA, "attention_factor": 1.7}},
    "biases": {"attention_bias": True, "mlp_bias": True},
    "mistral": {"model_type": "mistral", "sliding_window": None},
}
MODELS: dict[Any, Any] = {LlamaConfig: LlamaForCausalLM, MistralConfig: MistralForCausalLM}
IDS = [(7 * n * n + 3 * n) % 390 + 3 for n in range(200)]


def make_model(folder: Path, options: Mapping[str, Any], tokenizer: Path) -> Path:
    options = dict(options)
    kind = MistralConfig if options.pop("model_type", "llama") == "mistral" else LlamaConfig
    torch.manual_seed(0)
    model = MODELS[kind](kind(**{**SIZES, **options}))
    for name, weight in model.named_parameters():
        if name.endswith("bias"):
            torch.nn.init.normal_(weight, std=0.5)
    model.save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copyfile(tokenizer / name, folder / name)
    return folder


def by_transformers(folder: Path, length: int = len(IDS)) -> torch.Tensor:
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    with torch.inference_mode():
        logits: torch.Tensor = model(torch.tensor([IDS[:length]])).logits
    return logits[0, -1].log_softmax(-1)


def by_llama_cpp(gguf: Path) -> tuple[int, dict[int, float]]:
    """Length of a prompt, and log-probabilities of the likeliest tokens after it."""
    params = xllamacpp.CommonParams()
    params.model.path = str(gguf)
    params.n_ctx = 512
    params.verbosity = -1
    params.warmup = False
    # Exact: the default keeps keys and values in half precision.
    params.cache_type_k = params.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
    server = xllamacpp.Server(params)
    try:
        with closing(
            HTTPConnection(server.listening_address.removeprefix("http://"))
        ) as connection:
            for length in range(len(IDS), 150, -1):
                request = {"prompt": IDS[:length], "n_predict": 1, "n_probs": 50, "temperature": 0}
                connection.request("POST", "/completion", json.dumps(request))
                with connection.getresponse() as reply:
                    answer = json.loads(reply.read())
                # Half a character is kept back, and its probabilities with it.
                if first := answer.get("completion_probabilities"):
                    return length, {one["id"]: one["logprob"] for one in first[0]["top_logprobs"]}
    finally:
        del server
    pytest.fail("llama.cpp gives no probabilities")


@pytest.mark.slow
@pytest.mark.parametrize("name", OPTIONS)
def test_next_tokens_are_as_likely(name: str, pico_base: Path, tmp_path: Path) -> None:
    folder = make_model(tmp_path / "model", OPTIONS[name], pico_base)
    folder_to_gguf(folder, tmp_path / "m.gguf", file_type="f32", metadata={})
    length, found = by_llama_cpp(tmp_path / "m.gguf")
    expected = by_transformers(folder, length)
    assert len(found) == 50
    assert max(abs(value - float(expected[token])) for token, value in found.items()) < 0.02
    gguf_to_folder(tmp_path / "m.gguf", tmp_path / "back")
    again = by_transformers(tmp_path / "back", length)
    assert float((again - expected).abs().max()) < 0.2  # the folder is written in bfloat16


@pytest.mark.slow
def test_every_option_matters(pico_base: Path, tmp_path: Path) -> None:
    """Or the test above would prove nothing."""
    plain = by_transformers(make_model(tmp_path / "plain", {}, pico_base))
    for name in ("theta", "linear", "llama3", "yarn", "yarn, attention", "biases"):
        other = by_transformers(make_model(tmp_path / name, OPTIONS[name], pico_base))
        assert float((other - plain).abs().max()) > 0.5, name


@pytest.mark.parametrize("name", OPTIONS)
def test_a_configuration_comes_back(name: str, pico_base: Path, tmp_path: Path) -> None:
    folder = make_model(tmp_path / "model", OPTIONS[name], pico_base)
    folder_to_gguf(folder, tmp_path / "m.gguf", file_type="f32", metadata={})
    before = json.loads((folder / "config.json").read_text())
    after = open_gguf(tmp_path / "m.gguf").config
    rope = before.pop("rope_parameters")
    assert rope.items() <= {**after["rope_parameters"]}.items() or name == "yarn, attention"
    for key in (*SIZES, "attention_bias", "mlp_bias", "head_dim", "tie_word_embeddings"):
        if key != "initializer_range" and key in before:
            assert after[key] == before[key], key
