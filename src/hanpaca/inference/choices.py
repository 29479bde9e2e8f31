"""How likely llama.cpp finds each of a few continuations of a prompt.

The prompt is given as ids, so that tokenizers cannot disagree. llama.cpp writes one token and tells
the likeliest ones; which it writes is forced by a bias, which does not change what is told.
"""

import math
from collections.abc import Mapping
from typing import Any

from hanpaca.errors import ArtifactError
from hanpaca.evals.choice.rules import ChoiceRequest, Choices, Scored
from hanpaca.inference.engine import ChatModel

_LISTED = 256
"""Tokens told of each position; letters are among them where a model knows what is asked."""
_FORCING = 1000.0
_BIAS, _PENALTY = 100.0, 1.5
_ALL = 1 << 20
"""More than any vocabulary has: whole lists take a second each."""


def choices_of_gguf(model: ChatModel, *, special: int) -> Choices:
    """Make the scorer of a loaded GGUF file.

    Prompts that begin alike should be asked after each other: what they share is read once.
    llama.cpp keeps keys and values in 16 bits: log-probabilities differ in the third digit from
    those of exact arithmetic, and by what was read at once.

    Args:
        model: The file, with room for prompts and continuations.
        special: A token that shows as no text, such as the start token. Of a token that begins a
            character llama.cpp tells nothing when it writes it.
    """
    return lambda asked: [_Reading(model, special, one).scored() for one in asked]


class _Reading:
    """One question put to llama.cpp; each list of likeliest tokens is asked for once."""

    def __init__(self, model: ChatModel, special: int, asked: ChoiceRequest) -> None:
        self._model = model
        self._special = special
        self._asked = asked
        self._lists: dict[tuple[int, ...], dict[int, float]] = {}
        self._whole: set[int] = set()
        """Tokens met that are text by themselves."""

    def scored(self) -> Scored:
        prompt = self._asked.prompt
        log_ps = tuple(
            math.fsum(
                self._log_p((*prompt, *candidate[:at]), token) for at, token in enumerate(candidate)
            )
            for candidate in self._asked.candidates
        )
        # Lists are told with the likeliest first.
        greedy = tuple(
            all(
                next(iter(self._lists[(*prompt, *candidate[:at])])) == token
                for at, token in enumerate(candidate)
            )
            for candidate in self._asked.candidates
        )
        return Scored(log_ps, greedy, self._log_sum() if self._asked.with_sum else None)

    def _log_p(self, ids: tuple[int, ...], token: int) -> float:
        """Of one token after ids."""
        if ids not in self._lists:
            self._lists[ids] = self._list(ids, _LISTED)
        listed = self._lists[ids]
        if token not in listed:
            told = self._told(ids, n_probs=1, logit_bias=[[token, _FORCING]])
            if told and told["id"] == token:
                listed[token] = float(told["logprob"])
            else:
                listed.update(self._list(ids, _ALL))
        return listed[token]

    def _list(self, ids: tuple[int, ...], number: int) -> dict[int, float]:
        told = self._told(ids, n_probs=number, logit_bias=[[self._special, _FORCING]])
        if not told:
            raise ArtifactError(f"{self._model.gguf}: token {self._special} shows as text")
        top = told["top_logprobs"]
        self._whole |= {one["id"] for one in top if _is_text(bytes(one["bytes"]))}
        return {int(one["id"]): float(one["logprob"]) for one in top}

    def _log_sum(self) -> float:
        """The logarithm of the sum of exp(logit), which llama.cpp does not tell.

        A logit l is raised by a bias and, as its token stands in the prompt, divided by a penalty;
        one whose token does not is only raised. How far apart these two are then, and before,
        leaves nothing unknown but l.
        """
        ids = self._asked.prompt
        seen = ids[-1]
        log_p = self._log_p(ids, seen)
        listed = (token for token in self._lists[ids] if token in self._whole)
        free = next((token for token in listed if token not in ids), self._special)
        told = self._told(
            ids,
            n_probs=2,
            logit_bias=[[seen, _BIAS], [free, _BIAS]],
            samplers=["penalties"],
            repeat_penalty=_PENALTY,
            repeat_last_n=self._model.context_tokens,
            temperature=1,
            post_sampling_probs=True,
        )
        found = {one["id"]: one["prob"] for one in told["top_probs"]} if told else {}
        if {seen, free} - found.keys():
            raise ArtifactError(f"{self._model.gguf}: llama.cpp does not tell what was forced")
        apart = math.log(found[seen] / found[free])
        before = log_p - self._log_p(ids, free)
        logit = (apart - before) / (1 / _PENALTY - 1) - _BIAS
        return logit - log_p

    def _told(self, ids: tuple[int, ...], **more: Any) -> Mapping[str, Any] | None:
        return self._model.next_token({"prompt": list(ids), **more})


def _is_text(data: bytes) -> bool:
    try:
        return bool(data.decode())
    except UnicodeDecodeError:
        return False
