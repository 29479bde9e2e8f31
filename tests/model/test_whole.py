"""Tables and models trained as a whole: peft answers the same, and files keep their bits."""

import shutil
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file

from hanpaca.lora_settings import LoraSettings
from hanpaca.merging import merge_adapters
from hanpaca.model.load import CausalLM, load_model
from hanpaca.model.lora import (
    ADAPTER_WEIGHTS,
    load_adapter_state,
    save_adapter,
    trainable_groups,
    trained_weights,
    whole_state,
)
from hanpaca.model.loss import NextTokenLoss
from hanpaca.model.whole import write_model
from hanpaca.settings import PretrainSettings
from hanpaca.training.adapter import trainable_model
from tests.support.peft_adapters import check_merged_as_peft, load

IDS = torch.tensor([[1, 5, 9, 380, 381, 7]])
REFERENCE = ("lora", "embedding", "head")
WAYS = [REFERENCE, ("embedding",), ("embedding", "head"), ("lora", "head")]
WEIGHTS = "model.safetensors"
ROWS = {"embedding": "embed_tokens", "head": "lm_head"}


def prepared(
    base: Path, *train: str, dtype: torch.dtype = torch.float32, new_rows: int = 0
) -> CausalLM:
    lora = {"lora": {"rank": 4, "alpha": 10}} if "lora" in train else {}
    given = {"num_tokens": 512, "train": train, "attention": "sdpa", **lora}
    settings = PretrainSettings.model_validate(given)
    return trainable_model(base, settings, num_new_rows=new_rows, seed=3, dtype=dtype)


def disturb(model: CausalLM) -> None:
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data += 0.1 * torch.randn_like(parameter)


@pytest.fixture(params=["pico_base", "pico_untied"])
def base(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """In float32, of random weights that no shorter type holds; tied, or with a head of its own."""
    source, folder = request.getfixturevalue(request.param), tmp_path / "base"
    model = load(source, torch.float32)
    torch.manual_seed(1)
    for parameter in model.parameters():
        parameter.data += 0.01 * torch.randn_like(parameter)
    model.save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copyfile(source / name, folder / name)
    return folder


@pytest.mark.parametrize("train", WAYS)
def test_peft_loads_trained_tables_and_merging_and_gguf_have_its_bits(
    train: tuple[str, ...], base: Path, tmp_path: Path
) -> None:
    model, adapter = prepared(base, *train), tmp_path / "adapter"
    disturb(model)
    save_adapter(model, adapter, metadata={})
    names = check_merged_as_peft(model, IDS, base, adapter, tmp_path)
    assert ("lm_head.weight" in names) == ("lm_head.weight" in load_file(base / WEIGHTS))


@pytest.mark.parametrize("train", WAYS)
def test_losses_and_gradients_of_tables_are_those_of_peft(
    train: tuple[str, ...], pico_untied: Path
) -> None:
    model = prepared(pico_untied, *train)
    words = [ROWS[word] for word in train if word in ROWS]
    targets: list[str] = list(LoraSettings().targets) if "lora" in train else []
    config = LoraConfig(
        r=4,
        lora_alpha=10,
        target_modules=targets or "dummy-target-modules",
        modules_to_save=words,
    )
    oracle = get_peft_model(load_model(pico_untied, dtype=torch.float32), config)
    state = {name: one for name, one in oracle.named_parameters() if one.requires_grad}
    pairs = []
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            module, _, last = name.replace(".parametrizations.weight.original", "").rpartition(".")
            saved = name.split(".parametrizations")[0] + ".modules_to_save.default.weight"
            factor = f"{module}.{last}.default.weight"
            found = state[f"base_model.model.{saved if 'parametrizations' in name else factor}"]
            found.data.copy_(parameter.data)
            pairs.append((parameter, found))
    assert len(pairs) == len(state)
    loss = NextTokenLoss(model.train())(IDS, IDS)["loss"]
    wanted = oracle.train()(input_ids=IDS, labels=IDS).loss
    assert loss.item() == pytest.approx(wanted.item(), abs=1e-5)
    loss.backward()
    wanted.backward()
    for own, parameter in pairs:
        torch.testing.assert_close(own.grad, parameter.grad, rtol=1e-4, atol=1e-6)


def test_losses_and_gradients_of_a_whole_model_are_those_of_transformers(base: Path) -> None:
    model, oracle = prepared(base, "all"), load(base, torch.float32).train()
    loss = NextTokenLoss(model.train())(IDS, IDS)["loss"]
    wanted = oracle(input_ids=IDS, labels=IDS).loss
    assert loss.item() == pytest.approx(wanted.item(), abs=1e-5)
    loss.backward()
    wanted.backward()
    state = dict(oracle.named_parameters())
    found = {
        name.replace(".parametrizations.weight.original", ".weight"): one
        for name, one in model.named_parameters()
    }
    assert found.keys() == state.keys()
    for name, one in found.items():
        torch.testing.assert_close(one.grad, state[name].grad, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("train", [("all",), REFERENCE])
def test_computed_in_halves_it_says_what_the_base_says_and_keeps_every_bit(
    train: tuple[str, ...], base: Path, tmp_path: Path
) -> None:
    model = prepared(base, *train, dtype=torch.bfloat16)
    with torch.inference_mode():
        wanted = load_model(base, dtype=torch.bfloat16)(IDS).logits
        assert torch.equal(model(IDS).logits, wanted)
        nats = float(NextTokenLoss(model)(IDS, IDS)["loss"])
        assert nats == pytest.approx(
            float(NextTokenLoss(load_model(base))(IDS, IDS)["loss"]), abs=1e-6
        )
    if train == ("all",):
        write_model(whole_state(model), base, tmp_path / "out")
    else:
        save_adapter(model, tmp_path / "adapter", metadata={})
        merge_adapters(base, [tmp_path / "adapter"], tmp_path / "out")
    found, stored = (load_file(one / WEIGHTS) for one in (tmp_path / "out", base))
    assert found.keys() == stored.keys()
    for name, tensor in stored.items():
        assert found[name].dtype == tensor.dtype
        assert torch.equal(found[name], tensor), name


def test_a_whole_model_is_written_in_the_types_of_its_base(pico_base: Path, tmp_path: Path) -> None:
    model = prepared(pico_base, "all")
    disturb(model)
    write_model(whole_state(model), pico_base, tmp_path / "out")
    found, stored = (load_file(one / WEIGHTS) for one in (tmp_path / "out", pico_base))
    assert {name: one.dtype for name, one in found.items()} == {
        name: one.dtype for name, one in stored.items()
    }
    again = load_model(tmp_path / "out", dtype=torch.float32)
    with torch.inference_mode():
        torch.testing.assert_close(again(IDS).logits, model(IDS).logits, rtol=0.1, atol=0.1)


def test_saving_and_loading_restore_a_whole_model(pico_base: Path, tmp_path: Path) -> None:
    model, other = prepared(pico_base, "all"), prepared(pico_base, "all")
    disturb(model)
    save_adapter(model, tmp_path, metadata={})
    load_adapter_state(other, tmp_path / ADAPTER_WEIGHTS)
    with torch.inference_mode():
        assert torch.equal(model(IDS).logits, other(IDS).logits)


def test_what_is_trained_is_counted_by_kind(pico_untied: Path) -> None:
    factors, rows = trainable_groups(prepared(pico_untied, *REFERENCE))
    assert sum(map(len, rows)) == 2 * load_model(pico_untied).config.vocab_size
    assert len(factors) == 2 * 14
    numbers, share = trained_weights(prepared(pico_untied, "all"))
    assert list(numbers) == ["the embedding", "the layers", "the head"]
    assert share == 1
    numbers, share = trained_weights(prepared(pico_untied, "embedding"))
    sizes = [one.numel() for one in load_model(pico_untied).parameters()]
    assert share == pytest.approx(numbers["the embedding"] / sum(sizes))
