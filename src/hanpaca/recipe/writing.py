"""Write what the sections say: a recipe to start from, and the reference page."""

import json
import textwrap
from collections.abc import Mapping
from types import NoneType, UnionType
from typing import Any, Literal, get_args, get_origin

from hanpaca.recipe.sections import Key, all_keys

_KINDS: dict[object, str] = {
    str: "text",
    int: "whole number",
    float: "number",
    bool: "true or false",
    NoneType: "null",
}


def recipe_template(values: Mapping[str, Any] | None = None) -> str:
    """Write a recipe with every key, its default, and its meaning as a comment.

    Args:
        values: Dotted key -> value, e.g. `{"base": "llama", "data.text": ["books"]}`; keys left
            out get their default, or an example where there is none.

    Returns:
        YAML that `load_recipe` reads.
    """
    values = values or {}
    lines = ["# A hanpaca recipe. Paths are relative to this file."]
    for key in all_keys():
        indent = "  " * key.path.count(".")
        comment = f"{indent}# "
        lines += [""] if key.section else []
        lines += [comment + line for line in _wrap(key.meaning)]
        # JSON is YAML, and its quotes keep words like `no` text.
        start = json.dumps(values.get(key.path, _start(key)), ensure_ascii=False)
        lines.append(f"{indent}{key.name}:" + ("" if key.section else f" {start}"))
    return "\n".join(lines) + "\n"


def _wrap(text: str) -> list[str]:
    return textwrap.wrap(text, 90, break_on_hyphens=False, break_long_words=False)


def _start(key: Key) -> object:
    if key.section:
        return None
    return (key.field.examples or [None])[0] if key.field.is_required() else key.field.default


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
