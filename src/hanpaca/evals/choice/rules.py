"""Which option a model picks: rules by name, of the log-probabilities of a few continuations.

Published numbers follow different rules, and on small models the rules differ by points:

- `letter`: log p of the one token of `A`, `B`, … right after the cue.
- `reference`: as `llama_evaluator.py` of Chinese-LLaMA-Alpaca: the scores that transformers'
  `generate` gives after a repetition penalty of 1.1 and a temperature of 0.2, of `A` encoded alone
  and of `A` after a colon, added up. Every letter stands in the prompt, so every one is penalised.
- `paper`: as its paper says (arXiv 2304.08177, equation 4): the probabilities of both are added.
- `lm-eval`: as lm-evaluation-harness: log p of a space and the letter, of however many tokens.
- `text`: the whole option after the bare question, log p a character; `text-sum`: log p.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from hanpaca.errors import ArtifactError

Rule = Literal["letter", "reference", "paper", "lm-eval", "text", "text-sum"]
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
REPETITION_PENALTY = 1.1
TEMPERATURE = 0.2
Encode = Callable[[str], list[int]]
"""Text to ids, without a start token."""


@dataclass(frozen=True)
class ChoiceRequest:
    """One question, as a model reads it."""

    prompt: tuple[int, ...]
    """Start token included."""
    candidates: tuple[tuple[int, ...], ...]
    """Continuations whose log-probabilities are wanted; none is empty."""
    with_sum: bool = False
    """Whether the logarithm of the sum of exp(logit) is wanted too; then every candidate has one
    token."""


@dataclass(frozen=True)
class Scored:
    """What a model says of one question."""

    log_ps: tuple[float, ...]
    """Of each candidate, in nats."""
    greedy: tuple[bool, ...]
    """Whether each candidate is what a model would write that always takes the likeliest token."""
    log_sum: float | None = None
    """Of exp(logit) over the vocabulary: a logit is log p + this."""


Choices = Callable[[Sequence[ChoiceRequest]], list[Scored]]
"""The one scorer: prompts and candidates to log-probabilities, in the order asked."""


@dataclass(frozen=True)
class Cue:
    """What stands between a question and its answer."""

    colon: str
    """The sign before a letter, as the reference encodes it: `：` or `:`."""
    delimiter: str
    """Between the cue and an answer: nothing in Chinese, a space in English."""


def ask(
    rule: Rule, prompt: str, options: Sequence[str], *, encode: Encode, cue: Cue
) -> ChoiceRequest:
    """Turn a question into ids.

    Args:
        rule: How the answer is picked.
        prompt: The text up to the answer.
        options: Their texts, of which there are as many as letters are asked for.
        encode: Of the model's tokenizer; a start token is the caller's to add.
        cue: Of the prompt's wording.

    Raises:
        ArtifactError: The tokenizer has no token of its own for each letter.
    """
    letters = LETTERS[: len(options)]
    match rule:
        case "letter":
            return ChoiceRequest(
                tuple(encode(prompt)), _one_each(after_colon(encode, letters, cue))
            )
        case "reference" | "paper":
            alone = letters_alone(encode, letters)
            after = after_colon(encode, letters, Cue("：", ""))
            both = _one_each([*alone, *after])
            return ChoiceRequest(tuple(encode(prompt)), both, with_sum=rule == "reference")
        case "lm-eval":
            return _continued(prompt, [f" {letter}" for letter in letters], encode)
        case "text" | "text-sum":
            return _continued(prompt, [cue.delimiter + text for text in options], encode)


def scores(
    rule: Rule, asked: ChoiceRequest, scored: Scored, options: Sequence[str]
) -> tuple[float, ...]:
    """One number an option: the highest is picked.

    Args:
        rule: As was asked by.
        asked: What `ask` gave.
        scored: What the model said.
        options: Their texts.
    """
    found, number = scored.log_ps, len(options)
    match rule:
        case "reference":
            made = [
                _generated(log_p + (scored.log_sum or 0.0), seen=one[0] in asked.prompt)
                for log_p, one in zip(found, asked.candidates, strict=True)
            ]
            return tuple(made[at] + made[number + at] for at in range(number))
        case "paper":
            ids = asked.candidates
            return tuple(
                found[at] if ids[at] == ids[number + at] else _added(found[at], found[number + at])
                for at in range(number)
            )
        case "text":
            lengths = [max(len(text), 1) for text in options]
            return tuple(log_p / length for log_p, length in zip(found, lengths, strict=True))
        case _:
            return found


def pick(numbers: Sequence[float]) -> int:
    """The highest; the first of several, as numpy's argmax.

    >>> pick([-2.0, -1.0, -1.0])
    1
    """
    return max(range(len(numbers)), key=lambda at: (numbers[at], -at))


def letters_alone(encode: Encode, letters: str) -> list[int]:
    """The first id of each letter encoded alone: `▁A` with SentencePiece.

    Raises:
        ArtifactError: Two letters have one id.
    """
    return _distinct([encode(letter)[0] for letter in letters], letters, "alone")


def after_colon(encode: Encode, letters: str, cue: Cue) -> list[int]:
    """The last id of each letter after the sign.

    Raises:
        ArtifactError: Two letters have one id, or one takes more than its own token.
    """
    before = cue.colon + cue.delimiter
    encoded = [encode(before + letter) for letter in letters]
    found = _distinct([ids[-1] for ids in encoded], letters, f"after {before!r}")
    if len({tuple(ids[:-1]) for ids in encoded}) > 1:
        raise _no_letters(letters, f"after {before!r}", found)
    return found


def _distinct(ids: list[int], letters: str, where: str) -> list[int]:
    """With a small vocabulary `▁` can be the first id of all."""
    if len(set(ids)) < len(letters):
        raise _no_letters(letters, where, ids)
    return ids


def _no_letters(letters: str, where: str, ids: Sequence[int]) -> ArtifactError:
    return ArtifactError(
        f"the tokenizer has no token of its own for each of {', '.join(letters)} {where}: "
        f"{', '.join(map(str, ids))}",
        "set {rule} to lm-eval or text",
    )


def _one_each(ids: Sequence[int]) -> tuple[tuple[int, ...], ...]:
    return tuple((one,) for one in ids)


def _continued(prompt: str, endings: Sequence[str], encode: Encode) -> ChoiceRequest:
    """Cut where lm-evaluation-harness does: after as many ids as the text has alone.

    Spaces at the end of the text belong to the continuation.
    """
    text = prompt.rstrip()
    spaces = prompt[len(text) :]
    alone = tuple(encode(text))
    wholes = [tuple(encode(text + spaces + ending)) for ending in endings]
    return ChoiceRequest(alone, tuple(whole[len(alone) :] or whole[-1:] for whole in wholes))


def _generated(logit: float, *, seen: bool) -> float:
    """A score of transformers' `generate`: penalised, then over the temperature."""
    if seen:
        logit = logit * REPETITION_PENALTY if logit < 0 else logit / REPETITION_PENALTY
    return logit / TEMPERATURE


def _added(first: float, second: float) -> float:
    """The logarithm of a sum of probabilities, of their logarithms."""
    most = max(first, second)
    return most + math.log(math.exp(first - most) + math.exp(second - most))
