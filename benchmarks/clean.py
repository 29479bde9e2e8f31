"""Cleaning of a million documents: documents a second, memory, and how many duplicates are found.

The documents are made of a stock of sentences, so that unrelated ones share some; every twentieth
is an earlier one with one character in fifty changed (a Jaccard similarity about .82), every
fiftieth an earlier one as it is:

    python benchmarks/clean.py --documents 1000000
"""

import argparse
import json
import platform
import resource
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from hanpaca.data.cleaning.settings import CleanSettings
from hanpaca.steps.check_data import check_data
from hanpaca.steps.clean_data import clean_data

RESULT = Path(__file__).parent / "results" / "clean.json"
SENTENCES, PER_DOCUMENT = 200_000, 15
NEAR_EVERY, EXACT_EVERY, CHANGED = 20, 50, 0.02
BACK = 50_000


@dataclass(frozen=True)
class Numbers:
    """What one command took."""

    num_documents: int
    num_characters: int
    num_exact: int
    num_near: int
    seconds: float
    documents_per_second: float
    peak_mb: float


def documents(number: int, seed: int = 0) -> Iterator[str]:
    """Documents of 15 sentences of 10 to 50 characters."""
    random = np.random.default_rng(seed)
    lengths = random.integers(10, 50, SENTENCES)
    stock = [random.integers(0x4E00, 0x9FA0, length, np.uint32) for length in lengths]
    held: list[np.ndarray] = []
    for one in range(number):
        before = held[int(random.integers(len(held)))] if held else None
        if before is not None and one % EXACT_EVERY == 0:
            codes = before
        elif before is not None and one % NEAR_EVERY == 1:
            codes = before.copy()
            places = random.random(len(codes)) < CHANGED
            codes[places] = random.integers(0x4E00, 0x9FA0, int(places.sum()))
        else:
            codes = np.concatenate([stock[i] for i in random.integers(0, SENTENCES, PER_DOCUMENT)])
            held = [*held[-BACK:], codes] if one % 100 == 0 else held
        yield codes.astype("<u4").tobytes().decode("utf-32-le")


def main() -> None:
    """Measure check and clean, and keep the numbers."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--documents", type=int, default=1_000_000)
    options.add_argument("--near", type=float, default=0.8, help="Jaccard similarity.")
    given = options.parse_args()
    rules = CleanSettings(near_duplicates=given.near)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "in.jsonl"
        with path.open("w", encoding="utf-8") as stream:
            for text in documents(given.documents):
                stream.write(json.dumps({"text": text}, ensure_ascii=False) + "\n")
        found = {}
        for name in ("check", "clean"):
            began = time.perf_counter()
            if name == "check":
                report = check_data([path], settings=rules)
            else:
                report = clean_data([path], Path(folder) / "out.jsonl", settings=rules)
            seconds = time.perf_counter() - began
            found[name] = asdict(
                Numbers(
                    report.num_rows,
                    report.characters.total,
                    report.dropped.get("exact duplicate", 0),
                    report.dropped.get("near duplicate", 0),
                    round(seconds, 1),
                    round(report.num_rows / seconds),
                    round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3),
                )
            )
            print(name, found[name], flush=True)
    machine = {"python": platform.python_version(), "processor": platform.machine()}
    RESULT.write_text(json.dumps({"machine": machine, **found}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
