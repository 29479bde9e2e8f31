"""Instructions that say nearly what an earlier one says, by ROUGE-L (Lin 2004).

ROUGE-L is the F1 of the longest common subsequence; .7 is Self-Instruct's bound (arXiv 2212.10560),
there over words. Here a unit is one character of a script without spaces, or else one word.

Two texts share at most as many units in order as they share at all. So those that cannot reach the
bound are passed over by a count of shared units, through lists of the texts that hold each; the
rest, a handful, are compared exactly, and nothing is lost. MinHash of character 3-grams, the usual
first sieve, does lose some: where every fourth character is another (ROUGE-L .75), one 3-gram in
four stays, a Jaccard similarity of .14.
"""

import math
from array import array
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import regex

from hanpaca.data.cleaning.characters import normalised

_UNSPACED = r"\p{Han}\p{Hiragana}\p{Katakana}\p{Bopomofo}\p{Yi}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}"
_UNIT = regex.compile(rf"[{_UNSPACED}]|[\p{{L}}\p{{M}}\p{{N}}--[{_UNSPACED}]]+", regex.V1)
_Symbol = tuple[str, int]
"""A unit and how many of it stand before it in its text."""
NOBODY = -1


def units_of(text: str) -> list[str]:
    """What texts are compared in; signs and white space do not count.

    >>> units_of("用 LoRA 微调。")
    ['用', 'lora', '微', '调']
    """
    found: list[str] = _UNIT.findall(normalised(text))
    return found


def rouge_l(one: Sequence[str], other: Sequence[str]) -> float:
    """F1 of the longest common subsequence, from 0 to 1.

    >>> rouge_l("床前明月光", "床前看月光")
    0.8
    """
    if not one or not other:
        return float(not one and not other)
    return 2 * _common(one, other) / (len(one) + len(other))


def _common(one: Sequence[str], other: Sequence[str]) -> int:
    """Length of the longest common subsequence.

    All rows of a column at once, as bits of a number (Crochemore and others 2001).
    """
    places: dict[str, int] = {}
    for place, unit in enumerate(one):
        places[unit] = places.get(unit, 0) | 1 << place
    whole = (1 << len(one)) - 1
    column = whole
    for unit in other:
        matched = column & places.get(unit, 0)
        column = ((column + matched) | (column - matched)) & whole
    return len(one) - column.bit_count()


@dataclass
class KeptTexts:
    """The texts that are kept so far."""

    most_alike: float
    """ROUGE-L from which a text is too much like one of them."""
    texts: list[list[str]] = field(default_factory=list)
    _holding: dict[_Symbol, "array[int]"] = field(default_factory=dict)
    """Of each symbol the numbers of the texts that hold it."""
    _sizes: "array[int]" = field(default_factory=lambda: array("i"))

    def add(self, units: list[str]) -> None:
        """Keep a text."""
        for symbol in _symbols(units):
            self._holding.setdefault(symbol, array("i")).append(len(self.texts))
        self.texts.append(units)
        self._sizes.append(len(units))

    def nearest(self, units: list[str]) -> int:
        """The first text that this one is too much like, or `NOBODY`."""
        for number in self._candidates(units):
            if rouge_l(units, self.texts[number]) >= self.most_alike - 1e-9:
                return number
        return NOBODY

    def _candidates(self, units: list[str]) -> list[int]:
        """Texts that share so many units that the bound can be reached, in order."""
        if not units:
            return [number for number, text in enumerate(self.texts) if not text]
        shared = self._shared(units)
        if shared is None:
            return []
        sizes = np.frombuffer(self._sizes, np.int32)
        needed = self.most_alike * (sizes + len(units)) / 2 - 1e-6
        found: list[int] = np.flatnonzero((shared >= needed) & (shared > 0)).tolist()
        return found

    def _shared(self, units: list[str]) -> npt.NDArray[np.int64] | None:
        """Of each text how many units it shares with this one, `(texts,)`.

        None where none can share enough: what reaches the bound is not much shorter than this one.
        """
        lists = [self._holding[one] for one in _symbols(units) if one in self._holding]
        least = math.ceil(self.most_alike / (2 - self.most_alike) * len(units) - 1e-9)
        if len(lists) < least:
            return None
        joined = np.concatenate([np.frombuffer(one, np.int32) for one in lists])
        return np.bincount(joined, minlength=len(self.texts))


def _symbols(units: list[str]) -> Iterator[_Symbol]:
    """Each unit with its number, so that what two texts share is counted as often."""
    seen: Counter[str] = Counter()
    for unit in units:
        yield unit, seen[unit]
        seen[unit] += 1
