"""A file of questions answered, in place of a talk."""

import time
from pathlib import Path

from hanpaca.cli.display import errors
from hanpaca.errors import RecipeError
from hanpaca.progress import Progress, Tell
from hanpaca.steps.batch import answer_file
from hanpaca.steps.chat import Chat

_SECONDS = 2.0


def check_batch(questions: Path | None, output: Path | None, question: str | None) -> bool:
    """Whether a file is to be answered.

    Raises:
        RecipeError: Half of what it needs is given, or a single question too.
    """
    if questions is None and output is None:
        return False
    if questions is None or output is None:
        raise RecipeError("questions in a file need both", "give {input} and {output}")
    if question is not None:
        raise RecipeError("a question and a file of questions", "leave out one of them")
    return True


def run_batch(chat: Chat, questions: Path, output: Path, encoding: str) -> None:
    """Answer a file, with a line now and then."""
    report = answer_file(chat, questions, output, encoding=encoding, tell=_counted())
    told = f"{output}: {report.num_answers:,} answers"
    if report.num_kept:
        told += f", {report.num_kept:,} of them from before"
    if report.num_cut:
        told += f", {report.num_cut:,} cut off at the limit of tokens"
    if report.num_too_long:
        told += f", {report.num_too_long:,} without text as the question was too long"
    errors.print(
        f"{told}; {report.characters_per_second:.1f} characters/s", markup=False, soft_wrap=True
    )


def _counted() -> Tell:
    last = time.monotonic()

    def tell(progress: Progress) -> None:
        nonlocal last
        if time.monotonic() - last < _SECONDS:
            return
        last = time.monotonic()
        errors.print(
            f"{progress.done:,.0f} of {progress.total or 0:,.0f} answered, {progress.note}",
            markup=False,
            end="\r" if errors.is_terminal else "\n",
        )

    return tell
