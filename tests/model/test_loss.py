from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from hanpaca.lora_settings import LoraSettings
from hanpaca.model import loss as loss_module
from hanpaca.model.load import load_model
from hanpaca.model.lora import add_lora, add_new_rows, trainable_groups
from hanpaca.model.loss import NO_LABEL, NextTokenLoss


@pytest.mark.parametrize("chunk_tokens", [3, 7, 1000])
@pytest.mark.parametrize("with_rows", [True, False])
def test_loss_and_gradients_are_those_of_cross_entropy(
    pico_untied: Path, monkeypatch: pytest.MonkeyPatch, chunk_tokens: int, with_rows: bool
) -> None:
    monkeypatch.setattr(loss_module, "CHUNK_TOKENS", chunk_tokens)
    model = load_model(pico_untied, dtype=torch.float32)
    torch.manual_seed(0)
    add_lora(model, LoraSettings(rank=2, alpha=4, targets=("q_proj", "up_proj")))
    if with_rows:
        add_new_rows(model, 5)
    factors, rows = trainable_groups(model)
    for factor in factors:
        torch.nn.init.normal_(factor, std=0.1)
    size = model.config.vocab_size
    ids = torch.randint(3, size, (2, 9))
    ids[0, 4] = ids[1, 2] = size - 1
    labels = ids.clone()
    labels[0, :3] = labels[1, -2:] = NO_LABEL
    NextTokenLoss(model)(input_ids=ids, labels=labels)["loss"].backward()
    found = [parameter.grad.clone() for parameter in (*factors, *rows)]  # type: ignore[union-attr]
    model.zero_grad()
    logits = model(input_ids=ids, use_cache=False).logits
    expected = F.cross_entropy(
        logits[:, :-1].reshape(-1, size), labels[:, 1:].reshape(-1), ignore_index=NO_LABEL
    )
    expected.backward()  # type: ignore[no-untyped-call]
    mine = NextTokenLoss(model)(input_ids=ids, labels=labels)["loss"]
    torch.testing.assert_close(mine, expected)
    for gradient, parameter in zip(found, (*factors, *rows), strict=True):
        torch.testing.assert_close(gradient, parameter.grad)


def test_large_scores_do_not_overflow(pico_untied: Path) -> None:
    model = load_model(pico_untied, dtype=torch.float32)
    with torch.no_grad():
        model.lm_head.weight.mul_(1e4)
    ids = torch.tensor([[3, 4, 5, 6]])
    found = NextTokenLoss(model)(input_ids=ids, labels=ids)["loss"]
    torch.testing.assert_close(found, model(input_ids=ids, labels=ids).loss, rtol=1e-4, atol=1e-4)


def test_a_batch_without_labels_has_no_loss_and_no_gradient(pico_untied: Path) -> None:
    model = load_model(pico_untied, dtype=torch.float32)
    add_lora(model, LoraSettings(rank=2, alpha=4, targets=("q_proj",)))
    ids = torch.tensor([[3, 4, 5, 6]])
    found = NextTokenLoss(model)(input_ids=ids, labels=torch.full_like(ids, NO_LABEL))["loss"]
    found.backward()
    assert found.item() == 0.0
    assert all(not p.grad.any() for p in trainable_groups(model)[0] if p.grad is not None)


def test_parts_of_a_step_add_up_to_its_mean(pico_untied: Path) -> None:
    model = load_model(pico_untied, dtype=torch.float32)
    loss = NextTokenLoss(model)
    torch.manual_seed(0)
    ids = torch.randint(3, model.config.vocab_size, (3, 9))
    labels = ids.clone()
    labels[0, 2:] = labels[1, :4] = NO_LABEL
    whole = loss(input_ids=ids, labels=labels)["loss"]
    number = (labels[:, 1:] != NO_LABEL).sum()
    parts = [
        loss(input_ids=ids[[n]], labels=labels[[n]], num_items_in_batch=number)["loss"]
        for n in range(3)
    ]
    torch.testing.assert_close(sum(parts), whole)
    assert abs(float(parts[0]) - float(whole) / 3) > 0.1


@pytest.mark.parametrize("base", ["pico_base", "pico_untied"])
def test_a_shared_table_stays_one_where_the_model_is_moved(
    base: str, request: pytest.FixtureRequest
) -> None:
    """Another type makes new tensors, as another device does."""
    model = load_model(request.getfixturevalue(base), dtype=torch.float32)
    add_new_rows(model, 20)
    NextTokenLoss(model).to(torch.float64)
    tables = [module.get_buffer("weight") for module in (model.model.embed_tokens, model.lm_head)]
    assert {one.dtype for one in tables} == {torch.float64}
    assert (tables[0] is tables[1]) == (base == "pico_base")
