import pytest
import torch
import torch.nn.functional as F
from torch import nn

from hanpaca.model.layers import LoraLinear, SplitEmbedding, SplitHead


@pytest.mark.parametrize("bias", [True, False])
def test_lora_output_and_gradients_are_those_of_plain_autograd(bias: bool) -> None:
    torch.manual_seed(0)
    linear = nn.Linear(6, 5, bias=bias)
    layer = LoraLinear(linear, rank=3, alpha=6.0, dropout=0.0)
    nn.init.normal_(layer.lora_B)
    x = torch.randn(2, 4, 6, requires_grad=True)
    weight = torch.randn(2, 4, 5)
    learned = (x, layer.lora_A, layer.lora_B)
    found_y = layer(x)
    found = torch.autograd.grad((found_y * weight).sum(), learned)
    expected_y = linear(x) + 2.0 * F.linear(F.linear(x, layer.lora_A), layer.lora_B)
    expected = torch.autograd.grad((expected_y * weight).sum(), learned)
    torch.testing.assert_close(found_y, expected_y)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other)


def test_dropout_only_touches_the_update() -> None:
    torch.manual_seed(0)
    linear = nn.Linear(6, 5)
    layer = LoraLinear(linear, rank=3, alpha=6.0, dropout=0.5)
    x = torch.randn(4, 6)
    torch.testing.assert_close(layer(x), linear(x))
    nn.init.normal_(layer.lora_B)
    assert not torch.equal(layer(x), layer(x))
    assert torch.equal(layer.train(False)(x), layer(x))


def test_split_tables_are_the_whole_tables() -> None:
    torch.manual_seed(0)
    table = torch.randn(7, 4)
    rows = nn.Parameter(table[5:].clone())
    ids = torch.tensor([[0, 4, 5, 6]])
    hidden = torch.randn(1, 2, 4)
    embedded = SplitEmbedding(table[:5], rows)(ids)
    assert torch.equal(embedded, F.embedding(ids, table))
    torch.testing.assert_close(SplitHead(table[:5], rows)(hidden), F.linear(hidden, table))
    embedded.sum().backward()
    assert torch.equal(rows.grad, torch.ones(2, 4))  # type: ignore[arg-type]
