"""What a program says of an answer: right as asked (strict), and right however it is worded."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from hanpaca.errors import DataError
from hanpaca.evals.tasks.suite.code import runs_right
from hanpaca.evals.tasks.suite.exact import names_answer, names_number
from hanpaca.evals.tasks.suite.instructions import followed
from hanpaca.evals.tasks.suite.refusal import refuses_rightly
from hanpaca.evals.tasks.suite.translation import translates

CHECKS = ("answers", "number", "code", "translation", "follow", "refuse")
"""Keys of a check; each prompt has one of them."""


@dataclass(frozen=True)
class AnswerCheck:
    """What a program found; `strict` is never true where `loose` is not."""

    strict: bool
    """Right, and in the form that was asked for."""
    loose: bool
    """Right, whatever stands around it."""
    instructions: Mapping[str, tuple[bool, bool]] = field(default_factory=dict)
    """Of a prompt with instructions: each one, strict and loose."""
    chrf: float | None = None
    """Of a translation."""


def check_answer(check: Mapping[str, Any], answer: str) -> AnswerCheck:
    """Check the last answer of a prompt.

    >>> check_answer({"number": 57}, "一共花了 57 元。")
    AnswerCheck(strict=False, loose=True, instructions={}, chrf=None)

    Args:
        check: Of the prompt.
        answer: What came back.

    Raises:
        DataError: No such check is known.
    """
    match check:
        case {"answers": answers}:
            return AnswerCheck(*names_answer(answer, answers, check.get("wrong", ())))
        case {"number": number}:
            return AnswerCheck(*names_number(answer, number))
        case {"code": name, "cases": cases}:
            return AnswerCheck(*runs_right(answer, name, cases))
        case {"translation": references}:
            strict, loose, score = translates(answer, references)
            return AnswerCheck(strict, loose, chrf=score)
        case {"follow": instructions}:
            found = followed(answer, instructions)
            return AnswerCheck(
                all(strict for strict, _ in found.values()),
                all(loose for _, loose in found.values()),
                found,
            )
        case {"refuse": wanted}:
            return AnswerCheck(*refuses_rightly(answer, refuse=wanted))
    raise DataError(f"{', '.join(check)}: no check; there are {', '.join(CHECKS)}")
