"""Characters of a text as numbers: what is compared, which script, which word."""

import unicodedata
from collections.abc import Sequence
from functools import cache

import numpy as np
import numpy.typing as npt
import regex

from hanpaca.errors import RecipeError

Codes = npt.NDArray[np.uint32]
"""Code points."""
SCRIPTS = (
    *("Latin", "Han", "Hiragana", "Katakana", "Hangul", "Bopomofo", "Yi", "Cyrillic", "Greek"),
    *("Arabic", "Hebrew", "Devanagari", "Bengali", "Tibetan", "Ethiopic", "Armenian", "Georgian"),
    *("Gujarati", "Gurmukhi", "Kannada", "Khmer", "Lao", "Malayalam", "Mongolian", "Myanmar"),
    *("Oriya", "Sinhala", "Tamil", "Telugu", "Thaana", "Thai", "Syriac", "Cherokee"),
)
"""Scripts that are told apart, by their Unicode names; letters of others are `other`."""
OTHER = "other"
_UNSPACED = r"\p{Han}\p{Hiragana}\p{Katakana}\p{Bopomofo}\p{Yi}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}"
_NUM_CODES = 0x110000
_NUM_TABLED = 0x32400
"""Beyond the last CJK extension there are no letters of a living script."""
SIGN, IN_WORD, ALONE = 0, 1, 2
"""Kinds of characters: not counted, part of a word, a unit by itself."""


def normalised(text: str) -> str:
    r"""What two texts are compared by: NFKC, without case, white space made one space.

    >>> normalised("ＬＬａＭＡ \n　模型")
    'llama 模型'
    """
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def codes_of(text: str) -> Codes:
    """Code points, `(characters,)`."""
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype="<u4")


def count_scripts(codes: Codes) -> npt.NDArray[np.int64]:
    """Count the letters of each of `SCRIPTS` and then of others, `(scripts + 1,)`."""
    found = np.bincount(_script_table()[codes], minlength=len(SCRIPTS) + 2)
    return found[1:]


def script_numbers(scripts: Sequence[str]) -> list[int]:
    """Positions of scripts in what `count_scripts` gives.

    Raises:
        RecipeError: A script is not among `SCRIPTS`.
    """
    known = {name.lower(): number for number, name in enumerate(SCRIPTS)}
    for name in scripts:
        if name.lower() not in known:
            raise RecipeError(f"scripts: {name!r} is not one of {', '.join(SCRIPTS)}")
    return [known[name.lower()] for name in scripts]


@cache
def kind_table() -> npt.NDArray[np.uint8]:
    """`SIGN`, `IN_WORD` or `ALONE` of every code point."""
    table = np.zeros(_NUM_CODES, np.uint8)
    table[_matching(r"[\p{L}\p{M}\p{N}]")] = IN_WORD
    table[_matching(f"[{_UNSPACED}]")] = ALONE
    return table


@cache
def _script_table() -> npt.NDArray[np.uint8]:
    """Of every code point: 0 if no letter, else 1 + its place in `SCRIPTS`."""
    table = np.zeros(_NUM_CODES, np.uint8)
    table[_matching(r"\p{L}")] = len(SCRIPTS) + 1
    for number, name in enumerate(SCRIPTS, start=1):
        table[_matching(rf"(?V1)[\p{{L}}&&\p{{Script={name}}}]")] = number
    return table


def _matching(pattern: str) -> Codes:
    points = [*range(0xD800), *range(0xE000, _NUM_TABLED)]
    return codes_of("".join(regex.findall(pattern, "".join(map(chr, points)))))
