"""The choices of low-rank adapters."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from hanpaca.sections import RecipeSection, later


class LoraSettings(RecipeSection):
    """Low-rank adapters: each targeted matrix W becomes W + (alpha / rank) B A."""

    rank: int = Field(default=32, ge=1, le=16_384)
    """Rank of the update: columns of B, rows of A."""
    alpha: float = Field(default=64.0, gt=0)
    """The update is scaled by alpha / rank."""
    rslora: bool = later(False)
    """Scale by alpha / sqrt(rank) instead, so that high ranks learn as fast as low ones (rsLoRA,
    arXiv 2312.03732)."""
    rank_pattern: tuple[str, ...] = later(())
    """Other ranks for some layers, as `NAME=RANK`; the name is the end of a layer's, or a regular
    expression for it, and the first that fits counts, as in peft: `down_proj=64`."""
    alpha_pattern: tuple[str, ...] = later(())
    """Other alphas for some layers, as `NAME=ALPHA`."""
    dora: bool = later(False)
    """Learn the length of each row of a matrix apart from its direction (DoRA, arXiv 2402.09353);
    slower, and folded by `merge` and `gguf` as any adapter."""
    b_rate_ratio: float = later(1.0, gt=0)
    """The learning rate of B is so many times that of A (LoRA+, arXiv 2402.12354, where 16 does
    well)."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Share of the adapter's inputs set to zero in training."""
    targets: tuple[
        Literal["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"], ...
    ] = Field(
        default=("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"),
        min_length=1,
    )
    """Linear layers of every block that get an adapter."""

    @field_validator("rank_pattern", "alpha_pattern", mode="before")
    @classmethod
    def _a_mapping_is_as_good(cls, value: Any) -> Any:  # noqa: ANN401  # whatever YAML held
        named = isinstance(value, Mapping)
        return tuple(f"{name}={number}" for name, number in value.items()) if named else value

    @model_validator(mode="after")
    def _patterns_are_numbers_by_names(self) -> Self:
        for key, words in (("rank", self.rank_pattern), ("alpha", self.alpha_pattern)):
            for word in words:
                name, _, number = word.rpartition("=")
                try:
                    re.compile(name)
                    fits = bool(name) and float(number) > 0
                    fits = fits and (key == "alpha" or float(number).is_integer())
                except (ValueError, re.error):
                    fits = False
                if not fits:
                    raise ValueError(
                        f"{key}_pattern: {word!r}: write it as NAME={key.upper()}, a regular "
                        "expression and a number above 0"
                    )
        return self

    def unused_patterns(self, layers: Iterable[str]) -> list[str]:
        """Patterns for ranks and alphas that fit no layer of these names.

        >>> LoraSettings(rank_pattern=("downproj=16",)).unused_patterns(["a.down_proj"])
        ['downproj=16']
        """
        names = list(layers)
        return [
            word
            for word in (*self.rank_pattern, *self.alpha_pattern)
            if not any(_fits(word, name) for name in names)
        ]

    def rank_and_alpha(self, layer: str) -> tuple[int, float]:
        """Rank and alpha of a layer, such as `model.layers.0.mlp.down_proj`.

        >>> LoraSettings(rank=8, rank_pattern=("down_proj=16",)).rank_and_alpha("a.down_proj")
        (16, 64.0)
        """
        rank = _of_pattern(self.rank_pattern, layer, self.rank)
        return int(rank), _of_pattern(self.alpha_pattern, layer, self.alpha)


def _of_pattern(words: Sequence[str], layer: str, otherwise: float) -> float:
    """The number of the first name that fits, as peft's `get_pattern_key` finds it."""
    for word in words:
        if _fits(word, layer):
            return float(word.rpartition("=")[2])
    return otherwise


def _fits(word: str, layer: str) -> bool:
    return bool(re.fullmatch(rf"(.*\.)?({word.rpartition('=')[0]})", layer))
