"""Read a recipe: YAML and overrides in, a `Recipe` or every fault at once out."""

import difflib
import re
import reprlib
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import ValidationError
from pydantic_core import ErrorDetails

from hanpaca.errors import RecipeError
from hanpaca.recipe.sections import Recipe, Section, all_keys

Kind = TypeVar("Kind", bound=Section)


def load_recipe(path: Path, overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe and apply command-line overrides.

    Args:
        path: A YAML file in UTF-8.
        overrides: `section.key=value` texts; the value is read as YAML, the last one wins.

    Returns:
        The recipe; relative paths in it, overrides included, start at the file's folder.

    Raises:
        RecipeError: The file is no YAML mapping, or keys or values are wrong: all of them are told
            at once.
    """
    tree = _parse(_read_text(path), source=str(path))
    if tree is None:
        raise RecipeError(f"{path}: is empty; `hanpaca init` writes a recipe to start from")
    if not isinstance(tree, dict):
        kind = type(tree).__name__
        raise RecipeError(f"{path}: a recipe is made of `key: value` lines, but this is a {kind}")
    for override in overrides:
        tree = _override(tree, override)
    try:
        recipe = Recipe.model_validate(tree)
    except ValidationError as error:
        faults = [f"{path}: {_describe(f)}" for f in error.errors() if not _is_echo(f)]
        raise RecipeError("\n".join(faults)) from error
    recipe._folder = path.parent
    return recipe


def load_section(kind: type[Kind], tree: Mapping[str, Any], settings: Sequence[str]) -> Kind:
    """Make one section of a recipe by itself, for commands that do one step.

    Args:
        kind: Of the section.
        tree: Its keys and values.
        settings: `key=value` texts, such as `lora.rank=8`; read as overrides of a recipe are.

    Raises:
        RecipeError: Keys or values are wrong: all of them are told at once.
    """
    merged = dict(tree)
    for setting in settings:
        merged = _override(merged, setting)
    try:
        return kind.model_validate(merged)
    except ValidationError as error:
        name = next(key.path for key in all_keys() if key.section is kind)
        faults = [_describe({**f, "loc": (name, *f["loc"])}) for f in error.errors()]
        raise RecipeError("\n".join(faults)) from error


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise RecipeError(f"{path}:{line}: is not UTF-8; save the file as UTF-8") from error
    except OSError as error:
        raise RecipeError(f"{path}: cannot be read: {error.strerror}") from error


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader, less two traps: `2e-4` is a number, and no key may come twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: dict[str, int] = {}
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                continue
            line = key.start_mark.line + 1
            first = seen.setdefault(key.value, line)
            if first != line:
                problem = f"the key {key.value!r} is already set in line {first}; keep one of them"
                raise yaml.MarkedYAMLError(problem=problem, problem_mark=key.start_mark)
        return super().construct_mapping(node, deep)


# YAML 1.2's floats; PyYAML follows YAML 1.1, where an exponent needs a point and a sign.
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"[-+]?[0-9][0-9_]*(\.[0-9_]*)?[eE][-+]?[0-9]+$"),
    list("-+0123456789"),
)


def _parse(text: str, *, source: str) -> object:
    try:
        return yaml.load(text, _Loader)
    except yaml.MarkedYAMLError as error:
        line = f":{error.problem_mark.line + 1}" if error.problem_mark else ""
        problem = str(error.problem or error.context)
        if r"\t" in problem:
            problem = "a tab; YAML indents with spaces only"
        raise RecipeError(f"{source}{line}: {problem}") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        # ValueError: PyYAML lets those of int() and of impossible dates through.
        raise RecipeError(f"{source}: is not YAML: {error}") from error


def _override(tree: dict[str, Any], override: str) -> dict[str, Any]:
    dotted, separator, text = override.partition("=")
    keys = dotted.strip().split(".")
    if not separator or not all(keys):
        raise RecipeError(f"override {override!r}: write it as section.key=value")
    value = _parse(text, source=f"override {override!r}")
    return _with(tree, keys, value=value, override=override)


def _with(
    tree: dict[str, Any], keys: Sequence[str], *, value: object, override: str
) -> dict[str, Any]:
    # Copies instead of writing: two sections may be one object, by a YAML alias.
    key, *rest = keys
    if rest:
        inner = tree.get(key) or {}
        if not isinstance(inner, dict):
            raise RecipeError(f"override {override!r}: {key!r} is a value, not a section")
        value = _with(inner, rest, value=value, override=override)
    return {**tree, key: value}


def _is_echo(fault: ErrorDetails) -> bool:
    # pydantic calls a list too short when all its items are wrong; those are told already.
    return fault["type"] == "too_short" and bool(fault["input"])


def _describe(fault: ErrorDetails) -> str:
    location = ".".join(str(part) for part in fault["loc"])
    message = _message(fault, ".".join(str(p) for p in fault["loc"] if isinstance(p, str)))
    return f"{location}: {message}" if location else message


def _message(fault: ErrorDetails, path: str) -> str:
    got = fault["input"]
    text = fault["msg"].removeprefix("Value error, ")
    match fault["type"]:
        case "extra_forbidden":
            return f"there is no such key{_near_key(path)}"
        case "missing":
            return f"is missing: {_meaning(path)}"
        case "string_type" if isinstance(got, bool):
            return f"YAML reads a bare yes, no, on or off as {str(got).lower()}: quote it"
        case "string_type":
            return f"text is needed (got {reprlib.repr(got)}): quote it"
        case "tuple_type":
            return f"a list is needed: [{got}]"
        case "too_short":
            return f"the list is empty: {_meaning(path)}"
        case "literal_error":
            known = fault["ctx"]["expected"]
            hint = _near(str(got), re.findall("'(.*?)'", known))
            return f"{got!r} is not one of {known}{hint}"
        case "string_pattern_mismatch":
            return f"{got!r} does not fit: {_meaning(path)}"
        case "model_type":
            return f"a section of indented `key: value` lines is needed (got {got!r})"
    return text if fault["type"] == "value_error" else f"{text} (got {reprlib.repr(got)})"


def _meaning(path: str) -> str:
    return next(key.meaning for key in all_keys() if key.path == path)


def _near_key(path: str) -> str:
    parent, _, name = path.rpartition(".")
    siblings = [key.name for key in all_keys() if key.parent == parent]
    elsewhere = [repr(key.path) for key in all_keys() if key.name == name]
    if hint := _near(name, siblings):
        return hint
    if elsewhere:
        return f"; did you mean {' or '.join(elsewhere)}?"
    return f"; known keys: {', '.join(siblings)}"


def _near(word: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(word, known, n=1)
    return f"; did you mean {near[0]!r}?" if near else ""
