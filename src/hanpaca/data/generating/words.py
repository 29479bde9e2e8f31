"""What a model is asked to make instructions of, read from a data file of each language."""

from dataclasses import dataclass, fields
from functools import cached_property
from importlib.resources import files
from pathlib import Path
from typing import Any

import regex
import yaml

from hanpaca.errors import DataError, RecipeError

Cell = dict[str, str]
"""One of each list, by the names that the prompts have for them."""
_LISTS = {"topic": "topics", "task": "tasks", "difficulty": "difficulties", "persona": "personas"}
_FILLED = {
    "instruction": dict.fromkeys(_LISTS, ""),
    "evolved": {"evolution": "", "instruction": ""},
    "question": {"text": ""},
    "grounded": {"text": "", "instruction": ""},
    "repair": {},
}
"""Prompts, and what is filled into them."""


@dataclass(frozen=True)
class GeneratingWords:
    """Of one language."""

    scripts: tuple[str, ...]
    """Unicode scripts that it is written in."""
    topics: tuple[str, ...]
    tasks: tuple[str, ...]
    difficulties: tuple[str, ...]
    personas: tuple[str, ...]
    evolutions: tuple[str, ...]
    """Ways to make an instruction deeper or wider (Evol-Instruct, arXiv 2304.12244)."""
    instruction: str
    """Asks for an instruction, by `{topic}`, `{task}`, `{difficulty}` and `{persona}`."""
    evolved: str
    """Asks for another `{instruction}`, by `{evolution}`."""
    question: str
    """Asks for a question about a `{text}`."""
    grounded: str
    """Asks for the answer to an `{instruction}` out of a `{text}`."""
    repair: str
    """Asks again where the reply was no JSON."""
    refusals: tuple[str, ...]
    """Regular expressions of what a model says in place of an answer."""
    placeholders: tuple[str, ...]
    """Regular expressions of what was left to be filled in."""

    @property
    def num_cells(self) -> int:
        """How many ways there are to take one of each list."""
        return len(self.topics) * len(self.tasks) * len(self.difficulties) * len(self.personas)

    def cell(self, number: int) -> Cell:
        """One of them."""
        found = {}
        for name, held in _LISTS.items():
            choices = getattr(self, held)
            number, one = divmod(number, len(choices))
            found[name] = choices[one]
        return found

    @cached_property
    def refusing(self) -> Any:  # noqa: ANN401  # a pattern of `regex`, which has no types
        """Finds a refusal."""
        return regex.compile("|".join(self.refusals))

    @cached_property
    def unfilled(self) -> Any:  # noqa: ANN401
        """Finds a placeholder."""
        return regex.compile("|".join(self.placeholders))


def generating_words(language: str, file: Path | None = None) -> GeneratingWords:
    """Read them from a file, or those that come with the package.

    >>> generating_words("zh").scripts
    ('Han',)

    Raises:
        RecipeError: None come for this language.
        DataError: The file is none.
    """
    if file is None:
        name = f"{language.lower().partition('-')[0]}.yaml"
        known = files("hanpaca.data.generating").joinpath(name)
        if not known.is_file():
            told = f"no topics and prompts in {language!r} come with the package"
            raise RecipeError(told, "give a file of your own as {words}, or another {language}")
        return _read(known.read_text(encoding="utf-8"), name)
    try:
        return _read(file.read_text(encoding="utf-8"), str(file))
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{file}: cannot be read: {error}") from error


def _read(text: str, what: str) -> GeneratingWords:
    try:
        tree = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise DataError(f"{what}: no YAML: {' '.join(str(error).split())}") from error
    if not isinstance(tree, dict):
        raise DataError(f"{what}: no names with their values")
    found: dict[str, Any] = {}
    for one in fields(GeneratingWords):
        value = tree.get(one.name)
        if one.name in _FILLED:
            found[one.name] = _prompt(value, one.name, what)
        elif isinstance(value, list) and value and all(isinstance(part, str) for part in value):
            found[one.name] = tuple(value)
        else:
            raise DataError(f"{what}: {one.name} must be a list of texts")
    words = GeneratingWords(**found)
    try:
        words.refusing, words.unfilled  # noqa: B018  # made here, so that a fault is told here
    except regex.error as error:
        raise DataError(f"{what}: no regular expression: {error}") from error
    return words


def _prompt(value: object, name: str, what: str) -> str:
    wanted = _FILLED[name]
    try:
        if isinstance(value, str) and value.format(**wanted):
            return value
    except (LookupError, ValueError) as error:
        told = ", ".join(f"{{{one}}}" for one in wanted) or "nothing"
        raise DataError(f"{what}: {name} can be filled with {told} only: {error}") from error
    raise DataError(f"{what}: {name} must be a text")
