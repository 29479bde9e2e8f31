"""A training stops loudly where texts see each other, or where something does not learn."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import eager_mask

from hanpaca.data.conversations import Message
from hanpaca.errors import HanpacaError
from hanpaca.model.attention import grouped_attention
from hanpaca.model.load import CausalLM, load_model
from hanpaca.model.lora import trainable_groups
from hanpaca.model.loss import NextTokenLoss
from hanpaca.settings import SftSettings
from hanpaca.steps.sft import sft
from hanpaca.training import adapter
from hanpaca.training.proof import check_documents_are_separate

IDS = torch.arange(3, 51)


def leaking(module: nn.Module, query: Any, key: Any, value: Any, mask: Any, **more: Any) -> Any:
    """Causal attention that has forgotten which tokens are of one text."""
    size = query.shape[2]
    causal = torch.full((1, 1, size, size), torch.finfo(query.dtype).min).triu(1).to(query.dtype)
    return grouped_attention(module, query, key, value, causal, **more)


AttentionInterface.register("leaking", leaking)
AttentionMaskInterface.register("leaking", eager_mask)


def with_cache(model: CausalLM) -> None:
    """As transformers runs a model by default: positions no longer tell texts apart."""
    inner = model.model.forward

    def forward(**given: Any) -> Any:
        return inner(**{**given, "use_cache": True})

    model.model.forward = forward


def with_mask(model: CausalLM) -> None:
    inner = model.model.forward

    def forward(**given: Any) -> Any:
        return inner(**given, attention_mask=torch.ones_like(given["input_ids"]))

    model.model.forward = forward


def with_leaking(model: CausalLM) -> None:
    model.set_attn_implementation("leaking")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", ["eager", "sdpa", "hanpaca_grouped"])
def test_attention_in_use_keeps_texts_apart(
    name: str, dtype: torch.dtype, pico_untied: Path
) -> None:
    model = load_model(pico_untied, dtype=dtype)
    model.set_attn_implementation(name)
    check_documents_are_separate(NextTokenLoss(model), IDS)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("spoil", [with_cache, with_mask, with_leaking])
def test_a_leak_is_caught(
    spoil: Callable[[CausalLM], None], dtype: torch.dtype, pico_untied: Path
) -> None:
    model = load_model(pico_untied, dtype=dtype)
    spoil(model)
    with pytest.raises(HanpacaError, match="packed into one block see each other: one has a loss"):
        check_documents_are_separate(NextTokenLoss(model), IDS)


def tune(base: Path, output: Path, **more: object) -> None:
    talk = (Message("user", "写一首诗。"), Message("assistant", "白日依山尽，黄河入海流。"))
    given = {
        "num_tokens": 512,
        "block_tokens": 64,
        "dtype": "float32",
        "template": "chatml",
        "lora": {"rank": 4},
        **more,
    }
    sft(base, [talk] * 9, output, SftSettings.model_validate(given))


@pytest.mark.slow
def test_nothing_is_trained_with_a_leak(
    pico_untied: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(adapter, "use_attention", lambda model, name: with_leaking(model))
    with pytest.raises(HanpacaError, match="nothing was trained"):
        tune(pico_untied, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert not (tmp_path / "out.partial/metrics.jsonl").exists()


@pytest.mark.slow
def test_what_does_not_learn_is_named(
    pico_untied: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = trainable_groups

    def all_but_one(model: CausalLM) -> Any:
        factors, rows = found(model)
        return [one for one in factors if one is not model.model.layers[1].mlp.up_proj.lora_B], rows

    monkeypatch.setattr(adapter, "trainable_groups", all_but_one)
    with pytest.raises(HanpacaError, match=r"step 3 .*layers\.1\.mlp\.up_proj\.lora_B are as they"):
        tune(pico_untied, tmp_path / "out")


@pytest.mark.slow
def test_a_rate_too_small_to_learn_with_is_told(pico_untied: Path, tmp_path: Path) -> None:
    with pytest.raises(HanpacaError, match=r"and \d+ more are as they were before: raise learning"):
        tune(pico_untied, tmp_path / "out", learning_rate=1e-30)
