import math

import pytest
import torch

from hanpaca.errors import DataError
from hanpaca.evals.divergence import BlockDivergence, block_divergence, summarise
from hanpaca.report.compare_page import divergence_chart

HEAD = torch.eye(3)


def logits(*rows: list[float]) -> torch.Tensor:
    return torch.tensor(rows).log()


def test_divergence_agreement_and_loss_are_those_of_the_definition() -> None:
    p = logits([0.5, 0.25, 0.25], [0.8, 0.1, 0.1])
    q = logits([0.25, 0.5, 0.25], [0.7, 0.2, 0.1])
    found = block_divergence((p, HEAD), (q, HEAD), [0, 2])
    first = 0.5 * math.log(2) + 0.25 * math.log(0.5)
    second = 0.8 * math.log(0.8 / 0.7) + 0.1 * math.log(0.1 / 0.2)
    assert found.nats == pytest.approx(first + second, abs=1e-6)
    assert (found.num_tokens, found.num_agreeing) == (2, 1)
    assert found.loss == pytest.approx(2 - math.log2(0.1), abs=1e-5)


def test_long_blocks_are_the_sum_of_short_ones() -> None:
    torch.manual_seed(0)
    p, q, head = torch.randn(300, 8), torch.randn(300, 8), torch.randn(50, 8)
    targets = torch.randint(50, (300,)).tolist()
    whole = block_divergence((p, head), (q, head), targets)
    parts = [
        block_divergence((p[i : i + 1], head), (q[i : i + 1], head), targets[i : i + 1])
        for i in range(300)
    ]
    assert whole.nats == pytest.approx(sum(part.nats for part in parts), rel=1e-5)
    assert whole.loss == pytest.approx(sum(part.loss for part in parts), rel=1e-5)
    assert whole.num_agreeing == sum(part.num_agreeing for part in parts)


def test_blocks_are_weighed_by_their_tokens() -> None:
    blocks = [BlockDivergence(100, 10.0, 90, 300.0), BlockDivergence(50, 20.0, 30, 150.0)]
    found = summarise("m", blocks, num_bytes=7, num_characters=450)
    assert found.kl == pytest.approx(0.2)
    assert found.kl_interval is not None
    assert 0.1 <= found.kl_interval[0] <= 0.2 <= found.kl_interval[1] <= 0.4
    assert (found.agreement, found.bits_per_character) == (0.8, 1.0)
    assert summarise("m", blocks[:1], num_bytes=7, num_characters=9).kl_interval is None


def test_the_chart_shows_every_file_but_the_reference() -> None:
    reference = summarise("f16", [BlockDivergence(9, 0.0, 9, 1)], num_bytes=10, num_characters=9)
    small = summarise("q<2", [BlockDivergence(9, 0.9, 9, 1)], num_bytes=5, num_characters=9)
    chart = divergence_chart([reference, small])
    assert chart.count("q&lt;2") == 1  # named once, in the legend
    assert "f16" not in chart
    with pytest.raises(DataError, match="nothing to draw"):
        divergence_chart([reference])
