"""Options made from settings: every field of a section is an option, and its text is the help."""

import functools
import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import Annotated, Any, TypeVar, get_args, get_origin

import typer

from hanpaca.runs.recipe import load_section
from hanpaca.runs.recipe_keys import Key, all_keys
from hanpaca.sections import RecipeSection

Command = TypeVar("Command", bound=Callable[..., None])


def with_settings(
    kind: type[RecipeSection], *, names: Mapping[str, str] | None = None
) -> Callable[[Command], Callable[..., None]]:
    """Give a command an option for every field of a section, in place of its argument `settings`.

    A field inside a field has both names: `lora.rank` is `--lora-rank`.

    Args:
        kind: Of the settings that the command takes.
        names: Other names for fields whose own means something else here.

    Returns:
        A decorator for the command.
    """
    keys = {_parameter(key.path, names or {}): key for key in _values(kind)}
    options = [_option(name, key) for name, key in keys.items()]

    def decorate(command: Command) -> Callable[..., None]:
        own = inspect.signature(command)
        kept = [one for one in own.parameters.values() if one.name != "settings"]
        required = [one for one in kept if one.default is one.empty]
        optional = [one for one in kept if one.default is not one.empty]

        @functools.wraps(command)
        def run(**given: Any) -> None:  # typer has checked each by its own type
            tree = _tree({key.path: given.pop(name) for name, key in keys.items()})
            command(**given, settings=load_section(kind, tree, named=_worded(keys)))

        typed = [one.replace(kind=one.KEYWORD_ONLY) for one in (*required, *optional)]
        parameters = [*typed, *options]
        run.__signature__ = own.replace(parameters=parameters)  # type: ignore[attr-defined]
        run.__annotations__ = {one.name: one.annotation for one in parameters} | {"return": None}
        return run

    return decorate


def _values(kind: type[RecipeSection]) -> Iterator[Key]:
    return (key for key in all_keys(kind) if key.section is None)


def _parameter(path: str, names: Mapping[str, str]) -> str:
    return names.get(path, path).replace(".", "_")


def _option(name: str, key: Key) -> inspect.Parameter:
    kind: Any = key.field.annotation
    default = key.field.get_default(call_default_factory=True)
    if get_origin(kind) is tuple:  # of words or numbers; which ones is for the section to say
        kind = list[float] if get_args(kind)[0] is float else list[str]
        default = list(default) if default else default
    text = f"{key.meaning} Repeatable." if get_origin(kind) is list else key.meaning
    option = typer.Option(f"--{name.replace('_', '-')}", help=text, rich_help_panel="Settings")
    if kind is bool:
        option = typer.Option(help=text, rich_help_panel="Settings")
    empty = inspect.Parameter.empty
    return inspect.Parameter(
        name,
        inspect.Parameter.KEYWORD_ONLY,
        default=empty if key.field.is_required() else default,
        annotation=Annotated[kind, option],
    )


def _tree(values: Mapping[str, Any]) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for path, value in values.items():
        *sections, last = path.split(".")
        inner = tree
        for section in sections:
            inner = inner.setdefault(section, {})
        inner[last] = value
    return tree


def _worded(keys: Mapping[str, Key]) -> Callable[[str], str]:
    options = {key.path: f"--{name.replace('_', '-')}" for name, key in keys.items()}
    return lambda path: options.get(path, path)
