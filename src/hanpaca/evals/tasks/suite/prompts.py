"""The prompts of the suite, read from data files beside this module: one file a task.

A suite of another language is a folder of such files with the same names.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml

from hanpaca.errors import DataError
from hanpaca.evals.tasks.suite.checks import CHECKS
from hanpaca.evals.tasks.suite.drawn import drawn_numbers, value_of
from hanpaca.evals.tasks.suite.instructions import INSTRUCTIONS

# fmt: off
TASKS = ("knowledge", "open", "reasoning", "literature", "entertainment", "writing", "translation",
         "dialogue", "code", "ethics")
# fmt: on
PROGRAM, JUDGE, PEOPLE = LAYERS = ("program", "judge", "people")
"""Who can say whether an answer is good."""
_SCHEMA = 1
_KEYS = {"id", "language", "ask", "answer_in", "layers", "check", "notes", "numbers"}
_NONE = "none"


@dataclass(frozen=True)
class SuitePrompt:
    """One conversation that a model is led through; its last answer is what a program checks."""

    name: str
    task: str
    language: str
    """`zh`, `en`, another tag, or `mixed`."""
    turns: tuple[str, ...]
    """Of the user; the model answers each."""
    answer_in: str | None
    """Language that the last answer must be in; None where it has none, as a number or code."""
    layers: tuple[str, ...]
    check: Mapping[str, Any] = field(default_factory=dict)
    """What a program looks at; empty where only a judge or people can say."""
    notes: str = ""
    """For a judge: what a good answer says."""


@dataclass(frozen=True)
class Suite:
    """Prompts with their numbers drawn."""

    version: str
    """Of the schema, and the beginning of the hash of the files."""
    seed: int
    prompts: tuple[SuitePrompt, ...]

    def of_task(self, task: str) -> tuple[SuitePrompt, ...]:
        """The prompts of one task."""
        return tuple(one for one in self.prompts if one.task == task)


def load_suite(*, seed: int = 0, folder: Path | None = None) -> Suite:
    """Read a suite.

    Args:
        seed: Of the numbers in its prompts.
        folder: With a `.yaml` file for each task it has; None for the suite that comes with the
            package.

    Raises:
        DataError: The folder has no such files, or one is malformed: names it.
    """
    digest, found = hashlib.sha256(), []
    for task in TASKS:
        place = folder or files("hanpaca.evals.tasks.suite").joinpath("prompts")
        file = place.joinpath(f"{task}.yaml")
        if not file.is_file():
            continue
        try:
            text = file.read_text(encoding="utf-8")
        except UnicodeDecodeError as error:
            raise DataError(f"{file}: not UTF-8", "save it as UTF-8") from error
        digest.update(f"{task}\n{text}".encode())
        found += _read(text, task, str(file), seed)
    if not found:
        raise DataError(f"{folder}: no file of a task, such as {TASKS[0]}.yaml")
    names = [one.name for one in found]
    if twice := {name for name in names if names.count(name) > 1}:
        raise DataError(f"{folder or 'the suite'}: two prompts are called {min(twice)!r}")
    return Suite(f"{_SCHEMA}-{digest.hexdigest()[:8]}", seed, tuple(found))


def _read(text: str, task: str, place: str, seed: int) -> list[SuitePrompt]:
    try:
        tree = yaml.safe_load(text)
        layers, rows = tree["layers"], list(tree["prompts"])
    except (yaml.YAMLError, KeyError, TypeError) as error:
        raise DataError(f"{place}: no YAML with 'layers' and 'prompts'") from error
    found = []
    for number, row in enumerate(rows, 1):
        try:
            found.append(_prompt({"layers": layers, **row}, task, seed))
        except (DataError, KeyError, TypeError, ValueError) as error:
            raise DataError(f"{place}: prompt {number}: {error}") from error
    return found


def _prompt(row: Mapping[str, Any], task: str, seed: int) -> SuitePrompt:
    if unknown := set(row) - _KEYS:
        raise DataError(f"no prompt has a key {min(unknown)!r}")
    numbers = drawn_numbers(row.get("numbers", {}), row["id"], seed)
    turns: Sequence[str] = [row["ask"]] if isinstance(row["ask"], str) else row["ask"]
    if not turns or not all(isinstance(turn, str) and turn.strip() for turn in turns):
        raise DataError("'ask' is no text, and no list of texts")
    layers, language = tuple(row["layers"]), str(row["language"])
    check = _checked(dict(row.get("check", {})), numbers)
    if not set(layers) <= set(LAYERS) or (PROGRAM in layers) != bool(check):
        raise DataError(f"the layers {layers} do not go with its check")
    answer_in = str(row.get("answer_in", _NONE if check.keys() & {"code", "number"} else language))
    return SuitePrompt(
        name=str(row["id"]),
        task=task,
        language=language,
        turns=tuple(turn.format(**numbers) if numbers else turn for turn in turns),
        answer_in=None if answer_in in (_NONE, "mixed") else answer_in,
        layers=layers,
        check=check,
        notes=str(row.get("notes", "")),
    )


def _checked(check: dict[str, Any], numbers: Mapping[str, int]) -> dict[str, Any]:
    """A check that is known, with its number worked out."""
    if check and not check.keys() & set(CHECKS):
        raise DataError(f"{', '.join(check)}: no check; there are {', '.join(CHECKS)}")
    if unknown := set(check.get("follow", {})) - set(INSTRUCTIONS):
        raise DataError(f"no instruction is called {min(unknown)!r}")
    if "number" in check:
        check["number"] = value_of(str(check["number"]), numbers)
    return check
