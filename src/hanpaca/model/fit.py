"""Fit the rows of new pieces to a frozen model, before anything else of it moves.

The base reads a new piece's text as several tokens. What it makes of them is the teacher:

- input rows: after the one new token, the last hidden state should be what it is after the spelled
  tokens (as token distillation does, Dobler et al. 2025, arXiv 2505.20133);
- output rows: from the hidden state before the piece, the new vocabulary should be predicted as the
  text goes on.

Old rows and all other weights stay as they are, so the old language is untouched.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hanpaca.model.load import CausalLM
from hanpaca.model.loss import head_loss


@dataclass(frozen=True)
class SpelledText:
    """One text in both vocabularies."""

    base_ids: tuple[int, ...]
    """As the base spells it, after its start token."""
    new_ids: tuple[int, ...]
    """As the extended tokenizer does, after the same start token."""
    ends: tuple[int, ...]
    """For each new token, the place in `base_ids` of the last base token under it."""


def spell_out(
    new_ids: Sequence[int], spellings: Sequence[Sequence[int]], *, first_id: int
) -> SpelledText:
    """Write a text of the extended vocabulary in base tokens.

    Args:
        new_ids: The text, with its start token.
        spellings: Base tokens of each new piece.
        first_id: Id of the first new piece.
    """
    base: list[int] = []
    ends = []
    for token in new_ids:
        base += spellings[token - first_id] if token >= first_id else [token]
        ends.append(len(base) - 1)
    return SpelledText(tuple(base), tuple(new_ids), tuple(ends))


def fit_input_rows(
    model: CausalLM,
    rows_nd: Tensor,
    texts: Sequence[SpelledText],
    *,
    num_steps: int,
    batch_tokens: int = 512,
    learning_rate: float = 1e-2,
) -> Tensor:
    """Move the input rows so that the last hidden states match those after the spelled pieces.

    Minimises the mean squared error with Adam, the rate falling to a twentieth along a cosine.

    Args:
        model: The base, frozen; not changed.
        rows_nd: Where the rows start, (new pieces, hidden).
        texts: Gone round in order.
        num_steps: Optimizer steps.
        batch_tokens: New tokens of a step, about.
        learning_rate: Peak rate.

    Returns:
        The rows, (new pieces, hidden), float32.
    """
    table_vd = model.model.embed_tokens.weight.detach()
    rows = nn.Parameter(rows_nd.float().clone())
    optimizer = torch.optim.Adam([rows], lr=learning_rate, betas=(0.9, 0.99))
    batches = _batches(texts, batch_tokens)
    for step in range(num_steps):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate * (0.05 + 0.95 * _cosine(step, num_steps))
        new_bt, is_token_bt, taught_td = _lesson(model, next(batches))
        rows_of_batch = torch.cat([table_vd, rows.to(table_vd.dtype)])
        hidden_btd = model.model(
            inputs_embeds=F.embedding(new_bt, rows_of_batch), use_cache=False
        ).last_hidden_state
        loss = F.mse_loss(hidden_btd[is_token_bt].float(), taught_td.float())
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return rows.detach()


def fit_output_rows(
    model: CausalLM,
    rows_nd: Tensor,
    texts: Sequence[SpelledText],
    *,
    num_passes: int = 1,
    batch_tokens: int = 512,
    learning_rate: float = 3e-3,
) -> Tensor:
    """Move the output rows so that new pieces are predicted from what the base makes of a text.

    Minimises the cross-entropy of each next token of the extended vocabulary, given the base's own
    hidden state after the spelled text so far. More than two passes overfit.

    Args:
        model: The base, frozen; not changed.
        rows_nd: Where the rows start, (new pieces, hidden).
        texts: Each seen `num_passes` times.
        num_passes: Times every text is seen.
        batch_tokens: New tokens of a step, about.
        learning_rate: Peak rate; falls to a twentieth along a cosine.

    Returns:
        The rows, (new pieces, hidden), float32.
    """
    head_vd = model.lm_head.weight.detach()
    rows = nn.Parameter(rows_nd.float().clone())
    optimizer = torch.optim.Adam([rows], lr=learning_rate, betas=(0.9, 0.99))
    num_tokens = sum(len(text.new_ids) for text in texts)
    num_steps = max(1, num_passes * num_tokens // batch_tokens)
    batches = _batches(texts, batch_tokens)
    for step in range(num_steps):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate * (0.05 + 0.95 * _cosine(step, num_steps))
        new_bt, is_token_bt, hidden_td = _lesson(model, next(batches))
        labels_t, follows_t = _next_tokens(new_bt, is_token_bt)
        loss = head_loss(hidden_td[follows_t], head_vd, rows, labels_t)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return rows.detach()


def _lesson(model: CausalLM, batch: Sequence[SpelledText]) -> tuple[Tensor, Tensor, Tensor]:
    """New ids and which of them are text, (batch, tokens), and the taught states of those."""
    base_bt, _ = _padded([text.base_ids for text in batch])
    new_bt, is_token_bt = _padded([text.new_ids for text in batch])
    with torch.no_grad():
        hidden_btd = model.model(input_ids=base_bt, use_cache=False).last_hidden_state
    taught = [hidden_btd[row, list(text.ends)] for row, text in enumerate(batch)]
    return new_bt, is_token_bt, torch.cat(taught)


def _next_tokens(new_bt: Tensor, is_token_bt: Tensor) -> tuple[Tensor, Tensor]:
    """Labels of all tokens that another follows, and which of the flat tokens those are."""
    follows_bt = torch.zeros_like(is_token_bt)
    follows_bt[:, :-1] = is_token_bt[:, 1:]
    labels_bt = torch.zeros_like(new_bt)
    labels_bt[:, :-1] = new_bt[:, 1:]
    return labels_bt[follows_bt], follows_bt[is_token_bt]


def _padded(sequences: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
    # Right padding needs no mask: causal attention never looks ahead, and padding is not used.
    longest = max(map(len, sequences))
    ids_bt = torch.zeros(len(sequences), longest, dtype=torch.long)
    is_token_bt = torch.zeros(len(sequences), longest, dtype=torch.bool)
    for row, ids in enumerate(sequences):
        ids_bt[row, : len(ids)] = torch.tensor(ids)
        is_token_bt[row, : len(ids)] = True
    return ids_bt, is_token_bt


def _batches(texts: Sequence[SpelledText], batch_tokens: int) -> Iterator[list[SpelledText]]:
    batch: list[SpelledText] = []
    size = 0
    while True:
        for text in texts:
            batch.append(text)
            size += len(text.new_ids)
            if size >= batch_tokens:
                yield batch
                batch, size = [], 0


def _cosine(step: int, num_steps: int) -> float:
    return 0.5 * (1 + math.cos(math.pi * step / num_steps))
