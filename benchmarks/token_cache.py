"""Tokens of a large text: how fast they are made, how soon a training begins, in what memory.

The text is a corpus of your own, repeated with a number in every document so that no two are the
same. A file of `--whole` MB is made into tokens whole; of one of `--large` MB as many as a training
of `--tokens` tokens sees, with the time and memory up to the blocks of its first step; then the
same again, which must make none:

    python benchmarks/token_cache.py --corpus zh.jsonl.zst --tokenizer BASE --whole 300 --large 2000
"""

import argparse
import json
import os
import platform
import resource
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

import tokenizers

from hanpaca.data.documents import read_documents
from hanpaca.data.sources import Texts
from hanpaca.model.load import load_tokenizer
from hanpaca.threads import num_cores
from hanpaca.training.blocks import Cutting, text_tokens

RESULT = Path(__file__).parent / "results" / "token_cache.json"
BLOCK_TOKENS = 512


def write_text(corpus: Path, output: Path, num_mb: int) -> None:
    """Documents of the corpus round and round, each with its number."""
    documents = [document.text for document in read_documents([corpus])]
    size = number = 0
    with output.open("w", encoding="utf-8") as stream:
        while size < num_mb * 1_000_000:
            row = {"text": f"{number} {documents[number % len(documents)]}"}
            line = json.dumps(row, ensure_ascii=False) + "\n"
            stream.write(line)
            size += len(line.encode())
            number += 1


def peak_mb() -> float:
    """Most memory this process has held."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure(tokenizer_folder: Path, text: Path, num_tokens: int | None) -> dict[str, Any]:
    """Make tokens, read the blocks of a first step, and start a second time."""
    tokenizer = load_tokenizer(tokenizer_folder)
    before = peak_mb()
    source, cutting = Texts((text,)), Cutting(BLOCK_TOKENS)
    seconds = []
    made = []
    for _ in range(2):
        began = time.perf_counter()
        tokens, number = text_tokens(tokenizer, source, cutting, num_tokens=num_tokens)
        found = tokens.blocks()
        for row in range(8):
            found.input_ids[row], found.labels[row], found.position_ids[row]
        seconds.append(round(time.perf_counter() - began, 2))
        made.append(number)
    size = text.stat().st_size
    return {
        "text_mb": round(size / 1e6),
        "tokens": int(found.input_ids.size),
        "cache_bytes": sum(file.stat().st_size for file in tokens.folder.iterdir()),
        "documents_made": made,
        "seconds": seconds,
        "mb_per_second": round(size / 1e6 / seconds[0], 2) if num_tokens is None else None,
        "memory_above_start_mb": round(peak_mb() - before),
    }


def main() -> None:
    """Measure the large text first, as memory is the most that was held so far."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--corpus", type=Path, required=True)
    parser.add_argument("--tokenizer", type=Path, required=True)
    parser.add_argument("--whole", type=int, default=300, help="MB")
    parser.add_argument("--large", type=int, default=2000, help="MB")
    parser.add_argument("--tokens", type=int, default=2_000_000)
    given = parser.parse_args()
    result: dict[str, Any] = {
        "machine": f"{platform.machine()}, {num_cores()} cores, load {os.getloadavg()[0]:.1f}",
        "tokenizers": tokenizers.__version__,
        "vocabulary": given.tokenizer.name,
    }
    with tempfile.TemporaryDirectory() as scratch:
        os.environ["XDG_CACHE_HOME"] = scratch
        for name, size, tokens in (
            ("large", given.large, given.tokens),
            ("whole", given.whole, None),
        ):
            text = Path(scratch) / f"{name}.jsonl"
            write_text(given.corpus, text, size)
            result[name] = measure(given.tokenizer, text, tokens)
            text.unlink()
            shutil.rmtree(Path(scratch) / "hanpaca")
            print(name, result[name])
    RESULT.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
