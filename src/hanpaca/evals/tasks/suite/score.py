"""What the answers of one model to the suite come to."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, median
from typing import Any

from hanpaca.evals.tasks.suite.checks import AnswerCheck, check_answer
from hanpaca.evals.tasks.suite.prompts import TASKS, Suite, SuitePrompt
from hanpaca.evals.tasks.suite.quality import Quality, quality_of

_Z = 1.959964
"""Of a 95 % interval."""
# fmt: off
SUITE_HEADER = ("task", "checked", "right", "95 %", "as asked", "stopped", "in language", "no loop",
                "characters")
# fmt: on


@dataclass(frozen=True)
class Said:
    """What a model said to one prompt."""

    name: str
    answers: tuple[str, ...]
    """One a turn."""
    stopped: tuple[bool, ...]
    num_tokens: tuple[int, ...]
    too_long: bool = False
    """A turn did not fit into the context: its answer and those of the turns after it are empty."""


@dataclass(frozen=True)
class SuiteAnswer:
    """An answer, and what a program says of it."""

    task: str
    language: str
    turns: tuple[str, ...]
    said: Said
    quality: Quality
    checked: AnswerCheck | None
    """None where only a judge or people can say."""


@dataclass(frozen=True)
class Proportion:
    """So many of so many."""

    right: int
    asked: int

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % interval of the share (Wilson 1927).

        >>> [round(one, 3) for one in Proportion(15, 20).interval]
        [0.531, 0.888]
        """
        if not self.asked:
            return 0.0, 1.0
        share, extra = self.right / self.asked, _Z**2 / self.asked
        middle = (share + extra / 2) / (1 + extra)
        half = math.sqrt(share * (1 - share) * extra + extra**2 / 4) / (1 + extra)
        return max(0.0, middle - half), min(1.0, middle + half)


@dataclass(frozen=True)
class SuiteResult:
    """One model's answers to a suite, and where they come from."""

    model: str
    fingerprint: str
    """SHA-256 of the file that was asked."""
    suite: str
    """The version."""
    seed: int
    sampling: Mapping[str, Any]
    """How every answer was drawn: once, and none was chosen among several."""
    answers: tuple[SuiteAnswer, ...]

    def rows(self) -> list[tuple[str, ...]]:
        """One row a task for `SUITE_HEADER`, then one for each language and one for all."""
        tasks = [task for task in TASKS if any(one.task == task for one in self.answers)]
        languages = list(dict.fromkeys(one.language for one in self.answers))
        return [
            *(_row(task, [one for one in self.answers if one.task == task]) for task in tasks),
            *(_row(tag, [one for one in self.answers if one.language == tag]) for tag in languages),
            _row("all", self.answers),
        ]

    def instructions(self) -> tuple[Proportion, Proportion]:
        """Of single instructions kept, as IFEval counts beside prompts: strict and loose."""
        each = [
            verdict
            for one in self.answers
            if one.checked
            for verdict in one.checked.instructions.values()
        ]
        strict, loose = (sum(one[place] for one in each) for place in (0, 1))
        return Proportion(strict, len(each)), Proportion(loose, len(each))

    @property
    def too_long(self) -> list[str]:
        """Names of prompts that did not fit into the context; their answers count as wrong."""
        return [one.said.name for one in self.answers if one.said.too_long]

    def chrf(self) -> float | None:
        """Mean chrF of the translations."""
        found = [one.checked.chrf for one in self.answers if one.checked]
        scores = [score for score in found if score is not None]
        return fmean(scores) if scores else None


def checked_answers(suite: Suite, said: Mapping[str, Said]) -> tuple[SuiteAnswer, ...]:
    """What a program says of the answers to a suite, in its order."""
    return tuple(_checked(prompt, said[prompt.name]) for prompt in suite.prompts)


def _checked(prompt: SuitePrompt, said: Said) -> SuiteAnswer:
    return SuiteAnswer(
        prompt.task,
        prompt.language,
        prompt.turns,
        said,
        quality_of(said.answers, stopped=said.stopped, answer_in=prompt.answer_in),
        check_answer(prompt.check, said.answers[-1]) if prompt.check else None,
    )


def share_of(
    answers: Sequence[SuiteAnswer], right: Callable[[SuiteAnswer], bool | None]
) -> Proportion:
    """How many answers do right by something; those of which it says nothing do not count."""
    found = [verdict for one in answers if (verdict := right(one)) is not None]
    return Proportion(sum(found), len(found))


def _row(name: str, answers: Sequence[SuiteAnswer]) -> tuple[str, ...]:
    loose = share_of(answers, lambda one: one.checked.loose if one.checked else None)
    strict = share_of(answers, lambda one: one.checked.strict if one.checked else None)
    low, high = loose.interval
    language = share_of(answers, lambda one: one.quality.in_language)
    return (
        name,
        f"{loose.asked}/{len(answers)}",
        _percent(loose),
        f"{100 * low:.0f}–{100 * high:.0f}" if loose.asked else "–",
        _percent(strict),
        _percent(share_of(answers, lambda one: one.quality.stopped)),
        _percent(language),
        _percent(share_of(answers, lambda one: one.quality.no_loop)),
        f"{median(one.quality.num_characters for one in answers):.0f}",
    )


def _percent(share: Proportion) -> str:
    return f"{100 * share.right / share.asked:.1f} %" if share.asked else "–"
