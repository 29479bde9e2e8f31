from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from hanpaca.model.attention import GROUPED, grouped_attention, use_grouped_attention
from hanpaca.model.load import load_model


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
