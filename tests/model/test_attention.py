from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from hanpaca.errors import ResourceError
from hanpaca.model import loss as loss_module
from hanpaca.model.attention import (
    GROUPED,
    grouped_attention,
    use_attention,
    use_grouped_attention,
)
from hanpaca.model.load import load_model
from hanpaca.model.loss import NextTokenLoss


@pytest.mark.parametrize(("heads", "groups"), [(6, 2), (4, 4), (4, 1)])
def test_output_and_gradients_are_those_of_the_fused_kernel(heads: int, groups: int) -> None:
    torch.manual_seed(0)
    query = torch.randn(2, heads, 7, 8, requires_grad=True)
    key, value = (torch.randn(2, groups, 7, 8, requires_grad=True) for _ in range(2))
    mask = torch.full((2, 1, 7, 7), float("-inf")).triu(1)
    mask[1, :, 4:, :4] = float("-inf")  # two packed sequences
    weight = torch.randn(2, 7, heads, 8)
    mixed, none = grouped_attention(nn.Module(), query, key, value, mask, scaling=0.3)
    found = torch.autograd.grad((mixed * weight).sum(), (query, key, value))
    expected_mixed = F.scaled_dot_product_attention(
        query, key, value, attn_mask=mask, scale=0.3, enable_gqa=True
    ).transpose(1, 2)
    expected = torch.autograd.grad((expected_mixed * weight).sum(), (query, key, value))
    assert none is None
    torch.testing.assert_close(mixed, expected_mixed)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other)


def test_packed_sequences_are_scored_as_if_alone(pico_base: Path) -> None:
    model = load_model(pico_base, dtype=torch.float32)
    use_grouped_attention(model)
    assert model.config._attn_implementation == GROUPED
    first, second = [1, 5, 9, 380], [1, 7, 300, 20, 6]
    ids = torch.tensor([[*first, *second]])
    positions = torch.tensor([[*range(len(first)), *range(len(second))]])
    with torch.inference_mode():
        packed = model(input_ids=ids, position_ids=positions, use_cache=False).logits[0]
        alone = [model(input_ids=torch.tensor([one])).logits[0] for one in (first, second)]
    torch.testing.assert_close(packed, torch.cat(alone), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["auto", "grouped", "eager", "sdpa"])
def test_every_choice_of_attention_gives_the_same_loss(name: str, pico_base: Path) -> None:
    losses = []
    for choice in (name, "eager"):
        model = load_model(pico_base, dtype=torch.float32)
        use_attention(model, choice)
        ids = torch.tensor([[1, 5, 9, 380, 1, 7, 300], [1, 7, 300, 20, 6, 1, 2]])
        positions = torch.tensor([[0, 1, 2, 3, 0, 1, 2], [0, 1, 2, 3, 4, 0, 1]])
        loss = NextTokenLoss(model)
        losses.append(loss(input_ids=ids, labels=ids, position_ids=positions)["loss"])
    torch.testing.assert_close(losses[0], losses[1], rtol=1e-5, atol=1e-5)


def test_blocks_in_one_row_give_the_same_loss(
    pico_base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As flash attention has to be given them."""
    model = load_model(pico_base, dtype=torch.float32)
    ids = torch.tensor([[1, 5, 9, 380], [1, 7, 300, 20]])
    positions = torch.tensor([[0, 1, 2, 3], [0, 1, 0, 1]])
    losses, shapes = [], []
    inner = model.model.forward

    def forward(**given: Any) -> Any:
        shapes.append(tuple(given["input_ids"].shape))
        return inner(**given)

    model.model.forward = forward
    for flat in (False, True):
        monkeypatch.setattr(loss_module, "flattened", lambda model, flat=flat: flat)
        given = {"input_ids": ids, "labels": ids, "position_ids": positions}
        losses.append(NextTokenLoss(model)(**given)["loss"])
    assert shapes == [(2, 4), (1, 8)]
    torch.testing.assert_close(losses[1], losses[0], rtol=1e-5, atol=1e-5)


def test_attention_that_is_not_installed_is_said(pico_base: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    model = load_model(pico_base, dtype=torch.float32)
    with pytest.raises(ResourceError, match="attention flash cannot be used here: "):
        use_attention(model, "flash")


def test_flex_attention_without_a_gpu_is_refused(pico_base: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    with pytest.raises(ResourceError, match="attention flex trains on GPUs only"):
        use_attention(load_model(pico_base), "flex")
