"""Rows that are too much alike among 50,000: how long it takes, and whether any is missed.

Instructions are sentences of made-up words (Zipf's law), 40 characters each; of every hundred, five
are earlier ones with every fourth character changed (ROUGE-L .75, to go) and five with every second
(.5, to stay). With a file of instructions, those are taken too, as they are:

    python benchmarks/generate.py --instructions zh.jsonl
"""

import argparse
import json
import platform
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from hanpaca.data.generating.alike import NOBODY, KeptTexts, units_of

RESULT = Path(__file__).parent / "results" / "generate.json"
CHARACTERS = 40
FRESH = 0x9000
"""Characters from here on stand in no made-up text."""


def made_up(number: int) -> Iterator[tuple[str, str]]:
    """Texts, and what each is: `new`, `near` or `half`."""
    random = np.random.default_rng(0)
    ranks = np.minimum(random.zipf(1.2, (number, CHARACTERS)), 4000)
    ranks = np.where(ranks == 4000, random.integers(1, 4000, ranks.shape), ranks)
    texts: list[str] = []
    for row in range(number):
        kind = {90: "near", 95: "half"}.get(row % 100 // 5 * 5, "new")
        if kind == "new":
            texts.append("".join(map(chr, 0x4E00 + ranks[row])))
            yield texts[-1], kind
            continue
        every = 4 if kind == "near" else 2
        earlier = texts[int(random.integers(len(texts)))]
        fresh = random.integers(FRESH, FRESH + 0x0FFF, CHARACTERS)
        drawn = enumerate(zip(earlier, fresh, strict=True))
        yield "".join(chr(new) if n % every == 0 else old for n, (old, new) in drawn), kind


def measured(rows: Iterator[tuple[str, str]]) -> dict[str, Any]:
    """Judge rows in order, as generating does."""
    begun, begun_cpu = time.perf_counter(), time.process_time()
    kept, total = KeptTexts(0.7), 0
    dropped: dict[str, list[int]] = {}
    for text, kind in rows:
        total += 1
        units = units_of(text)
        goes = kept.nearest(units) != NOBODY
        dropped.setdefault(kind, [0, 0])[0] += 1
        dropped[kind][1] += goes
        if not goes:
            kept.add(units)
    return {
        "rows": total,
        "seconds": round(time.perf_counter() - begun, 1),
        "cpu_seconds": round(time.process_time() - begun_cpu, 1),
        "dropped": {kind: f"{gone} of {number}" for kind, (number, gone) in dropped.items()},
    }


def given(file: Path) -> Iterator[tuple[str, str]]:
    """Instructions of a file of rows."""
    with file.open(encoding="utf-8") as stream:
        for line in stream:
            row = json.loads(line)
            yield "\n".join(part for part in (row["instruction"], row.get("input")) if part), "real"


def main() -> None:
    """Measure, and keep the numbers."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--rows", type=int, default=50_000)
    options.add_argument("--instructions", type=Path, help="Alpaca rows, one a line.")
    asked = options.parse_args()
    numbers: dict[str, Any] = {
        "machine": {"python": platform.python_version(), "processor": platform.machine()},
        "made_up": measured(made_up(asked.rows)),
    }
    if asked.instructions:
        numbers["instructions"] = measured(given(asked.instructions))
    print(json.dumps(numbers, indent=1))
    RESULT.write_text(json.dumps(numbers, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
