"""Values of a GGUF header, checked to be of the type and in the range they should be."""

from collections.abc import Mapping
from typing import Any, TypeVar

Kind = TypeVar("Kind", int, float, str, bool)
Fields = Mapping[str, Any]
_ROLES = {"bos": "bos", "eos": "eos", "unk": "unknown", "pad": "padding"}


def field(fields: Fields, key: str, kind: type[Kind], default: Kind | None) -> Kind:
    """One value of the header, checked to be of its kind; None as default demands it.

    Raises:
        ValueError: It is missing or of another kind.
    """
    value = fields.get(key, default)
    if value is None:
        raise ValueError(f"the header lacks {key!r}; download it again")
    if type(value) is not kind:
        raise ValueError(f"{key} is {value!r:.60}, but should be of type {kind.__name__}")
    return value


def token_list(fields: Fields, name: str, kind: type = str) -> list[Any]:
    """An array of the tokenizer, checked to be one of its kind.

    Raises:
        ValueError: It is missing or of another kind.
    """
    key = f"tokenizer.ggml.{name}"
    values = fields.get(key)
    if not isinstance(values, list) or not all(type(value) is kind for value in values):
        raise ValueError(f"the header lacks {key!r}, or it is damaged; download it again")
    return values


def special_tokens(fields: Fields) -> dict[str, int]:
    """Token ids by role.

    Raises:
        ValueError: One is no id.
    """
    found = {
        role: token_id(fields, f"tokenizer.ggml.{name}_token_id") for role, name in _ROLES.items()
    }
    return {role: number for role, number in found.items() if number is not None}


def token_id(fields: Fields, key: str) -> int | None:
    """A token of the header by its key; None where it does not say.

    Raises:
        ValueError: It is no id.
    """
    if key not in fields:
        return None
    number, num_tokens = field(fields, key, int, None), len(token_list(fields, "tokens"))
    if not 0 <= number < num_tokens:
        raise ValueError(f"{key} is {number}, but there are {num_tokens} tokens")
    return number
