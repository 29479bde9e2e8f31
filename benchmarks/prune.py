r"""What a smaller vocabulary saves, and what it costs text that was not protected.

English is cut into stretches of lines; one in five is put aside, and more and more of the others
are protected beside all of the Chinese. Bits per character are those of the same model before and
after. Training steps are LoRA of rank 32 and one new row, two blocks of 256 tokens, in turn:

    python -m benchmarks.prune ~/.cache/hanpaca/models/b179c9523d0e6a0f \
        --english en.txt.zst --chinese zh.jsonl.zst
"""

import argparse
import json
import platform
import tempfile
import time
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch

from benchmarks.throughput import hanpaca
from hanpaca.data.documents import read_documents
from hanpaca.steps.prune import prune
from hanpaca.steps.text_scores import score_folder
from hanpaca.training.train import BlockDataset

RESULT = Path(__file__).parent / "results" / "prune.json"
LINES, ONE_IN, MEASURED, CHARACTERS = 20, 5, 30, 800
"""Lines of a stretch; one in so many stretches is not protected; how many are scored, so far."""
MOST_CHINESE = 2_000
"""Documents."""
STEPS = 6


def stretches(texts: Iterator[str]) -> list[str]:
    """Some lines each."""
    lines = [line for text in texts for line in text.splitlines(keepends=True)]
    return ["".join(lines[at : at + LINES]) for at in range(0, len(lines), LINES)]


def bits(model: Path, texts: Sequence[str]) -> dict[str, float]:
    """Bits and tokens for a character."""
    score = score_folder(model, [text[:CHARACTERS] for text in texts], scripts=())
    return {
        "bits_per_character": round(score.bits_per_character, 5),
        "tokens_per_character": round(score.tokens_per_character, 5),
    }


def weights_megabytes(folder: Path) -> float:
    """Of the files of weights."""
    return round(sum(file.stat().st_size for file in folder.glob("*.safetensors")) / 1e6, 1)


def steps_per_second(folder: Path) -> float:
    """Of training steps on ids drawn at random."""
    num_rows = json.loads((folder / "config.json").read_text(encoding="utf-8"))["vocab_size"]
    ids = np.random.default_rng(0).integers(3, num_rows, size=(2 * STEPS, 256)).astype(np.int64)
    blocks = BlockDataset(ids, ids, np.tile(np.arange(256), (len(ids), 1)))
    return hanpaca(folder, blocks, 1) / 512


def main() -> None:
    """Measure, print, and write the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("base", type=Path)
    parser.add_argument("--english", type=Path, required=True)
    parser.add_argument("--chinese", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=3, help="of training; 0 measures none")
    options = parser.parse_args()
    english = stretches(one.text for one in read_documents([options.english]))
    chinese = [one.text for one in islice(read_documents([options.chinese]), MOST_CHINESE)]
    unseen = [text for number, text in enumerate(english) if number % ONE_IN == 0]
    known = [text for number, text in enumerate(english) if number % ONE_IN]
    asked = {"unseen English": unseen[:MEASURED], "protected English": known[:MEASURED]}
    asked["protected Chinese"] = chinese[:MEASURED]
    base: dict[str, Any] = {name: bits(options.base, texts) for name, texts in asked.items()}
    base |= {"megabytes": weights_megabytes(options.base)}
    arms: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as scratch:
        folders = {"base": options.base}
        for share in (0.25, 0.5, 1.0):
            name = f"{share:.0%} protected"
            folders[name] = folder = Path(scratch) / name.split("%", maxsplit=1)[0]
            began = time.perf_counter()
            found = prune(options.base, [*known[: round(share * len(known))], *chinese], folder)
            arms[name] = {
                "protected_english_megabytes": round(
                    sum(len(one.encode()) for one in known[: round(share * len(known))]) / 1e6, 2
                ),
                "entries": [found.num_before, found.num_after],
                "told_growth": found.unseen_growth,
                "seconds": round(time.perf_counter() - began, 1),
                "megabytes": weights_megabytes(folder),
                **{one: bits(folder, texts) for one, texts in asked.items()},
            }
            print(name, json.dumps(arms[name]), flush=True)
        speeds: dict[str, list[float]] = {name: [] for name in folders}
        for _ in range(options.rounds):
            for name, folder in folders.items():
                speeds[name].append(round(steps_per_second(folder), 4))
    result = {
        "machine": f"{platform.machine()}, {torch.get_num_threads()} threads",
        "base": base,
        "arms": arms,
        "training_steps_per_second": speeds,
        "faster": {
            name: round(median(found) / median(speeds["base"]), 3)
            for name, found in speeds.items()
            if found
        },
    }
    RESULT.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(result["faster"]))


if __name__ == "__main__":
    main()
