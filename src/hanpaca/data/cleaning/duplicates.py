"""Which texts say what an earlier one says: the first of each stays."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hanpaca.data.cleaning.minhash import Banding, Signatures
from hanpaca.progress import Progress, Tell, silent

NONE = -1
"""In place of the number of an earlier text: there is none."""
_TOLD_EVERY = 10_000
Numbers = npt.NDArray[np.int32]


def exact_duplicates(digests: npt.NDArray[np.uint64]) -> Numbers:
    """Of each text the number of the first with the same digest, or `NONE`, `(texts,)`.

    >>> exact_duplicates(np.array([7, 8, 7, 7], np.uint64)).tolist()
    [-1, -1, 0, 0]
    """
    order = np.argsort(digests, kind="stable")
    starts = _group_starts(digests[order])
    firsts = np.empty(len(digests), np.int32)
    firsts[order] = order[starts]
    firsts[firsts == np.arange(len(digests))] = NONE
    return firsts


def near_duplicates(
    signatures: Signatures,
    banding: Banding,
    *,
    passed: npt.NDArray[np.bool_] | None = None,
    tell: Tell = silent,
) -> Numbers:
    """Of each text the number of a kept earlier one that is near to it, or `NONE`, `(texts,)`.

    In order: a text goes if it is near to one that stays, so that each that goes has its like among
    those that stay, and no two that stay would be found near to each other.

    Args:
        signatures: Of the texts, `(texts, bytes)`.
        banding: From which similarity texts are near.
        passed: Texts that are passed over, as they go anyway.
        tell: Called with signs of life.
    """
    keys = (banding.keys(signatures, band) for band in range(banding.num_bands))
    bands = [_band(one) for one in keys]
    shared = np.zeros(len(signatures), bool)
    for band in bands:
        shared |= band.start >= 0
    found = np.full(len(signatures), NONE, np.int32)
    if passed is not None:
        shared &= ~passed
    numbers = np.flatnonzero(shared).tolist()
    for done, number in enumerate(numbers):
        if done % _TOLD_EVERY == 0:
            tell(Progress(done, len(numbers), "rows", "comparing rows"))
        found[number] = _nearest(number, bands, signatures, banding.num_agreeing)
        if found[number] == NONE:
            for band in bands:
                band.keep(number)
    return found


@dataclass
class _Band:
    """Texts that agree with others in one band, group by group, in order."""

    members: Numbers
    """Numbers of texts; as texts are judged, the kept ones of a group move to its beginning."""
    start: Numbers
    """Of each text the beginning of its group in `members`, or `NONE`, `(texts,)`."""
    num_kept: Numbers
    """At the beginning of a group: how many of it are kept so far."""

    def kept(self, number: int) -> Numbers:
        """Texts that are kept so far and agree with this one."""
        start = self.start[number]
        return self.members[start : start + self.num_kept[start]] if start >= 0 else _NOBODY

    def keep(self, number: int) -> None:
        """Count this text among the kept."""
        start = self.start[number]
        if start >= 0:
            # Its own place in the group is here or later: what is overwritten was judged before.
            self.members[start + self.num_kept[start]] = number
            self.num_kept[start] += 1


_NOBODY: Numbers = np.empty(0, np.int32)


def _nearest(number: int, bands: list[_Band], signatures: Signatures, num_agreeing: int) -> int:
    """The most similar kept text, the first of several; or `NONE`."""
    candidates = np.unique(np.concatenate([band.kept(number) for band in bands]))
    if not len(candidates):
        return NONE
    agreeing = np.count_nonzero(signatures[candidates] == signatures[number], axis=1)
    best = int(np.argmax(agreeing))
    return int(candidates[best]) if agreeing[best] >= num_agreeing else NONE


def _band(keys: npt.NDArray[np.uint64]) -> _Band:
    order = np.argsort(keys, kind="stable")
    starts = _group_starts(keys[order])
    shared = np.bincount(starts, minlength=len(keys))[starts] > 1
    members = order[shared].astype(np.int32)
    packed_starts = (np.cumsum(shared) - 1)[starts[shared]]
    start = np.full(len(keys), NONE, np.int32)
    start[members] = packed_starts
    return _Band(members, start, np.zeros(len(members), np.int32))


def _group_starts(ordered: npt.NDArray[np.uint64]) -> npt.NDArray[np.int64]:
    """Where the run of equal numbers begins in which each number stands."""
    is_first = np.ones(len(ordered), bool)
    is_first[1:] = ordered[1:] != ordered[:-1]
    starts: npt.NDArray[np.int64] = np.flatnonzero(is_first)[np.cumsum(is_first) - 1]
    return starts
