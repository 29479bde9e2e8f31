"""How far a model's predictions moved, such as by quantizing it: divergence, agreement, bits.

KL(P || Q) = sum over the vocabulary of P (log P - log Q), in nats, at each token of a text; P is
the reference. It is zero for equal predictions, and unlike the loss it cannot gain by chance on one
text what it lost on another (Dutta et al. 2024, "Accuracy is not all you need", arXiv 2407.09141).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from hanpaca.evals.bits import bootstrap_interval

_ROWS = 128
"""Tokens whose logits are in memory at the same time."""


@dataclass(frozen=True)
class BlockDivergence:
    """Sums over the tokens of a block."""

    num_tokens: int
    nats: float
    """Of divergence."""
    num_agreeing: int
    """Tokens at which the likeliest next token is the same."""
    loss: float
    """-log2 of what the model gave to the tokens of the text."""


@dataclass(frozen=True)
class Divergence:
    """How far one model is from the reference."""

    model: str
    num_bytes: int
    """Of the weights."""
    kl: float
    """Mean, in nats a token."""
    kl_interval: tuple[float, float] | None
    """Of 95 %, by drawing blocks again; None for a single block."""
    agreement: float
    """Share of tokens with the same likeliest next token."""
    bits_per_character: float
    num_tokens: int


@torch.inference_mode()
def block_divergence(
    reference: tuple[Tensor, Tensor], other: tuple[Tensor, Tensor], targets: Sequence[int]
) -> BlockDivergence:
    """Compare two models on a block.

    Args:
        reference: Hidden states, (tokens, hidden), and the head they are multiplied with.
        other: The same of the other model.
        targets: The token that followed each state.
    """
    total = BlockDivergence(0, 0.0, 0, 0.0)
    labels = torch.tensor(targets)
    for start in range(0, len(targets), _ROWS):
        rows = slice(start, start + _ROWS)
        p_tv, q_tv = (F.log_softmax(s[rows] @ head.T, dim=-1) for s, head in (reference, other))
        nats = (p_tv.exp() * (p_tv - q_tv)).sum(dtype=torch.float64)
        same = (p_tv.argmax(-1) == q_tv.argmax(-1)).sum()
        lost = F.nll_loss(q_tv, labels[rows], reduction="sum") / math.log(2)
        total = BlockDivergence(
            total.num_tokens + len(q_tv),
            total.nats + float(nats),
            total.num_agreeing + int(same),
            total.loss + float(lost),
        )
    return total


def summarise(
    model: str, blocks: Sequence[BlockDivergence], *, num_bytes: int, num_characters: int
) -> Divergence:
    """Put the blocks of a text together."""
    num_tokens = sum(block.num_tokens for block in blocks)
    nats, counts = [block.nats for block in blocks], [block.num_tokens for block in blocks]
    return Divergence(
        model=model,
        num_bytes=num_bytes,
        kl=math.fsum(nats) / num_tokens,
        kl_interval=bootstrap_interval(nats, counts, seed=0) if len(blocks) > 1 else None,
        agreement=sum(block.num_agreeing for block in blocks) / num_tokens,
        bits_per_character=math.fsum(block.loss for block in blocks) / num_characters,
        num_tokens=num_tokens,
    )
