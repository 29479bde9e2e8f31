"""What a model could do before a training and can do after: answers and bits, the same for both.

Both are compared pair by pair, so that how hard the questions and texts are does not count. "Did
not suffer" is said only where an interval says so: few questions can hide a large loss.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any, Literal

import numpy as np
import yaml
from numpy.typing import NDArray

from hanpaca.errors import DataError
from hanpaca.evals.tasks.suite.checks import check_answer

Numbers = NDArray[np.float64]
Answer = Callable[[Sequence[str]], Sequence[str]]
"""A model: its answers to questions, each asked by itself."""
Judgement = Literal["did not suffer", "suffered", "not shown either way"]
LEAST_KEPT = 0.9
"""Of the right answers of before: as many must be left after."""
MOST_BITS = 1.02
"""Of the bits per character of before: at most so many after."""
_DRAWS = 2_000


@dataclass(frozen=True)
class Ability:
    """A short question or instruction, and what a program looks at in the answer."""

    question: str
    kind: Literal["facts", "instructions"]
    check: Mapping[str, Any]


@dataclass(frozen=True)
class Kept:
    """The same questions before and after."""

    num_questions: int
    before: int
    """Right before."""
    after: int
    lost: int
    """Right before and not after."""
    gained: int
    share: float
    """after / before."""
    low: float
    high: float
    """Of its 95 % interval, questions drawn again with both their answers."""
    p_value: float
    """Of McNemar's exact test that as many are lost as gained."""

    @property
    def judgement(self) -> Judgement:
        """What the interval says of nine tenths being kept."""
        if self.low >= LEAST_KEPT:
            return "did not suffer"
        return "suffered" if self.high < 1 else "not shown either way"

    def __str__(self) -> str:
        return (
            f"{self.before} of {self.num_questions} English answers were right before and "
            f"{self.after} after ({self.lost} lost, {self.gained} gained, McNemar p = "
            f"{self.p_value:.2g}): {self.share:.0%} kept, 95 % interval {self.low:.0%} to "
            f"{self.high:.0%}. English answers: {self.judgement}."
        )


@dataclass(frozen=True)
class BitsKept:
    """Bits per character of the same texts before and after."""

    ratio: float
    """after / before: above 1 is worse."""
    low: float
    high: float
    """Of its 95 % interval, texts drawn again with both their bits."""
    num_texts: int

    @property
    def judgement(self) -> Judgement:
        """What the interval says of a rise of at most 2 %."""
        if self.high <= MOST_BITS:
            return "did not suffer"
        return "suffered" if self.low > 1 else "not shown either way"

    def sentence(self, language: str) -> str:
        """What is said of it, with the language's name."""
        return (
            f"{language} text takes the final model {self.ratio:.1%} of the base's bits per "
            f"character, 95 % interval {self.low:.1%} to {self.high:.1%} over {self.num_texts} "
            f"texts in pairs. {language} text: {self.judgement}."
        )


def abilities(language: str = "en") -> tuple[Ability, ...]:
    """The questions of a language.

    Raises:
        DataError: There are none.
    """
    file = files("hanpaca.evals.tasks").joinpath("abilities", f"{language}.yaml")
    if not file.is_file():
        raise DataError(f"there are no short questions in {language!r}")
    tree = yaml.safe_load(file.read_text(encoding="utf-8"))
    return tuple(
        Ability(question, kind, check) for kind, rows in tree.items() for question, check in rows
    )


def right_answers(answer: Answer, asked: Sequence[Ability]) -> list[bool]:
    """Ask a model, of files or in training, and say which answers are right.

    >>> right_answers(lambda questions: ["It is Paris."], abilities()[:1])
    [True]

    Args:
        answer: Called once with all questions.
        asked: The questions.

    Raises:
        DataError: There are more or fewer answers than questions.
    """
    answers = answer([one.question for one in asked])
    if len(answers) != len(asked):
        raise DataError(f"{len(asked)} questions had {len(answers)} answers")
    pairs = zip(asked, answers, strict=True)
    return [check_answer(one.check, text).loose for one, text in pairs]


def answers_kept(before: Sequence[bool], after: Sequence[bool], *, seed: int = 0) -> Kept:
    """Compare right answers to the same questions before and after.

    Raises:
        DataError: The two differ in length, or none was right before.
    """
    if len(before) != len(after):
        raise DataError(f"{len(before)} questions before are {len(after)} after")
    if not any(before):
        raise DataError("no answer was right before: nothing can be seen to be forgotten")
    old, new = np.array(before, float), np.array(after, float)
    low, high = _ratios(old, new, seed)
    lost = int(((old == 1) & (new == 0)).sum())
    gained = int(((old == 0) & (new == 1)).sum())
    return Kept(
        num_questions=len(old),
        before=int(old.sum()),
        after=int(new.sum()),
        lost=lost,
        gained=gained,
        share=float(new.sum() / old.sum()),
        low=low,
        high=high,
        p_value=mcnemar(lost, gained),
    )


def bits_kept(before: Sequence[float], after: Sequence[float], *, seed: int = 0) -> BitsKept:
    """Compare the bits of the same texts before and after.

    Raises:
        DataError: The two differ in length, or there are fewer than two texts.
    """
    if len(before) != len(after) or len(before) < 2:
        raise DataError(f"{len(before)} and {len(after)} texts: the same two at least are needed")
    old, new = np.array(before, float), np.array(after, float)
    low, high = _ratios(old, new, seed)
    return BitsKept(float(new.sum() / old.sum()), low, high, len(old))


def mcnemar(lost: int, gained: int) -> float:
    """McNemar's exact test: how likely so unequal a change is where both are as likely.

    >>> mcnemar(0, 0), mcnemar(5, 0), mcnemar(1, 5)
    (1.0, 0.0625, 0.21875)
    """
    number = lost + gained
    tail: int = sum(math.comb(number, one) for one in range(min(lost, gained) + 1))
    return min(1.0, float(2 * tail / 2**number))


def _ratios(old: Numbers, new: Numbers, seed: int) -> tuple[float, float]:
    """The middle 95 % of new / old, pairs drawn again."""
    number = len(old)
    draws = np.random.default_rng(seed).multinomial(number, np.full(number, 1 / number), _DRAWS)
    under = draws @ old
    # A draw without any right answer before says nothing.
    ratios = (draws @ new)[under > 0] / under[under > 0]
    low, high = np.quantile(ratios, [0.025, 0.975])
    return float(low), float(high)
