"""What picks come to: shares with intervals, and what they must be compared with."""

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from hanpaca.evals.choice.rules import LETTERS
from hanpaca.evals.results import Level, ModelTask, TaskScore

_Z = 1.959964
"""Of a 95 % interval of the normal distribution."""
CHANCE = "chance"


@dataclass(frozen=True)
class Picked:
    """What came of one question."""

    subject: str
    answer: int
    num_options: int
    pick: int | None
    """None where the question did not fit into the context; it counts as wrong."""


def wilson_interval(right: int, total: int) -> tuple[float, float]:
    """The 95 % interval of a share (Wilson 1927), which never leaves 0 to 1.

    >>> [round(bound, 4) for bound in wilson_interval(354, 1346)]
    [0.2402, 0.2872]
    """
    share, squared = right / total, _Z * _Z
    middle = (share + squared / (2 * total)) / (1 + squared / total)
    spread = share * (1 - share) / total + squared / (4 * total * total)
    half = _Z * math.sqrt(spread) / (1 + squared / total)
    # It holds the share itself: of none or all right, rounding may take a bound past it.
    return min(max(middle - half, 0.0), share), max(min(middle + half, 1.0), share)


def baselines(picked: Sequence[Picked]) -> dict[str, float]:
    """What guessing and the best constant answer would score, in percent.

    >>> baselines([Picked("law", 3, 4, 0), Picked("law", 3, 4, 1), Picked("law", 1, 4, 1)])
    {'chance': 25.0, 'always D': 66.66666666666667}
    """
    answers = Counter(one.answer for one in picked)
    best = min(answers, key=lambda answer: (-answers[answer], answer))
    chance = sum(1 / one.num_options for one in picked) / len(picked)
    constant = answers[best] / len(picked)
    return {CHANCE: 100 * chance, f"always {LETTERS[best]}": 100 * constant}


def task_scores(picked: Sequence[Picked], groups: Mapping[str, str]) -> tuple[TaskScore, ...]:
    """Shares in percent: of all, of each group, of each subject, in order of appearance.

    The share of all is over questions, as papers print it (micro average); `macro` is the mean over
    subjects.

    Args:
        picked: At least one.
        groups: Of subjects; a subject without one stands alone.
    """
    by_group = _parts(picked, lambda one: groups.get(one.subject, ""))
    by_subject = _parts(picked, lambda one: one.subject)
    return (
        _score("all", "all", picked),
        *(_score("group", group, some) for group, some in by_group.items() if group),
        *(_score("subject", subject, some) for subject, some in by_subject.items()),
    )


def tally(
    name: str,
    picked: Sequence[Picked],
    groups: Mapping[str, str],
    *,
    how: str,
    notes: Sequence[str],
) -> ModelTask:
    """All numbers of one model.

    Args:
        name: Of the model.
        picked: One a question.
        groups: Of subjects.
        how: Program and number format.
        notes: What is odd.
    """
    most = max(one.num_options for one in picked)
    picks = Counter(one.pick for one in picked)
    return ModelTask(
        name=name,
        how=how,
        scores=task_scores(picked, groups),
        picks={LETTERS[at]: picks[at] for at in range(most)},
        notes=tuple(notes),
    )


def _parts(picked: Sequence[Picked], part: Callable[[Picked], str]) -> dict[str, list[Picked]]:
    found: dict[str, list[Picked]] = {}
    for one in picked:
        found.setdefault(part(one), []).append(one)
    return found


def _score(level: Level, part: str, some: Sequence[Picked]) -> TaskScore:
    right = sum(one.pick == one.answer for one in some)
    low, high = wilson_interval(right, len(some))
    macro = None
    if level != "subject":
        shares = [
            sum(one.pick == one.answer for one in of) / len(of)
            for of in _parts(some, lambda one: one.subject).values()
        ]
        macro = 100 * sum(shares) / len(shares)
    return TaskScore(
        part=part,
        level=level,
        value=100 * right / len(some),
        low=100 * low,
        high=100 * high,
        num_items=len(some),
        macro=macro,
    )
