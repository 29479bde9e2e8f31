"""Every kind of adapter that can be trained: peft answers the same, and merging has peft's bits."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from peft.optimizers import create_loraplus_optimizer
from torch import nn
from transformers.integrations.neftune import neftune_post_forward_hook

from hanpaca.errors import RecipeError
from hanpaca.lora_settings import LoraSettings
from hanpaca.model.layers import add_noise
from hanpaca.model.load import CausalLM, load_model
from hanpaca.model.lora import add_lora, add_new_rows, parted_factors, save_adapter
from hanpaca.runs.recipe import load_section
from hanpaca.settings import PretrainSettings
from tests.support.peft_adapters import check_merged_as_peft, load

IDS = torch.tensor([[1, 5, 9, 380, 381, 7]])
KINDS: dict[str, dict[str, Any]] = {
    "rslora": {"rslora": True},
    "patterns": {
        "rank_pattern": {"layers.1.*q_proj": 6, "down_proj": 2, "q_proj": 3},
        "alpha_pattern": {"v_proj": 5.5},
    },
    "rslora with patterns": {"rslora": True, "rank_pattern": ["mlp.*=16"]},
    "dora": {"dora": True},
    "dora with rslora and patterns": {"dora": True, "rslora": True, "rank_pattern": ["q_proj=2"]},
    "two layers": {"targets": ["k_proj", "up_proj"]},
}


def settings_of(kind: str) -> LoraSettings:
    return LoraSettings.model_validate({"rank": 4, "alpha": 10, **KINDS[kind]})


def trained(base: Path, settings: LoraSettings, *, num_new_rows: int = 6) -> CausalLM:
    """A model with adapters that are not as they start."""
    model = load_model(base, dtype=torch.float32)
    torch.manual_seed(3)
    add_lora(model, settings)
    if num_new_rows:
        add_new_rows(model, num_new_rows)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data += 0.1 * torch.randn_like(parameter)
    return model


@pytest.mark.parametrize("kind", KINDS)
def test_peft_loads_it_and_merging_and_gguf_have_its_bits(
    kind: str, pico_untied: Path, tmp_path: Path
) -> None:
    base, adapter = tmp_path / "base", tmp_path / "adapter"
    load(pico_untied, torch.float32).save_pretrained(base)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (base / name).write_bytes((pico_untied / name).read_bytes())
    model = trained(base, settings_of(kind))
    save_adapter(model, adapter, metadata={})
    check_merged_as_peft(model, IDS, base, adapter, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_gradients_and_starts_are_those_of_peft(
    kind: str, dropout: float, pico_untied: Path
) -> None:
    """With dropout too: the same draws, in the same order."""
    settings = settings_of(kind).model_copy(update={"dropout": dropout})
    model = trained(pico_untied, settings, num_new_rows=0)
    words = (settings.rank_pattern, settings.alpha_pattern)
    ranks, alphas = ({one.split("=")[0]: float(one.split("=")[1]) for one in w} for w in words)
    config = LoraConfig(
        r=4,
        lora_alpha=10,
        use_rslora=settings.rslora,
        use_dora=settings.dora,
        rank_pattern={name: int(rank) for name, rank in ranks.items()},
        alpha_pattern=alphas,
        lora_dropout=dropout,
        target_modules=list(settings.targets),
    )
    oracle = get_peft_model(load_model(pico_untied, dtype=torch.float32), config)
    names = {
        "lora_A.default.weight": "lora_A",
        "lora_B.default.weight": "lora_B",
        "lora_magnitude_vector.default.weight": "lengths",
    }
    pairs = []
    for name, parameter in oracle.named_parameters():
        if parameter.requires_grad:
            layer, _, part = name.removeprefix("base_model.model.").partition(".lora_")
            own = getattr(model.get_submodule(layer), names[f"lora_{part}"])
            assert own.shape == parameter.shape, name
            parameter.data.copy_(own.data)
            pairs.append((own, parameter))
    assert len(pairs) == sum(one.requires_grad for one in model.parameters())
    for one in (model, oracle):
        torch.manual_seed(7)
        one.train()(input_ids=IDS, labels=IDS).loss.backward()
    for own, parameter in pairs:
        torch.testing.assert_close(own.grad, parameter.grad, rtol=1e-4, atol=1e-6)


def test_a_scaled_row_starts_as_long_as_the_weight(pico_base: Path) -> None:
    model = load_model(pico_base)
    with torch.inference_mode():
        before = model(IDS).logits
        add_lora(model, settings_of("dora"))
        torch.testing.assert_close(model(IDS).logits, before, rtol=2**-6, atol=2**-6)


def test_factors_have_the_rates_that_peft_gives_them(pico_untied: Path) -> None:
    model = load_model(pico_untied, dtype=torch.float32)
    add_lora(model, settings_of("dora"))
    slow, fast = parted_factors(model)
    config = LoraConfig(r=4, use_dora=True, target_modules=list(LoraSettings().targets))
    oracle = create_loraplus_optimizer(
        get_peft_model(load_model(pico_untied, dtype=torch.float32), config),
        torch.optim.AdamW,
        lr=1e-3,
        loraplus_lr_ratio=16,
    )
    number = {group["lr"]: 0 for group in oracle.param_groups}
    for group in oracle.param_groups:
        number[group["lr"]] += len(group["params"])
    assert [number[1e-3], number[1e-3 * 16]] == [len(slow), len(fast)]
    assert sum(number.values()) == len(slow) + len(fast)


def test_the_noise_is_that_of_transformers() -> None:
    embedding = nn.Embedding(9, 4)
    oracle = nn.Embedding(9, 4)
    oracle.load_state_dict(embedding.state_dict())
    oracle.neftune_noise_alpha = 5.0  # type: ignore[assignment]
    oracle.register_forward_hook(neftune_post_forward_hook)
    add_noise(embedding, 5.0)
    ids = torch.tensor([[1, 2, 3], [3, 4, 8]])
    found = []
    for one in (embedding, oracle):
        torch.manual_seed(1)
        found.append(one(ids))
    torch.testing.assert_close(*found, rtol=1e-6, atol=1e-6)
    assert not torch.equal(found[0], embedding.weight[ids])
    assert torch.equal(embedding.train(False)(ids), embedding.weight[ids])


@pytest.mark.parametrize(
    "word", ["q_proj", "=3", "q_proj=", "q_proj=-1", "q_proj=2.5", "q_(=2", "q_proj=x"]
)
def test_a_pattern_that_is_none_is_named(word: str) -> None:
    with pytest.raises(RecipeError, match=r"rank_pattern: .*write it as NAME=RANK"):
        load_section(PretrainSettings, {"num_tokens": 1000, "lora": {"rank_pattern": [word]}})


@pytest.mark.parametrize("key", ["rank_pattern", "alpha_pattern"])
def test_a_pattern_that_fits_no_layer_is_named(key: str, pico_base: Path) -> None:
    settings = LoraSettings.model_validate({key: ["q_proj=3", "qproj=3"]})
    with pytest.raises(RecipeError, match="pattern 'qproj=3' fits none of the layers"):
        add_lora(load_model(pico_base, dtype=torch.float32), settings)


def test_keys_that_came_later_are_kept_only_where_they_say_something() -> None:
    plain = PretrainSettings(num_tokens=1000).model_dump(mode="json")
    assert not {"neftune_alpha"} & plain.keys()
    assert set(plain["lora"]) == {"rank", "alpha", "dropout", "targets"}
    lora = LoraSettings(rslora=True, rank_pattern=("q_proj=2",))
    tree = PretrainSettings(num_tokens=1000, neftune_alpha=5, lora=lora).model_dump(mode="json")
    assert tree["neftune_alpha"] == 5
    assert json.dumps(tree["lora"]["rank_pattern"]) == '["q_proj=2"]'
    assert tree["lora"]["rslora"] is True
    assert "dora" not in tree["lora"]
