"""Passages by meaning, beside those by words: vectors in the index, and one order out of two."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from hanpaca.errors import ArtifactError
from hanpaca.inference.retrieval.embedders import Embedder
from hanpaca.inference.retrieval.index import Index
from hanpaca.inference.retrieval.search import Hit
from hanpaca.progress import Progress, Tell, silent

_TEXTS = 32
"""Given to an embedder, and kept, at a time."""
_FUSION = 60
"""Of reciprocal rank fusion (Cormack, Clarke and Büttcher 2009): how little the first ranks are
above those that follow."""


def embedder_of(index: Index) -> str | None:
    """Where the embedder of an index is; None where it has no vectors."""
    row = index.database.execute("SELECT place FROM embedder").fetchone()
    return str(row[0]) if row else None


def embed_missing(index: Index, embedder: Embedder, place: str, *, tell: Tell = silent) -> int:
    """Give vectors to the passages that have none; those of another embedder are replaced.

    Returns:
        How many were made now.
    """
    with index.changing():
        kept = index.database.execute("SELECT key FROM embedder").fetchone()
        if kept != (embedder.key,):
            index.database.execute("DELETE FROM vectors")
        index.database.execute("DELETE FROM embedder")
        index.database.execute("INSERT INTO embedder VALUES(?, ?)", (place, embedder.key))
    missing = "FROM passages WHERE id NOT IN (SELECT passage FROM vectors)"
    (total,) = index.database.execute(f"SELECT count(*) {missing}").fetchone()
    done = 0
    asked = f"SELECT id, text {missing} ORDER BY id LIMIT {_TEXTS}"
    while rows := index.database.execute(asked).fetchall():
        found = embedder.vectors([text for _, text in rows]).astype("<f2")
        with index.changing():
            index.database.executemany(
                "INSERT INTO vectors VALUES(?, ?)",
                ((number, one.tobytes()) for (number, _), one in zip(rows, found, strict=True)),
            )
        done += len(rows)
        tell(Progress(done, total, "passages", "vectors"))
    return done


def similar(index: Index, embedder: Embedder, question: str, *, num_hits: int) -> list[Hit]:
    """The passages whose vectors are nearest to a question's, best first.

    Raises:
        ArtifactError: The vectors kept are another embedder's.
    """
    kept_key = index.database.execute("SELECT key FROM embedder").fetchone()
    if kept_key != (embedder.key,):
        found = f"{index.path}: its vectors are not of this embedder, which has changed"
        raise ArtifactError(found, "read the documents again with {ask_add()}")
    (vector,) = embedder.vectors([question], question=True)
    rows = index.database.execute("SELECT passage, vector FROM vectors").fetchall()
    if not rows:
        return []
    kept = np.frombuffer(b"".join(one for _, one in rows), "<f2").astype(np.float32)
    cosines = kept.reshape(len(rows), -1) @ vector
    best = np.argsort(-cosines, kind="stable")[:num_hits]
    return [Hit(rows[one][0], 0.0, 0.0, float(cosines[one])) for one in best]


def fused(lexical: Sequence[Hit], dense: Sequence[Hit], *, num_hits: int) -> list[Hit]:
    """One order out of two, by reciprocal ranks; a hit's score is then their sum.

    >>> both = fused([Hit(1, 9, 1), Hit(2, 8, 1)], [Hit(2, 0, 0, 0.9)], num_hits=2)
    >>> [(hit.number, hit.similarity) for hit in both]
    [(2, 0.9), (1, 0.0)]
    """
    scores: dict[int, float] = {}
    for hits in (lexical, dense):
        for rank, hit in enumerate(hits, start=1):
            scores[hit.number] = scores.get(hit.number, 0.0) + 1 / (_FUSION + rank)
    shares = {hit.number: hit for hit in lexical}
    cosines = {hit.number: hit.similarity for hit in dense}
    every = {hit.number: hit for hit in (*dense, *lexical)}
    joined = [
        replace(shares.get(number, every[number]), score=score, similarity=cosines.get(number, 0.0))
        for number, score in scores.items()
    ]
    return sorted(joined, key=lambda hit: (-hit.score, hit.number))[:num_hits]
