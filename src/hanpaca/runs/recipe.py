"""Read a recipe: YAML and overrides in, a `Recipe` or every fault at once out."""

import difflib
import re
import reprlib
from collections.abc import Callable, Hashable, Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import ValidationError
from pydantic_core import ErrorDetails

from hanpaca.errors import RecipeError
from hanpaca.runs.recipe_keys import all_keys
from hanpaca.sections import RecipeSection
from hanpaca.settings import Recipe

Kind = TypeVar("Kind", bound=RecipeSection)


def load_recipe(path: Path | str, overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe and apply overrides.

    ```python
    recipe = load_recipe("recipe.yaml", ["sft.num_tokens=100_000"])
    ```

    Args:
        path: A YAML file in UTF-8, or the name of a recipe that comes with the package:
            `quickstart`, `reference/llama-7b`.
        overrides: `section.key=value` texts; the value is read as YAML, the last one wins.

    Returns:
        The recipe; relative paths in it, overrides included, start at the file's folder, or for one
        of the package's here.

    Raises:
        RecipeError: The file is no YAML mapping, or keys or values are wrong: all of them are told
            at once.
    """
    path = Path(path)
    own = None if path.is_file() else packaged_recipes().get(path.as_posix())
    recipe = parse_recipe(_read_text(own or path), str(path), overrides)
    recipe._folder = Path() if own else path.parent
    return recipe


def parse_recipe(text: str, path: str, overrides: Sequence[str] = ()) -> Recipe:
    """Make a recipe of its text; see `load_recipe`.

    Args:
        text: YAML.
        path: Names it in messages.
        overrides: `section.key=value` texts.

    Raises:
        RecipeError: As `load_recipe`.
    """
    tree = _parse(text, source=path)
    if tree is None:
        raise RecipeError(f"{path}: is empty; `hanpaca init` writes a recipe to start from")
    if not isinstance(tree, dict):
        kind = type(tree).__name__
        raise RecipeError(f"{path}: a recipe is made of `key: value` lines, but this is a {kind}")
    for override in overrides:
        tree = _override(tree, override)
    try:
        return Recipe.model_validate(tree)
    except ValidationError as error:
        faults = [f"{path}: {_describe(f)}" for f in error.errors() if not _is_echo(f)]
        raise RecipeError("\n".join(faults)) from error


def packaged_recipes() -> dict[str, Path]:
    """The recipes that come with the package, by name."""
    folder = Path(str(files("hanpaca"))) / "recipes"
    found = sorted(folder.rglob("*.yaml"))
    return {file.relative_to(folder).with_suffix("").as_posix(): file for file in found}


def load_section(
    kind: type[Kind], tree: Mapping[str, Any], *, named: Callable[[str], str] = str
) -> Kind:
    """Make one section of a recipe by itself, for commands that do one step.

    Args:
        kind: Of the section.
        tree: Its keys and values.
        named: What the user calls the setting of a dotted path, such as `lora.rank`.

    Raises:
        RecipeError: Keys or values are wrong: all of them are told at once.
    """
    try:
        return kind.model_validate(tree)
    except ValidationError as error:
        name = next((key.path for key in all_keys() if key.section is kind), "")
        faults = [_of_section(fault, name, named) for fault in error.errors()]
        raise RecipeError("\n".join(faults)) from error


def _of_section(fault: ErrorDetails, section: str, named: Callable[[str], str]) -> str:
    path = ".".join(part for part in fault["loc"] if isinstance(part, str))
    message = _message(fault, f"{section}.{path}".strip("."))
    return f"{named(path)}: {message}" if path else message


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise RecipeError(f"{path}:{line}: is not UTF-8; save the file as UTF-8") from error
    except OSError as error:
        hint = "" if path.suffix else _near_recipe(str(path))
        raise RecipeError(f"{path}: cannot be read: {error.strerror}{hint}") from error


def _near_recipe(name: str) -> str:
    known = list(packaged_recipes())
    short = ", ".join(one for one in known if "/" not in one)
    return _near(name, known) or f"; recipes that come with the package: {short}, reference/…"


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
