"""How surprised a model is by a text."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F

from hanpaca.model.load import CausalLM

_MOST_WINDOW_TOKENS = 4_096
"""Attention may hold tokens squared."""


@torch.inference_mode()
def negative_log_likelihoods(
    model: CausalLM, sequences: Sequence[Sequence[int]], *, batch_tokens: int = 1024
) -> list[float]:
    """Sum of -log p(token | tokens before) over each sequence, in nats.

    The first token of a sequence (its start token) is context only and is not scored.

    Args:
        model: In evaluation mode; scored in the dtype it is in, log-probabilities in float32.
        sequences: Token ids; those longer than the model's context, or than 4,096 tokens, are
            scored in windows that each see only what lies inside them.
        batch_tokens: Most tokens, padding included, of one forward pass.

    Returns:
        One number a sequence, in the order given.
    """
    window = min(int(model.config.max_position_embeddings), _MOST_WINDOW_TOKENS)
    pieces = [
        (owner, sequence[start : start + window])
        for owner, sequence in enumerate(sequences)
        for start in range(0, max(len(sequence) - 1, 1), window - 1)
    ]
    pieces.sort(key=lambda piece: len(piece[1]))
    totals = [0.0] * len(sequences)
    for batch in _batches(pieces, batch_tokens):
        for (owner, _), nats in zip(
            batch, _score_batch(model, [ids for _, ids in batch]), strict=True
        ):
            totals[owner] += nats
    return totals


def _batches(
    pieces: Sequence[tuple[int, Sequence[int]]], batch_tokens: int
) -> list[list[tuple[int, Sequence[int]]]]:
    """Cut a list sorted by length where the padded batch would grow too large."""
    batches: list[list[tuple[int, Sequence[int]]]] = [[]]
    for piece in pieces:
        if batches[-1] and (len(batches[-1]) + 1) * len(piece[1]) > batch_tokens:
            batches.append([])
        batches[-1].append(piece)
    return [batch for batch in batches if batch]


def _score_batch(model: CausalLM, sequences: Sequence[Sequence[int]]) -> list[float]:
    longest = max(len(ids) for ids in sequences)
    if longest < 2:
        return [0.0] * len(sequences)
    device = model.device
    ids_bt = torch.zeros(len(sequences), longest, dtype=torch.long)
    labels_bt = torch.full_like(ids_bt, -100)
    for row, ids in enumerate(sequences):
        ids_bt[row, : len(ids)] = torch.tensor(ids)
        labels_bt[row, : len(ids)] = torch.tensor(ids)
    # Right padding needs no mask: causal attention never looks ahead, and padding has no label.
    logits_btv = model(input_ids=ids_bt.to(device), use_cache=False).logits
    nats_bt = F.cross_entropy(
        logits_btv[:, :-1].transpose(1, 2).float(),
        labels_bt[:, 1:].to(device),
        ignore_index=-100,
        reduction="none",
    )
    return [float(nats) for nats in nats_bt.sum(dim=1, dtype=torch.float64)]
