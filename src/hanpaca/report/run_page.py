"""One self-contained page: what was gained, what was forgotten, and what the answers look like."""

from pathlib import Path

from hanpaca.evals.answers import HeldoutResult
from hanpaca.evals.results import SPEED, Goal, RunResult
from hanpaca.evals.tasks.languages import language_name
from hanpaca.files import whole
from hanpaca.report.page import Block, Line, PageSection, items, render, table, text
from hanpaca.report.result_blocks import curve_blocks, model_bars, numbers, task_blocks
from hanpaca.report.table import file_rows, result_rows, text_rows
from hanpaca.report.wording import ENGLISH, Word, words_of

_OTHER_WAY = {"fall": "rise", "rise": "fall"}
_PAST = {"fall": "fell", "rise": "rose"}


def write_report(result: RunResult, path: Path, *, lang: str = ENGLISH) -> None:
    """Write the page in `lang`; a file of this name is replaced.

    Raises:
        ArtifactError: A folder has this name.
        ResourceError: It cannot be written there.
    """
    with whole(path, replace=True) as half:
        half.write_text(run_page(result, lang=lang), encoding="utf-8")


def run_page(result: RunResult, *, lang: str = ENGLISH) -> str:
    """The page in `lang`: it needs no other file, no network and no script."""
    word = words_of(lang)
    sections = [
        PageSection(word(title), blocks)
        for title, blocks in (
            ("Goals", _goals(result, word)),
            ("Results", [numbers(result_rows(result), word)]),
            ("The final model's files for llama.cpp", _files(result, word)),
            *((task.name, task_blocks(task, word)) for task in result.tasks),
            ("Read with care", [text(word(note)) for note in result.notes]),
            *model_bars(result, word),
            ("While training", curve_blocks(result, word)),
            ("The fixed prompts", _samples(result, word)),
            ("Held-out questions", _examples(result, word)),
            ("How it was measured", _how(result, word)),
            ("Where it comes from", _provenance(result, word)),
        )
    ]
    met = sum(goal.met for goal in result.goals)
    lead = [f"{met} of {len(result.goals)} goals met."] if result.goals else []
    for tag in result.languages[:1]:
        if (name := language_name(tag)) != tag:
            lead.append(f"Language: {name}.")
        lead.append(
            "Bits per character compare models with different tokenizers; whiskers are 95 % "
            "bootstrap intervals over the held-out texts."
        )
    return render(result.title, sections, lead=[Line(word(one)) for one in lead], lang=lang)


def goal_sentence(goal: Goal) -> str:
    """What was reached and what was wanted, whichever way the number went.

    >>> goal_sentence(Goal("English bits", -7.25, "at most", 2, "%", "rise"))
    'English bits fell by 7.25 % (goal: a rise of at most 2 %)'
    """
    unit = f" {goal.unit}" if goal.unit == "%" else goal.unit
    wanted = f"{goal.comparison} {goal.bound:g}{unit}"
    if goal.change is None:
        return f"{goal.name}: {goal.measured:.2f}{unit} (goal: {wanted})"
    went = goal.change if goal.measured >= 0 else _OTHER_WAY[goal.change]
    value = f"{abs(goal.measured):.2f}{unit}"
    return f"{goal.name} {_PAST[went]} by {value} (goal: a {goal.change} of {wanted})"


def _goals(result: RunResult, word: Word) -> list[Block]:
    rows = [
        (
            "met" if goal.met else "missed",
            f"{word('met' if goal.met else 'missed')}: {word(goal_sentence(goal))}",
        )
        for goal in result.goals
    ]
    return [items(rows)] if rows else []


def _files(result: RunResult, word: Word) -> list[Block]:
    if not result.languages:
        return []
    header, rows = file_rows(result)
    return [numbers((header, rows), word)] if len(rows) > 1 else []


def _samples(result: RunResult, word: Word) -> list[Block]:
    shown = [model for model in result.models if model.samples]
    if not shown:
        return []
    rows = [
        (sample.prompt, *(model.samples[number].answer for model in shown))
        for number, sample in enumerate(shown[0].samples)
    ]
    return [table((word("prompt"), *(model.name for model in shown)), rows)]


def _examples(result: RunResult, word: Word) -> list[Block]:
    found = result.heldout_examples
    book = "the dictionary" if any(one.word for one in found) else "the answer held out"
    header = ["question", "answer", book]
    rows = [[one.question, one.answer, one.reference] for one in found]
    if any(one.verdict for one in found):
        header.append("passed")
        rows = [[*row, word(_passed(one))] for row, one in zip(rows, found, strict=True)]
    return [table([word(cell) for cell in header], rows)] if rows else []


def _passed(example: HeldoutResult) -> str:
    if example.verdict is None:
        return "not judged"
    return "yes" if example.verdict.passed else "no"


def _how(result: RunResult, word: Word) -> list[Block]:
    speed = (
        "Characters per second: tokens per second written by llama.cpp while it continues "
        "held-out text, divided by the tokens a character of that text takes. "
        "It does not depend on what the model happened to write."
    )
    rows = [(model.name, word(model.how)) for model in result.models]
    listed = [table((word("model"), word("how")), rows), *_texts(result, word)]
    timed = any(model.get(tag, SPEED) for tag in result.languages[:1] for model in result.models)
    return [*listed, text(word(speed))] if timed else listed


def _texts(result: RunResult, word: Word) -> list[Block]:
    header, rows = text_rows(result)
    named = [(word(language_name(tag)), *numbers) for tag, *numbers in rows]
    cells = [word(cell) for cell in header]
    return [table(cells, named, numbers=range(1, len(header)))] if rows else []


def _provenance(result: RunResult, word: Word) -> list[Block]:
    rows = [(word(one.name), one.value) for one in result.provenance]
    return [table((word("what"), word("version or hash")), rows)] if rows else []
