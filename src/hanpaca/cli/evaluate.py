"""`hanpaca eval`: models side by side on the user's own texts and on questions."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypedDict, Unpack

import typer

from hanpaca import ChoiceSettings
from hanpaca.cli.chat import Encoding, TextField
from hanpaca.cli.corpora import MaybeTexts, named_documents
from hanpaca.cli.display import errors, print_notes, print_table, worded
from hanpaca.cli.from_settings import with_settings
from hanpaca.cli.options import AsJson
from hanpaca.cli.pages import Lang
from hanpaca.cli.words import speak_as
from hanpaca.errors import RecipeError
from hanpaca.report.wording import ENGLISH

if TYPE_CHECKING:
    from hanpaca import ChoiceTask
    from hanpaca.steps.candidates import Adapted
    from hanpaca.steps.evaluate import Results

_TASK = (
    "[NAME=]PATH: questions with options in a file (.csv, .json, .jsonl) or a published set's "
    "folder; NAME is ceval, cmmlu or mmlu where the subjects do not tell. Repeatable."
)


Tasks = Annotated[list[str] | None, typer.Option("--task", help=_TASK)]
Suite = Annotated[
    bool, typer.Option("--suite", help="Ask the 200 prompts of `hanpaca suite ask` instead.")
]
_EXAMPLES = "Solved questions for --shots, where a set has none."
Examples = Annotated[Path | None, typer.Option(help=_EXAMPLES)]
_ON_TOP = "Measure the one model with this on it too; repeatable, in order."
OnTop = Annotated[list[Path] | None, typer.Option("--adapter", help=_ON_TOP)]
SkipBadRows = Annotated[
    bool, typer.Option("--skip-bad-rows", help="Leave questions with faults out.")
]


@with_settings(ChoiceSettings)
def evaluate(
    models: Annotated[list[Path], typer.Argument(help="Folders, runs and GGUF files to compare.")],
    settings: ChoiceSettings,
    text: MaybeTexts = None,
    task: Tasks = None,
    suite: Suite = False,
    examples: Examples = None,
    adapter: OnTop = None,
    skip_bad_rows: SkipBadRows = False,
    script: Annotated[
        list[str] | None,
        typer.Option(help="Script for the first text's tokens per character; repeatable."),
    ] = None,
    page: Annotated[Path | None, typer.Option(help="Write a page with plots here.")] = None,
    lang: Lang = ENGLISH,
    as_json: AsJson = False,
    seed: Annotated[int, typer.Option(min=0, help="Of the intervals.")] = 0,
    encoding: Encoding = "utf-8",
    text_field: TextField = "text",
) -> None:
    """Measure models on your own texts (bits per character) and on questions with options.

    A text's NAME is best the tag of its language, such as ko: pages then name the language.
    Answers to questions are kept: an interrupted evaluation goes on where it stopped.
    """
    if suite:
        others = (text, task, adapter, page, examples, script)
        _ask_suite(models, seed=seed, as_json=as_json, alone=not any(others))
        return
    if not (text or task):
        raise RecipeError("nothing to measure on", "give {text}, questions as {task}, or {suite}")
    from hanpaca.steps.evaluate import Material
    from hanpaca.steps.evaluate import evaluate as measure

    lang = speak_as(lang)
    texts = named_documents(text or (), encoding=encoding, text_field=text_field)
    found = measure(
        _with_adapters(models, adapter or ()),
        Material(texts, scripts=script or (), seed=seed),
        tasks=_tasks(
            task or (),
            settings,
            examples=examples,
            encoding=encoding,
            skip_bad_rows=skip_bad_rows,
        ),
        tell=lambda progress: errors.print(worded(progress), markup=False),
    )
    if page:
        found.page(page, lang=lang)
    if as_json:
        print(found.json())
    else:
        _print(found)


def _ask_suite(models: list[Path], *, seed: int, as_json: bool, alone: bool) -> None:
    if not alone:
        raise RecipeError(
            "the suite has its own prompts, and takes no texts, tasks, adapters or page",
            "leave them out; `hanpaca suite ask` has more options",
        )
    from hanpaca.cli.suite import ask

    ask(models, seed=seed, as_json=as_json)


def _tasks(
    named: Sequence[str], settings: ChoiceSettings, **reading: Unpack["_Reading"]
) -> "list[ChoiceTask]":
    from hanpaca import ChoiceTask, read_questions

    return [
        ChoiceTask(read_questions(path, name=name, **reading), settings)
        for name, path in map(_name_and_path, named)
    ]


class _Reading(TypedDict):
    examples: Path | None
    encoding: str
    skip_bad_rows: bool


def _name_and_path(task: str) -> tuple[str | None, Path]:
    name, equals, path = task.partition("=")
    return (None, Path(task)) if not equals or Path(task).exists() else (name, Path(path))


def _with_adapters(models: list[Path], adapters: Sequence[Path]) -> "list[Path | Adapted]":
    """A base alone, and with what lies on it."""
    from hanpaca.steps.candidates import Adapted

    if not adapters:
        return [*models]
    if len(models) > 1:
        raise RecipeError(f"an adapter lies on one base, not on {len(models)}", "give one base")
    return [*models, Adapted(models[0], tuple(adapters))]


def _print(found: "Results") -> None:
    if found.languages:
        header, *rows = found.table
        print_table(header, rows)
    for name, (header, *rows) in found.task_tables.items():
        print(name)
        print_table(header, rows)
    print_notes(note for task in found.tasks for note in task.notes)
    print_notes(
        f"{model.name}: {note}"
        for task in found.tasks
        for model in task.models
        for note in model.notes
    )
