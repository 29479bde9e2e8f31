"""Pairs whose better answer is known: a judge that does not find it is not believed."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Literal

import yaml

from hanpaca.evals.judge.verdicts import TIE, Ask, JudgedTalk, question, verdict_of

Kind = Literal["same", "worse", "padded"]
_SAME, _PADDED = 5, 5
_TIMES = 3
"""A padded answer says all three times."""
_LEAST_TIES, _LEAST_RIGHT, _MOST_PADDED = 0.9, 0.95, 0.55


@dataclass(frozen=True)
class Control:
    """Two answers: the same twice, one that is worse, or one padded with repetition."""

    kind: Kind
    good: JudgedTalk
    other: JudgedTalk


@dataclass(frozen=True)
class ControlReport:
    """What a judge made of the controls, each seen in both orders."""

    ties: float
    """Share of verdicts on equal answers that are ties; 90 % are wanted."""
    right: float
    """Share of verdicts that find the good answer beside an empty, shuffled or foreign one; 95 %
    are wanted."""
    padded: float
    """Share of verdicts that prefer the padded answer; 55 % at most are allowed."""

    @property
    def passed(self) -> bool:
        """Whether the judge is to be believed."""
        return not self.faults

    @property
    def faults(self) -> list[str]:
        """What the judge did wrong."""
        found = []
        if self.ties < _LEAST_TIES:
            found.append(f"called equal answers equal in {self.ties:.0%} (90 % are wanted)")
        if self.right < _LEAST_RIGHT:
            found.append(f"found the good answer in {self.right:.0%} (95 % are wanted)")
        if self.padded > _MOST_PADDED:
            found.append(f"preferred repetition in {self.padded:.0%} (55 % at most are allowed)")
        return found


def control_pairs() -> list[Control]:
    """Twenty pairs: 5 the same, 10 with an empty, shuffled or foreign answer, 5 padded."""
    text = files("hanpaca.evals.judge").joinpath("controls.yaml").read_text(encoding="utf-8")
    rows: list[tuple[str, str]] = yaml.safe_load(text)
    good = [JudgedTalk((asked,), (answer,)) for asked, answer in rows]
    found = [Control("same", one, one) for one in good[:: len(good) // _SAME]]
    for number, one in enumerate(good):
        foreign = good[(number + len(good) // 2) % len(good)].answers[0]
        worse = ("", _shuffled(one.answers[0]), foreign)[number % 3]
        found.append(Control("worse", one, JudgedTalk(one.turns, (worse,))))
    for one in good[1 :: len(good) // _PADDED]:
        padded = "\n".join([one.answers[0]] * _TIMES)
        found.append(Control("padded", one, JudgedTalk(one.turns, (padded,))))
    return found


def check_judge(ask: Ask, controls: Sequence[Control]) -> ControlReport:
    """Ask a judge about control pairs, in both orders."""
    found: dict[Kind, list[float]] = {"same": [], "worse": [], "padded": []}
    for one in controls:
        forth = verdict_of(ask(question(one.good, one.other)))
        back = verdict_of(ask(question(one.other, one.good)))
        # To the good answer; no verdict is none of the right ones.
        found[one.kind] += [
            -1.0 if forth is None else forth,
            -1.0 if back is None else 1 - back,
        ]
    return ControlReport(
        ties=_share(found["same"], TIE),
        right=_share(found["worse"], 1.0),
        padded=_share(found["padded"], 0.0),
    )


def _share(scores: Sequence[float], wanted: float) -> float:
    return sum(one == wanted for one in scores) / len(scores)


def _shuffled(text: str) -> str:
    """The characters of a text in another order, always the same."""
    letters = list(text)
    random.Random(0).shuffle(letters)
    return "".join(letters)
