"""Where two tokenizers cut the same text into other pieces."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from hanpaca.tokenizer.vocabulary import text_of

_CONTEXT_BYTES = 40

Token = tuple[int, bytes]
"""An id and the bytes it stands for."""
Span = tuple[tuple[bytes, ...], tuple[bytes, ...]]
"""The pieces of a stretch of text before and after."""


@dataclass(frozen=True)
class ChangedStretch:
    """A stretch of text that is cut otherwise than before."""

    before: tuple[str, ...]
    """Its pieces by the base, as people read them."""
    after: tuple[str, ...]
    """Its pieces by the extended tokenizer."""
    count: int
    """How often it was found."""
    text: str
    """The first place where it was found, with its neighbourhood."""


class Changes:
    """Counts the changes found in one text after another."""

    def __init__(self) -> None:
        self.counts: Counter[Span] = Counter()
        self.places: dict[Span, str] = {}

    def add(self, before: Sequence[Token], after: Sequence[Token]) -> None:
        """Count what differs between two encodings of one text."""
        whole = b"".join(surface for _, surface in after)
        for start, end, span in differing_spans(before, after):
            self.counts[span] += 1
            if span not in self.places:
                near = whole[max(0, start - _CONTEXT_BYTES) : end + _CONTEXT_BYTES]
                self.places[span] = near.decode(errors="ignore")

    def most_common(self, limit: int) -> tuple[ChangedStretch, ...]:
        """Give the most frequent changes, those found first among equals."""
        return tuple(
            ChangedStretch(
                tuple(map(text_of, span[0])), tuple(map(text_of, span[1])), count, self.places[span]
            )
            for span, count in self.counts.most_common(limit)
        )


def differing_spans(
    before: Sequence[Token], after: Sequence[Token]
) -> Iterator[tuple[int, int, Span]]:
    """Yield each stretch between two common cuts whose tokens differ: first byte, end, pieces.

    >>> list(differing_spans([(1, b"a"), (2, b"bc"), (3, b"d")], [(1, b"a"), (4, b"bcd")]))
    [(1, 4, ((b'bc', b'd'), (b'bcd',)))]
    """
    i = j = end_before = end_after = first_i = first_j = start = 0
    while i < len(before) or j < len(after):
        if j == len(after) or (i < len(before) and end_before <= end_after):
            end_before += len(before[i][1])
            i += 1
        else:
            end_after += len(after[j][1])
            j += 1
        done = i == len(before) and j == len(after)
        if end_before == end_after or done:
            old, new = before[first_i:i], after[first_j:j]
            if old != new:
                yield start, max(end_before, end_after), (_surfaces(old), _surfaces(new))
            first_i, first_j, start = i, j, end_before


def _surfaces(tokens: Sequence[Token]) -> tuple[bytes, ...]:
    return tuple(surface for _, surface in tokens)
