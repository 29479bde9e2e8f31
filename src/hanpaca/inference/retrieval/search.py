"""Passages that are like a question, by BM25 over its terms (Robertson and Zaragoza 2009)."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from hanpaca.inference.retrieval.index import Index
from hanpaca.inference.retrieval.terms import query_of, terms_of

_K1, _B = 1.2, 0.75
_MOST_ROWS = 4_000
"""Passages weighed by SQLite: those with the rarest terms. Of 100,000 passages a question's common
terms bring up tens of thousands, which would take 40 ms and more."""
_LEAST_TERMS = 2
_CANDIDATES = 40
"""Of them the best by rare terms, which are then weighed by all."""


@dataclass(frozen=True, slots=True)
class Hit:
    """A passage that has terms of a question."""

    number: int
    """Of the passage, in the index."""
    score: float
    """Its BM25; the higher the better."""
    share: float
    """Of the weight of the question's terms, what the passage has, from 0 to 1."""
    similarity: float = 0.0
    """Cosine of its vector and the question's, where there are vectors."""


@dataclass(frozen=True, slots=True)
class _Query:
    words: Sequence[str]
    prefixes: Sequence[str]
    num_having: Mapping[str, int]
    """Passages that have each term."""

    @property
    def all(self) -> list[str]:
        return [*self.words, *self.prefixes]

    def rarest(self) -> list[str]:
        """Terms that bring up at most `_MOST_ROWS` passages, but `_LEAST_TERMS` in any case."""
        kept: list[str] = []
        total = 0
        for term in sorted(self.num_having, key=self.num_having.__getitem__):
            total += self.num_having[term]
            if total > _MOST_ROWS and len(kept) >= _LEAST_TERMS:
                break
            kept.append(term)
        return kept

    def matched(self, terms: Iterable[str]) -> str:
        """As FTS5 is asked."""
        prefixes = set(self.prefixes)
        return " OR ".join(f'"{one}"*' if one in prefixes else f'"{one}"' for one in terms)

    def counts(self, text: str) -> list[int]:
        """How often a text has each of `all`."""
        found = Counter(terms_of(text))
        by_prefix = [sum(found[one] for one in found if one[0] == p) for p in self.prefixes]
        return [*(found[one] for one in self.words), *by_prefix]


def search(index: Index, question: str, *, num_hits: int) -> list[Hit]:
    """The passages most like a question, best first.

    Args:
        index: Of all passages.
        question: Words that only ask should be taken out of it before.
        num_hits: At most.
    """
    query = _looked_up(index, question)
    if not query.num_having:
        return []
    asked = f"SELECT rowid FROM words WHERE words MATCH ? ORDER BY rank LIMIT {_CANDIDATES}"
    rows = index.database.execute(asked, (query.matched(query.rarest()),)).fetchall()
    num_passages, num_terms = index.totals()
    weights = [_weight(query.num_having.get(term, 0), num_passages) for term in query.all]
    hits = []
    for (number,) in rows:
        text, size = index.database.execute(
            "SELECT text, num_terms FROM passages WHERE id = ?", (number,)
        ).fetchone()
        counts = query.counts(text)
        long = _K1 * (1 - _B + _B * size * num_passages / max(1, num_terms))
        score = sum(w * n * (_K1 + 1) / (n + long) for w, n in zip(weights, counts, strict=True))
        had = sum(weight for weight, count in zip(weights, counts, strict=True) if count)
        hits.append(Hit(number, score, had / sum(weights)))
    return sorted(hits, key=lambda hit: (-hit.score, hit.number))[:num_hits]


def _looked_up(index: Index, question: str) -> _Query:
    words, prefixes = query_of(question)
    having = index.num_having(words)
    for one in prefixes:
        asked = "SELECT count(*) FROM words WHERE words MATCH ?"
        (number,) = index.database.execute(asked, (f'"{one}"*',)).fetchone()
        if number:
            having[one] = number
    return _Query(words, prefixes, having)


def _weight(num_having: int, num_passages: int) -> float:
    return math.log(1 + (num_passages - num_having + 0.5) / (num_having + 0.5))
