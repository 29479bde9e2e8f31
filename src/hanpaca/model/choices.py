"""How likely a model in memory finds each of a few continuations of a prompt."""

from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from functools import partial
from itertools import takewhile
from typing import TypeVar

import torch
from torch import Tensor
from transformers import DynamicCache

from hanpaca.evals.choice.rules import ChoiceRequest, Choices, Scored
from hanpaca.model.load import CausalLM

Value = TypeVar("Value")
_LEAST_SHARED = 32
"""Tokens that prompts must begin with together for it to pay to read them once."""


@dataclass(frozen=True)
class ChoiceRow:
    """A sequence to read: a prompt, and all but the last token of one of its continuations."""

    owner: int
    """Number of the question."""
    ids: tuple[int, ...]
    wanted: tuple[tuple[int, tuple[int, ...]], ...]
    """Continuations that it scores: their numbers and ids."""

    @property
    def num_wanted(self) -> int:
        """Positions, from the end, whose logits are needed."""
        return max(len(ids) for _, ids in self.wanted)


def choices_of(model: CausalLM, *, batch_tokens: int = 2048) -> Choices:
    """Make the scorer of a model; log-probabilities are computed in float32.

    Args:
        model: In evaluation mode, scored in the dtype it is in.
        batch_tokens: Most tokens, padding included, of one forward pass.
    """
    return partial(_score, model, batch_tokens)


def rows_of(asked: Sequence[ChoiceRequest]) -> list[ChoiceRow]:
    """What must be read to answer; continuations of one token need the prompt alone, once."""
    found = []
    for owner, one in enumerate(asked):
        rows: dict[tuple[int, ...], list[tuple[int, tuple[int, ...]]]] = {}
        for number, candidate in enumerate(one.candidates):
            ids = (*one.prompt, *candidate[:-1])
            rows.setdefault(ids, []).append((number, candidate))
        found += [ChoiceRow(owner, ids, tuple(wanted)) for ids, wanted in rows.items()]
    return found


class Answers:
    """Collects what rows say, in whatever order they are read."""

    def __init__(self, asked: Sequence[ChoiceRequest]) -> None:
        self._asked = asked
        self._log_ps: list[dict[int, float]] = [{} for _ in asked]
        self._greedy: list[dict[int, bool]] = [{} for _ in asked]
        self._sums: list[float | None] = [None] * len(asked)

    def take(self, row: ChoiceRow, logits_tv: Tensor) -> None:
        """Take the logits of a row's last `num_wanted` tokens: (tokens, vocabulary)."""
        logits_tv = logits_tv.float()
        log_sum_t = logits_tv.logsumexp(-1)
        for number, ids in row.wanted:
            places = torch.arange(len(logits_tv) - len(ids), len(logits_tv))
            log_p_t = logits_tv[places, torch.tensor(ids)] - log_sum_t[places]
            self._log_ps[row.owner][number] = float(log_p_t.sum(dtype=torch.float64))
            likeliest = logits_tv[places].argmax(-1).tolist()
            self._greedy[row.owner][number] = likeliest == list(ids)
        if self._asked[row.owner].with_sum:
            self._sums[row.owner] = float(log_sum_t[-1])

    def scored(self) -> list[Scored]:
        """All of them, in the order asked."""
        return [
            Scored(_in_order(log_ps), _in_order(greedy), log_sum)
            for log_ps, greedy, log_sum in zip(self._log_ps, self._greedy, self._sums, strict=True)
        ]


def _in_order(numbered: Mapping[int, Value]) -> tuple[Value, ...]:
    return tuple(numbered[number] for number in range(len(numbered)))


@torch.inference_mode()
def _score(model: CausalLM, batch_tokens: int, asked: Sequence[ChoiceRequest]) -> list[Scored]:
    answers = Answers(asked)
    rows = sorted(rows_of(asked), key=lambda row: len(row.ids))
    shared = _num_shared(rows)
    prefix = _read(model, rows[0].ids[:shared]) if shared else None
    for batch in _batches(rows, shared, batch_tokens):
        for row, logits_tv in zip(batch, _logits(model, batch, shared, prefix), strict=True):
            answers.take(row, logits_tv)
    return answers.scored()


def _num_shared(rows: Sequence[ChoiceRow]) -> int:
    """Tokens at the beginning of all rows; 0 where there are too few to pay."""
    if len(rows) < 2:
        return 0
    columns = zip(*(row.ids for row in rows), strict=False)
    common = sum(1 for _ in takewhile(lambda column: len(set(column)) == 1, columns))
    number = min(common, *(len(row.ids) - row.num_wanted for row in rows))
    return number if number >= _LEAST_SHARED else 0


def _read(model: CausalLM, ids: Sequence[int]) -> DynamicCache:
    cache = DynamicCache(config=model.config)
    model.model(input_ids=torch.tensor([ids], device=model.device), past_key_values=cache)
    return cache


def _batches(
    rows: Sequence[ChoiceRow], shared: int, batch_tokens: int
) -> Iterator[list[ChoiceRow]]:
    """Cut rows sorted by length where the padded batch would grow too large."""
    batch: list[ChoiceRow] = []
    for row in rows:
        if batch and (len(batch) + 1) * (len(row.ids) - shared) > batch_tokens:
            yield batch
            batch = []
        batch.append(row)
    if batch:
        yield batch


def _logits(
    model: CausalLM, batch: Sequence[ChoiceRow], shared: int, prefix: DynamicCache | None
) -> Iterator[Tensor]:
    """Of each row's last `num_wanted` tokens: (tokens, vocabulary)."""
    tails = [row.ids[shared:] for row in batch]
    # Right padding needs no mask: causal attention never looks ahead.
    ids_bt = torch.zeros(len(tails), max(map(len, tails)), dtype=torch.long)
    for number, tail in enumerate(tails):
        ids_bt[number, : len(tail)] = torch.tensor(tail)
    states_btd = model.model(
        input_ids=ids_bt.to(model.device),
        past_key_values=_repeated(prefix, len(batch)) if prefix else None,
        use_cache=prefix is not None,
    ).last_hidden_state
    for row, tail, state_td in zip(batch, tails, states_btd, strict=True):
        yield model.lm_head(state_td[len(tail) - row.num_wanted : len(tail)])


def _repeated(prefix: DynamicCache, times: int) -> DynamicCache:
    """A cache of its own for every row of a batch, as reading adds to it."""
    copy = deepcopy(prefix)
    copy.batch_repeat_interleave(times)
    return copy
