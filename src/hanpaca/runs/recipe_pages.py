"""Write what the sections say: a recipe to start from, and the reference page."""

import json
import textwrap
from collections.abc import Collection, Mapping
from functools import reduce
from types import NoneType, UnionType
from typing import Any, Literal, get_args, get_origin

from hanpaca.errors import RecipeError
from hanpaca.runs.recipe_keys import Key, all_keys
from hanpaca.settings import Recipe

EDIT = "# EDIT"
"""Marks what the writer of a recipe must change."""
_COMMON = ("tokenizer", "pretrain", "sft")
_SECTIONS = (*_COMMON, "dpo")
"""That a recipe may leave out; rows go with the first."""
_READERS = {
    "text": ("tokenizer", "pretrain", "dpo"),
    "instructions": ("sft",),
    "preferences": ("dpo",),
}
"""Who reads which key of `data`; preferences are measured on text."""
_YOURS = ("base", *(f"data.{key}" for key in _READERS))
_OF_ONE_RECIPE = ("tokenizer.scripts", "eval.notes", "eval.tasks")
_OF_A_DICTIONARY = ("rows.input", "rows.output", "rows.dictionary")
_KINDS: dict[object, str] = {
    str: "text",
    int: "whole number",
    float: "number",
    bool: "true or false",
    NoneType: "null",
}


def recipe_template(
    values: Mapping[str, Any] | None = None, *, sections: Collection[str] = _COMMON
) -> str:
    """Write a recipe with every key, its default, and its meaning as a comment.

    Args:
        values: Dotted key -> value, e.g. `{"base": "llama", "data.text": ["books"]}`; keys left
            out get their default, or an example where there is none.
        sections: Which of those that may be left out are written.

    Returns:
        YAML that `load_recipe` reads; what its writer must change ends in `# EDIT`.

    Raises:
        RecipeError: There is no such section, or it is in every recipe.
    """
    if unknown := [one for one in sections if one not in _SECTIONS]:
        raise RecipeError(f"{unknown[0]!r} is no stage to choose: give {', '.join(_SECTIONS)}")
    values = {**_unread(sections), **(values or {})}
    lines = ["# A hanpaca recipe. Paths are relative to this file."]
    for key in all_keys():
        if _is_left_out(key, sections):
            continue
        indent = "  " * key.path.count(".")
        comment = f"{indent}# "
        lines += [""] if key.section else []
        lines += [comment + line for line in _wrap(key.meaning)]
        # JSON is YAML, and its quotes keep words like `no` text.
        start = json.dumps(values.get(key.path, _start(key)), ensure_ascii=False)
        mark = f"  {EDIT}" if key.path in _YOURS and key.path not in values else ""
        lines.append(f"{indent}{key.name}:" + ("" if key.section else f" {start}{mark}"))
    return "\n".join(lines) + "\n"


def settings_of(recipe: Recipe, language: str | None = None) -> dict[str, Any]:
    """The choices of a recipe that suit another base and text too, by their dotted keys.

    Args:
        recipe: The choices.
        language: Another language than the recipe's; None for the same. A dictionary does not suit
            it, and what is looked up in there.

    >>> from hanpaca.runs.recipe import load_recipe
    >>> settings_of(load_recipe("quickstart"))["pretrain.learning_rate"]
    0.001
    """
    found = {}
    looked_up = _OF_A_DICTIONARY if language not in (None, recipe.language) else ()
    for key in all_keys():
        *sections, name = key.path.split(".")
        section = reduce(lambda at, one: at and getattr(at, one), sections, recipe)
        own = not sections or sections[0] == "data" or key.path in (*_OF_ONE_RECIPE, *looked_up)
        if section is not None and not key.section and not own:
            found[key.path] = getattr(section, name)
    return found


def _unread(sections: Collection[str]) -> dict[str, Any]:
    """Material that none of the sections reads."""
    return {
        f"data.{key}": []
        for key, readers in _READERS.items()
        if not any(one in sections for one in readers)
    }


def _is_left_out(key: Key, sections: Collection[str]) -> bool:
    first = key.path.partition(".")[0]
    section = "tokenizer" if first == "rows" else first
    return section not in sections and section in _SECTIONS


def _wrap(text: str) -> list[str]:
    return textwrap.wrap(text, 90, break_on_hyphens=False, break_long_words=False)


def _start(key: Key) -> object:
    if key.section:
        return None
    return (key.field.examples or [key.field.default])[0]


def recipe_reference() -> str:
    """Write the reference page of the recipe, in Markdown."""
    lines = ["# The recipe", "", "Every key of a recipe. Paths are relative to the recipe's file."]
    lines += _table("")
    for key in all_keys():
        if key.section:
            lines += ["", f"## {key.path}", "", key.meaning, *_table(key.path)]
    return "\n".join(lines) + "\n"


def _table(parent: str) -> list[str]:
    rows = ["", "| key | kind | default | meaning |", "|---|---|---|---|"]
    for key in all_keys():
        if key.parent == parent and not key.section:
            required = key.field.is_required()
            default = "required" if required else f"`{json.dumps(key.field.default)}`"
            cells = (f"`{key.path}`", _kind(key.field.annotation), default, key.meaning)
            rows.append(f"| {' | '.join(cells)} |")
    return rows


def _kind(annotation: object) -> str:
    """Say in words what may stand in a field."""
    choices = get_args(annotation)
    match get_origin(annotation):
        case origin if origin is Literal:
            return " or ".join(f"`{choice}`" for choice in choices)
        case origin if origin is tuple:
            return f"list of {_kind(choices[0])}"
        case origin if origin is UnionType:
            return " or ".join(map(_kind, choices))
    return _KINDS[annotation]
