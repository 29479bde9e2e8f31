"""Judged answers to held-out questions, whatever the task: a task says what it looks at."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Verdict:
    """What one answer does right."""

    passed: bool
    """The task's own conclusion."""
    checks: Mapping[str, bool]
    """Each question of the task, such as `stopped`: whether the answer does right by it."""


@dataclass(frozen=True)
class HeldoutResult:
    """A question that was held out of training, what came back, and the answer held out with it."""

    model: str
    word: str
    """Of the idiom task: the word that was held out; else empty."""
    question: str
    answer: str
    reference: str
    verdict: Verdict | None = None
    """None where no task has a judge for such a question."""
    too_long: bool = False
    """The question did not fit into the context: there is no answer."""


@dataclass(frozen=True)
class VerdictCounts:
    """How many of `num_answers` answers passed, and how many do right by each check."""

    num_answers: int
    passed: int
    checks: Mapping[str, int]


def summarise_verdicts(verdicts: Sequence[Verdict]) -> VerdictCounts:
    """Count how many answers have each quality."""
    right: Counter[str] = Counter()
    for verdict in verdicts:
        right.update({name: int(kept) for name, kept in verdict.checks.items()})
    return VerdictCounts(len(verdicts), sum(one.passed for one in verdicts), dict(right))
