"""Evaluation texts inside training texts, found by runs of units (13-grams, as GPT-3's paper did).

A unit is one character of a script without spaces, or else one word; signs and white space do not
count. So a run of 13 is 13 Han characters or 13 English words, and a mixed text needs 13 of both.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hanpaca.data.cleaning.characters import ALONE, IN_WORD, SIGN, Codes, codes_of, kind_table

_SPREAD = np.uint64(0x9E3779B97F4A7C15)
_MIX = np.uint64(0xBF58476D1CE4E5B9)
_LONGEST_WORD = 64
"""Characters of a word that count by their place; later ones count as this one."""
_FILTER_BITS = 24
Hashes = npt.NDArray[np.uint64]


@dataclass(frozen=True)
class Grams:
    """What evaluation texts hold, and how to find it in others."""

    num_units: int
    """Units of a run."""
    hashes: Hashes
    """Of every run, sorted."""
    maybe: npt.NDArray[np.bool_]
    """By the first bits of a hash: whether any begins so."""
    num_texts: int
    """Evaluation texts that were read."""
    num_short: int
    """Of them, those of fewer units than a run, which are not looked for."""

    @classmethod
    def of(cls, texts: Iterable[str], *, num_units: int) -> "Grams":
        """Take all runs of the evaluation texts; `texts` are normalised."""
        runs, num_texts, num_short = [], 0, 0
        for text in texts:
            found = _run_hashes(codes_of(text), num_units)
            num_texts, num_short = num_texts + 1, num_short + (not len(found))
            runs.append(found)
        hashes = np.unique(np.concatenate(runs)) if runs else np.empty(0, np.uint64)
        maybe = np.zeros(1 << _FILTER_BITS, bool)
        maybe[_first_bits(hashes)] = True
        return cls(num_units, hashes, maybe, num_texts, num_short)

    def are_in(self, codes: Codes) -> bool:
        """Tell whether a text, normalised, shares a run with an evaluation text."""
        found = _run_hashes(codes, self.num_units)
        found = found[self.maybe[_first_bits(found)]]
        if not len(found):
            return False
        places = np.searchsorted(self.hashes, found)
        return bool((self.hashes[np.minimum(places, len(self.hashes) - 1)] == found).any())


def _first_bits(hashes: Hashes) -> npt.NDArray[np.int64]:
    return (hashes >> np.uint64(64 - _FILTER_BITS)).astype(np.int64)


def _unit_starts(kinds: npt.NDArray[np.uint8]) -> npt.NDArray[np.int64]:
    """Places where a unit begins."""
    in_word = kinds == IN_WORD
    begins = in_word.copy()
    begins[1:] &= ~in_word[:-1]
    return np.flatnonzero(begins | (kinds == ALONE))


def _run_hashes(codes: Codes, num_units: int) -> Hashes:
    """Hash each run of units of a text, `(max(0, units - num_units + 1),)`."""
    kinds = kind_table()[codes]
    starts = _unit_starts(kinds)
    length = len(starts) - num_units + 1
    if length < 1:
        return np.empty(0, np.uint64)
    inside = np.flatnonzero(kinds != SIGN)
    firsts = np.searchsorted(inside, starts)
    within = np.arange(len(inside)) - np.repeat(firsts, np.diff(firsts, append=len(inside)))
    spread = codes[inside] * _POWERS[np.minimum(within, _LONGEST_WORD - 1)]
    units = _mixed(np.add.reduceat(spread, firsts))
    total = np.zeros(length, np.uint64)
    for offset in range(num_units):
        total += units[offset : offset + length]
        total *= _SPREAD
    return _mixed(total)


def _mixed(numbers: Hashes) -> Hashes:
    numbers = (numbers ^ (numbers >> np.uint64(32))) * _MIX
    return numbers ^ (numbers >> np.uint64(29))


def _powers() -> Hashes:
    with np.errstate(over="ignore"):
        return np.cumprod(np.full(_LONGEST_WORD, _SPREAD), dtype=np.uint64)


_POWERS = _powers()
