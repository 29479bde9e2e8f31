"""What an extension should heed beside its texts, under one set of names everywhere."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

from hanpaca.tokenizer.extension.scripts import Punctuation


@dataclass(frozen=True)
class Wishes:
    """What to heed; a recipe's section `tokenizer` has the same keys."""

    punctuation: Punctuation = "runs"
    """What of the scripts' punctuation new pieces may hold; text that has this punctuation but no
    letters of the scripts may change too."""
    required: str | Path = ""
    """Characters that must be one token each, such as a national standard's list, or the file that
    holds them."""
    prior: Mapping[str, float] | Path | None = None
    """Pieces of a published vocabulary and the logarithms of their probabilities, or the file that
    holds them (`read_prior`). With it texts may be left out."""
    protect: Sequence[str] = ()
    """Texts that must keep their ids; needed for scripts that English uses."""


USUAL = Wishes()


class WishKeywords(TypedDict, total=False):
    """The same as keyword arguments; see `Wishes`."""

    punctuation: Punctuation
    required: str | Path
    prior: Mapping[str, float] | Path | None
    protect: Sequence[str]
