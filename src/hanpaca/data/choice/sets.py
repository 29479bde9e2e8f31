"""What is published about sets of questions: their subjects, groups and the split that is asked.

Data, a file a set in `tables/`; the questions themselves are not part of this package.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml

from hanpaca.errors import RecipeError

NAMES = ("ceval", "cmmlu", "mmlu")


@dataclass(frozen=True)
class KnownSet:
    """A published set."""

    title: str
    wording: str
    """Which of `hanpaca.data.choice.prompts` it is asked in."""
    split: str
    """The folder of the questions whose answers are published."""
    num_options: int
    groups: Mapping[str, str]
    """Group by subject."""
    titles: Mapping[str, str]
    """What a subject is called in a prompt."""


def known_set(subjects: Sequence[str], *, path: Path, name: str | None) -> KnownSet | None:
    """Which published set questions are of; None for a user's own.

    Args:
        subjects: Of the questions.
        path: Of the file; may hold the set's name.
        name: As the user says.

    Raises:
        RecipeError: No published set has this name.
    """
    if name is not None:
        if name not in NAMES:
            known = ", ".join(NAMES)
            raise RecipeError(f"no set is called {name!r}", f"{{task}} is a file, or {known}=FILE")
        return KNOWN[name]
    wanted = set(subjects)
    fitting = [one for one in NAMES if wanted <= KNOWN[one].groups.keys()]
    named = [one for one in fitting if one in path.name.lower().replace("-", "")]
    chosen = named if len(fitting) > 1 else fitting
    return KNOWN[chosen[0]] if len(chosen) == 1 else None


@cache
def _read(name: str) -> KnownSet:
    file = files("hanpaca.data.choice").joinpath("tables", f"{name}.yaml")
    tree: dict[str, Any] = yaml.safe_load(file.read_text(encoding="utf-8"))
    groups: dict[str, dict[str, str]] = tree["groups"]
    return KnownSet(
        title=tree["title"],
        wording=tree["wording"],
        split=tree["split"],
        num_options=tree["num_options"],
        groups={subject: group for group, some in groups.items() for subject in some},
        titles={subject: title for some in groups.values() for subject, title in some.items()},
    )


KNOWN: Mapping[str, KnownSet] = {name: _read(name) for name in NAMES}
