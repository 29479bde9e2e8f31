"""How the next token is chosen, and how many there may be."""

import math
from dataclasses import dataclass, fields, replace
from typing import Any, Self

from hanpaca.errors import RecipeError

MAX_SEED = 2**32 - 2
"""llama.cpp takes the next number for "any seed"."""
_MOST = 2**31 - 1
"""llama.cpp counts in 32 bits."""


@dataclass(frozen=True)
class Sampling:
    """Checked when it is made: a value out of its range is a `RecipeError`.

    >>> Sampling().changed("temperature", "0.7").temperature
    0.7
    """

    max_tokens: int = 512
    """An answer is cut off there."""
    temperature: float = 0.0
    """0 always takes the likeliest token."""
    top_k: int = 40
    """Only the likeliest so many are drawn from; 0 for all."""
    top_p: float = 0.95
    """Only the likeliest that together have this probability."""
    min_p: float = 0.05
    """Only those at least so likely, as a share of the likeliest."""
    repeat_penalty: float = 1.1
    """Divides the likelihood of recent tokens; 1 for none. Small models loop without it, most of
    all at temperature 0."""
    seed: int = 0
    """For temperatures above 0."""

    def __post_init__(self) -> None:
        _check("max_tokens", self.max_tokens, self.max_tokens >= 1, "at least 1")
        _check("max_tokens", self.max_tokens, self.max_tokens <= _MOST, f"at most {_MOST}")
        finite = math.isfinite(self.temperature)
        _check("temperature", self.temperature, finite and self.temperature >= 0, "0 or more")
        _check("top_k", self.top_k, self.top_k >= 0, "0 or more")
        _check("top_k", self.top_k, self.top_k <= _MOST, f"at most {_MOST}")
        _check("top_p", self.top_p, 0 < self.top_p <= 1, "above 0 and at most 1")
        _check("min_p", self.min_p, 0 <= self.min_p <= 1, "from 0 to 1")
        finite = math.isfinite(self.repeat_penalty)
        _check("repeat_penalty", self.repeat_penalty, finite and self.repeat_penalty > 0, "above 0")
        _check("seed", self.seed, 0 <= self.seed <= MAX_SEED, f"from 0 to {MAX_SEED}")

    def changed(self, name: str, text: str) -> Self:
        """The same with one value read from text.

        Raises:
            RecipeError: There is no such value, or the text is no number in its range.
        """
        names = [field.name for field in fields(self)]
        if name not in names:
            raise RecipeError(f"{name!r} is no setting; there are {', '.join(names)}")
        whole = isinstance(getattr(self, name), int)
        try:
            value: Any = int(text) if whole else float(text)
        except ValueError as error:
            kind = "whole number" if whole else "number"
            raise RecipeError(f"{name}: {text!r} is no {kind}") from error
        return replace(self, **{name: value})

    def request(self) -> dict[str, Any]:
        """As llama.cpp's server is asked."""
        return {field.name: getattr(self, field.name) for field in fields(self)}


def _check(name: str, value: float, within: bool, wanted: str) -> None:
    if not within:
        raise RecipeError(f"{name.replace('_', ' ')} is {value}", f"{{{name}}} must be {wanted}")
