"""Signatures of texts by which near duplicates are found without holding the texts.

MinHash (Broder 1997): of the hashes of a text's shingles, the smallest; under a random hash, two
texts agree in it with the probability of their Jaccard similarity. A signature holds one byte of
each of 126 such minima (b-bit minwise hashing, Li and König 2010: two different minima agree by
chance in one of 256). Texts are compared if they agree in all bytes of one band of the signature,
and then by all of it.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hanpaca.data.cleaning.characters import Codes

SHINGLE = 5
"""Characters of one."""
NUM_VALUES = 126
"""Of a signature; divides into bands of 2, 3, 6, 7, 9, 14 and 18."""
_CHANCE = 1 / 256
_CANDIDATE = 0.98
"""At least this share of pairs at the threshold must share a band."""
_SPREAD = np.uint64(0x9E3779B97F4A7C15)
_MIX = np.uint64(0xBF58476D1CE4E5B9)
_FOLD = np.uint32(0x9E3779B1)
_BLOCK = 1 << 15
"""Shingles hashed at a time: so many stay in a core's cache."""
Signatures = npt.NDArray[np.uint8]
"""One row a text, `(texts, NUM_VALUES)`."""


@dataclass(frozen=True)
class Banding:
    """How signatures are compared for one threshold."""

    threshold: float
    """Jaccard similarity from which two texts are near duplicates."""
    num_rows: int
    """Bytes of a band."""

    @classmethod
    def of(cls, threshold: float) -> "Banding":
        """The widest bands that let at most one pair in fifty at the threshold pass."""
        agree = _agreement(threshold)
        for num_rows in (18, 14, 9, 7, 6, 3):
            if 1 - (1 - agree**num_rows) ** (NUM_VALUES // num_rows) >= _CANDIDATE:
                return cls(threshold, num_rows)
        return cls(threshold, 2)

    @property
    def num_bands(self) -> int:
        """Bands of a signature."""
        return NUM_VALUES // self.num_rows

    @property
    def num_agreeing(self) -> int:
        """Bytes in which near duplicates agree, at least."""
        return math.ceil(NUM_VALUES * _agreement(self.threshold) - 1e-9)

    def found_probability(self, jaccard: float) -> float:
        """Chance that two texts of this similarity are taken for near duplicates.

        Exact for random hashes: over bands, the distribution of how many bytes agree, with those
        cases apart in which no band agrees as a whole.
        """
        agree = _agreement(jaccard)
        counts = np.arange(self.num_rows + 1)
        ways = np.array([math.comb(self.num_rows, int(count)) for count in counts])
        one = ways * agree**counts * (1 - agree) ** (self.num_rows - counts)
        without_whole = one.copy()
        without_whole[-1] = 0
        anyhow, no_band = np.ones(1), np.ones(1)
        for _ in range(self.num_bands):
            anyhow, no_band = np.convolve(anyhow, one), np.convolve(no_band, without_whole)
        return float((anyhow - no_band)[self.num_agreeing :].sum())

    def keys(self, signatures: Signatures, band: int) -> npt.NDArray[np.uint64]:
        """One number for each text, equal where the band is, `(texts,)`."""
        keys = np.zeros(len(signatures), np.uint64)
        for column in range(band * self.num_rows, (band + 1) * self.num_rows):
            keys = (keys ^ signatures[:, column]) * _MIX
            keys ^= keys >> np.uint64(29)
        return keys


def signatures_of(texts: Sequence[Codes]) -> Signatures:
    """Signatures of texts, `(texts, NUM_VALUES)`; the same on every machine.

    Args:
        texts: Code points of each, normalised; a text shorter than a shingle is one shingle.
    """
    found = np.full((NUM_VALUES, len(texts)), 0xFFFFFFFF, np.uint32)
    first = 0
    for stop in _cuts(texts):
        _add_minima([shingle_hashes(text) for text in texts[first:stop]], found[:, first:stop])
        first = stop
    return ((found * _FOLD) >> np.uint32(24)).astype(np.uint8).T.copy()


def shingle_hashes(codes: Codes) -> npt.NDArray[np.uint32]:
    """Hash each run of `SHINGLE` characters of a text, `(max(1, characters - 4),)`."""
    if len(codes) < SHINGLE:
        codes = np.concatenate([codes, np.zeros(SHINGLE - len(codes), np.uint32)])
    length = len(codes) - SHINGLE + 1
    total = np.zeros(length, np.uint64)
    for offset in range(SHINGLE):
        total += codes[offset : offset + length]
        total *= _SPREAD
    total ^= total >> np.uint64(32)
    total *= _MIX
    return (total >> np.uint64(32)).astype(np.uint32)


def _agreement(jaccard: float) -> float:
    return jaccard + (1 - jaccard) * _CHANCE


def _cuts(texts: Sequence[Codes]) -> list[int]:
    """Where to cut the texts into stretches of about `_BLOCK` characters."""
    cuts, size = [], 0
    for number, text in enumerate(texts, start=1):
        size += len(text)
        if size >= _BLOCK or number == len(texts):
            cuts.append(number)
            size = 0
    return cuts


def _add_minima(hashes: list[npt.NDArray[np.uint32]], found: npt.NDArray[np.uint32]) -> None:
    """Fill in the minima of each text under each hash, `(NUM_VALUES, texts)`."""
    joined = np.concatenate(hashes)
    if len(hashes) == 1:
        for first in range(0, len(joined), _BLOCK):
            _lower(joined[first : first + _BLOCK], np.zeros(1, np.intp), found)
        return
    lengths = [len(one) for one in hashes]
    _lower(joined, np.cumsum([0, *lengths[:-1]]), found)


def _lower(
    joined: npt.NDArray[np.uint32], starts: npt.NDArray[np.intp], found: npt.NDArray[np.uint32]
) -> None:
    hashed = np.empty_like(joined)
    for number, (factor, shift) in enumerate(zip(_FACTORS, _SHIFTS, strict=True)):
        np.multiply(joined, factor, out=hashed)
        np.add(hashed, shift, out=hashed)
        np.minimum(found[number], np.minimum.reduceat(hashed, starts), out=found[number])


def _drawn() -> tuple[npt.NDArray[np.uint32], npt.NDArray[np.uint32]]:
    random = np.random.Generator(np.random.PCG64(5))
    factors = random.integers(0, 2**32, NUM_VALUES, np.uint32) | np.uint32(1)
    return factors, random.integers(0, 2**32, NUM_VALUES, np.uint32)


_FACTORS, _SHIFTS = _drawn()
