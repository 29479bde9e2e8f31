"""Every choice of cleaning."""

from typing import Self

from pydantic import Field, field_validator, model_validator

from hanpaca.sections import RecipeSection


class CleanSettings(RecipeSection):
    """Which rows go; the first rule that a row breaks is the reason that is told."""

    min_characters: int = Field(default=1, ge=1)
    """Shorter rows go; of a conversation all turns count."""
    max_characters: int | None = Field(default=None, ge=1)
    """Longer rows go; none to keep them."""
    scripts: tuple[str, ...] = ()
    """Unicode scripts of the wanted language, such as Han; none to keep text in any."""
    min_script_share: float = Field(default=0.5, gt=0, le=1)
    """Rows with a smaller share of their letters in these scripts go; rows without letters stay."""
    leak_units: int = Field(default=13, ge=5, le=50)
    """Rows that share so many units in a row with an evaluation text go. A unit is one character
    of a script without spaces (Han, Kana, Thai …), else one word; signs do not count."""
    exact_duplicates: bool = True
    """Later rows that say the same go: but for case, width of letters, and white space."""
    near_duplicates: float = 0.8
    """Later rows of at least this Jaccard similarity to a kept one go, in character 5-grams; from
    0.5 to 1, or 0 to keep them."""

    @field_validator("near_duplicates")
    @classmethod
    def _similar_or_off(cls, value: float) -> float:
        if value != 0 and not 0.5 <= value <= 1:
            raise ValueError("it must be from 0.5 to 1, or 0 to keep near duplicates")
        return value

    @model_validator(mode="after")
    def _bounds_in_order(self) -> Self:
        if self.max_characters is not None and self.max_characters < self.min_characters:
            raise ValueError(
                f"max_characters ({self.max_characters}) is less than min_characters "
                f"({self.min_characters})"
            )
        return self
