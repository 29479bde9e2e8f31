"""The keys of a recipe, one by one: for its reader's messages, its pages and the options."""

from collections.abc import Iterator
from typing import NamedTuple, get_args

from pydantic.fields import FieldInfo

from hanpaca.sections import RecipeSection
from hanpaca.settings import Recipe


class Key(NamedTuple):
    """One key of a recipe, as the reader's messages and the written pages need it."""

    path: str
    """Dotted: `pretrain.lora.rank`."""
    field: FieldInfo
    section: type[RecipeSection] | None
    """What the key opens, where it opens a section."""

    @property
    def parent(self) -> str:
        """The dotted path of the section it stands in, "" at the top."""
        return self.path.rpartition(".")[0]

    @property
    def name(self) -> str:
        """The last part of the path."""
        return self.path.rpartition(".")[2]

    @property
    def meaning(self) -> str:
        """The text under the field, on one line."""
        return " ".join(str(self.field.description).split())


def all_keys(section: type[RecipeSection] = Recipe, prefix: str = "") -> Iterator[Key]:
    """List every key of a recipe, in order, a section before what stands in it."""
    for name, field in section.model_fields.items():
        inner = next((kind for kind in _kinds(field) if issubclass(kind, RecipeSection)), None)
        yield Key(f"{prefix}{name}", field, inner)
        if inner:
            yield from all_keys(inner, f"{prefix}{name}.")


def _kinds(field: FieldInfo) -> list[type]:
    """The classes among what a field may hold: a section that may be left out is one of two."""
    return [
        kind
        for kind in (field.annotation, *get_args(field.annotation))
        if type(kind) is type(RecipeSection)
    ]
