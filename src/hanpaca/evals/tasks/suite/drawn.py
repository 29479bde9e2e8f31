"""Numbers of a prompt, drawn by seed, and arithmetic on them."""

import ast
import hashlib
import operator
from collections.abc import Callable, Mapping, Sequence

from hanpaca.errors import DataError

Numbers = Mapping[str, int]
_SIGNS: Mapping[type, Callable[[int, int], int]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
}


def drawn_numbers(wanted: Mapping[str, object], name: str, seed: int) -> dict[str, int]:
    """Draw a prompt's numbers: the same for every model that is asked with the same seed.

    >>> drawn_numbers({"a": [2, 5], "b": "2 * a"}, "r01", 0)
    {'a': 2, 'b': 4}

    Args:
        wanted: By name a pair of bounds, both included, or a formula of the names before it.
        name: Of the prompt.
        seed: Of the suite.

    Raises:
        DataError: A formula is none.
    """
    found: dict[str, int] = {}
    for letter, rule in wanted.items():
        if isinstance(rule, Sequence) and not isinstance(rule, str):
            low, high = rule
            digest = hashlib.sha256(f"{seed}:{name}:{letter}".encode()).digest()
            found[letter] = low + int.from_bytes(digest[:8]) % (high - low + 1)
        else:
            found[letter] = value_of(str(rule), found)
    return found


def value_of(formula: str, numbers: Numbers) -> int:
    """A sum, difference or product of names and whole numbers.

    >>> value_of("2 * (a + b)", {"a": 3, "b": 4})
    14

    Raises:
        DataError: The formula holds anything else.
    """
    try:
        return _value(ast.parse(formula, mode="eval").body, numbers)
    except (SyntaxError, KeyError, TypeError) as error:
        raise DataError(f"{formula!r} is no sum of the numbers {', '.join(numbers)}") from error


def _value(node: ast.expr, numbers: Numbers) -> int:
    match node:
        case ast.Constant(value=int(value)):
            return value
        case ast.Name(id=name):
            return numbers[name]
        case ast.BinOp(left=left, op=sign, right=right):
            return _SIGNS[type(sign)](_value(left, numbers), _value(right, numbers))
        case _:
            raise TypeError(type(node).__name__)
