"""Options made from a section of settings: one a field, with its meaning and range."""

import inspect
from collections.abc import Callable, Iterator
from functools import wraps
from typing import Annotated, Any, cast, get_origin

import typer
from annotated_types import Ge, Le
from pydantic import ValidationError
from pydantic.fields import FieldInfo

from hanpaca.errors import RecipeError
from hanpaca.sections import RecipeSection

Command = Callable[..., None]


def with_options_of(section: type[RecipeSection]) -> Callable[[Command], Command]:
    """Give a command an option for each field, after its own, and hand it the section.

    A field of several values has an option for each (`scripts`: `--script`, repeatable); one that
    is yes or no has `--name` and `--no-name`.

    Args:
        section: What the command takes as `settings`; its fields are numbers, words, yes or no,
            or several words.
    """

    def given_to(command: Command) -> Command:
        signature = inspect.signature(command)
        own = [one for one in signature.parameters.values() if one.name != "settings"]
        options = [_option(name, field) for name, field in section.model_fields.items()]

        @wraps(command)
        def with_options(**given: Any) -> None:
            fields = {name: given.pop(name) for name in section.model_fields}
            command(**given, settings=_made(section, fields))

        cast("Any", with_options).__signature__ = signature.replace(parameters=[*own, *options])
        return with_options

    return given_to


def _option(name: str, field: FieldInfo) -> inspect.Parameter:
    is_list = get_origin(field.annotation) is tuple
    flag = "--" + (name.removesuffix("s") if is_list else name).replace("_", "-")
    least = next((one.ge for one in field.metadata if isinstance(one, Ge)), None)
    most = next((one.le for one in field.metadata if isinstance(one, Le)), None)
    option = typer.Option(
        f"{flag}/--no-{flag[2:]}" if field.annotation is bool else flag,
        help=" ".join(str(field.description).split()),
        min=cast("Any", least),
        max=cast("Any", most),
    )
    return inspect.Parameter(
        name,
        inspect.Parameter.KEYWORD_ONLY,
        default=None if is_list else field.default,
        annotation=Annotated[
            cast("Any", list[str] | None if is_list else field.annotation), option
        ],
    )


def _made(section: type[RecipeSection], fields: dict[str, Any]) -> RecipeSection:
    try:
        return section(**{name: value for name, value in fields.items() if value is not None})
    except ValidationError as error:
        raise RecipeError("\n".join(_faults(error))) from error


def _faults(error: ValidationError) -> Iterator[str]:
    for fault in error.errors():
        place = "".join(f"--{one}: ".replace("_", "-") for one in fault["loc"][:1])
        yield place + fault["msg"].removeprefix("Value error, ")
