"""Our extensions against the published merge and against PyPI `bpe-continue`, in one run.

Needs LLaMA's and the published Chinese model, a corpus (one JSON document a line, with `text` and
`domain`), English text, and for the byte-level part a folder with SmolLM2's tokenizer.json. Whole
domains are held out, as the published pieces were learned from other text than ours; of the others
each twentieth document is.

    python benchmarks/tokenizer_extension.py --tokenizers ../shared/data/tokenizers \
        --chinese zh.jsonl --english en.txt --smollm2 smollm2 --bpe-continue venv/bin/bpe-continue

Each training is a whole command in a process of its own: reading, checks and writing included.
"""

import argparse
import json
import os
import platform
import re
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from hanpaca.errors import HanpacaError
from hanpaca.tokenizer.extension.evidence import read_prior
from hanpaca.tokenizer.extension.guarantees import changed_texts, dead_pieces, recut_texts
from hanpaca.tokenizer.extension.scripts import target_script
from hanpaca.tokenizer.open import open_tokenizer
from hanpaca.tokenizer.vocabulary import Vocabulary

RESULT = Path(__file__).parent / "results" / "tokenizer_extension.json"
HELD_OUT_DOMAINS = ("qa", "blog", "poetry")
HELD_OUT_CHARACTERS = 400_000  # of each domain
REFERENCE_PIECES = 17_953
PRIOR_PIECES = 17_300  # the published pieces that are Han, and what leads to them
BYTE_LEVEL_PIECES = 8_000
BYTE_LEVEL_BYTES = 8_000_000
OTHER_LINES = 20_000
HANPACA = [sys.executable, "-c", "from hanpaca.cli import main; main()", "tokenizer"]


class Cost(NamedTuple):
    """What a process used."""

    seconds: float
    cpu_seconds: float
    gigabytes: float


def measured(call: Sequence[str], limit_seconds: float) -> Cost | None:
    """Run a command; None if it takes too long or fails."""
    began = time.monotonic()
    # Pure training code; the libraries' own threads are left off, so that CPU seconds say it all.
    environment = os.environ | {"RAYON_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(call, env=environment, stdout=sys.stderr)
    while time.monotonic() - began < limit_seconds:
        done, status, used = os.wait4(process.pid, os.WNOHANG)
        if done:
            seconds = round(time.monotonic() - began, 1)
            cost = Cost(seconds, round(used.ru_utime + used.ru_stime, 1), used.ru_maxrss / 1e6)
            return cost if status == 0 else None
        time.sleep(0.1)
    process.kill()
    os.wait4(process.pid, 0)
    return None


class Corpus(NamedTuple):
    """Files to learn from, and texts to measure on."""

    everything: Path
    training: Path
    small: Path
    held_out: dict[str, list[str]]
    other: list[str]


def prepare(chinese: Path, english: Path, folder: Path) -> Corpus:
    """Split the corpus; collect lines without target text from English and the library's code."""
    corpus = Corpus(chinese, folder / "train.jsonl", folder / "small.txt", {}, [])
    sizes: dict[str, int] = {}
    small = 0
    with (
        chinese.open() as source,
        corpus.training.open("w") as train,
        corpus.small.open("w") as few,
    ):
        for number, line in enumerate(source):
            row = json.loads(line)
            domain, text = row["domain"], row["text"]
            if domain in HELD_OUT_DOMAINS or number % 20 == 0:
                if sizes.get(domain, 0) < HELD_OUT_CHARACTERS:
                    corpus.held_out.setdefault(domain, []).append(text)
                    sizes[domain] = sizes.get(domain, 0) + len(text)
                continue
            train.write(line)
            if small < BYTE_LEVEL_BYTES and number % 7 == 0:
                small += few.write(text.replace("\n\n", "\n") + "\n\n") * 3
    target = target_script(["Han"], "runs").characters
    lines = [*english.read_text().splitlines(), *code_lines()]
    corpus.other.extend(line for line in lines if line.strip() and not target.search(line))
    return corpus


def code_lines() -> Iterator[str]:
    """Some of the standard library."""
    for file in sorted(Path(sysconfig.get_path("stdlib")).glob("*.py"))[::4]:
        yield from file.read_text(encoding="utf-8", errors="replace").splitlines()


def faults(base: Vocabulary, new: Vocabulary, corpus: Corpus) -> dict[str, Any]:
    """Count what an extension breaks."""
    shared = [piece for piece in base.ids if piece not in base.special]
    added = [piece for piece in new.ids if piece not in base.ids and piece not in new.special]
    before = set(dead_pieces(base, shared))
    held_out = [text for texts in corpus.held_out.values() for text in texts]
    return {
        "new_pieces": len(new.ids) - len(base.ids),
        "dead": len(dead_pieces(new, added)),
        "killed": len(set(dead_pieces(new, shared)) - before),
        "no_target_lines": len(corpus.other),
        "no_target_lines_changed": len(changed_texts(base, new, corpus.other)),
        "held_out_documents": len(held_out),
        "held_out_documents_recut": len(recut_texts(base, new, held_out)),
    }


def tokens_per_character(tokenizer: Vocabulary, corpus: Corpus) -> dict[str, float]:
    """Tokens for a Han character, on stretches of Han alone, by domain."""
    pattern = target_script(["Han"]).runs
    found = {}
    for domain, texts in corpus.held_out.items():
        runs = [run.encode() for text in texts for run in pattern.findall(text)]
        num_tokens = sum(map(len, tokenizer.spell(runs)))
        found[domain] = round(num_tokens / sum(len(run.decode()) for run in runs), 4)
    return found


def row(base: Vocabulary, path: Path, corpus: Corpus, cost: Cost | None = None) -> dict[str, Any]:
    """Everything about one tokenizer."""
    new = open_tokenizer(path)
    print(f"measuring {path}", file=sys.stderr)
    used = cost._asdict() if cost else {}
    return used | faults(base, new, corpus) | {"han": tokens_per_character(new, corpus)}


def extension_call(base: Path, output: Path, num_pieces: int, options: Sequence[str]) -> list[str]:
    """The command line of one extension."""
    size = ["--num-pieces", str(num_pieces)]
    return [*HANPACA, "extend", "--base", str(base), "-o", str(output), *size, *options]


def han_characters(model: Path) -> str:
    """The single Han characters of a published model."""
    pattern = target_script(["Han"]).characters
    pieces = dict.fromkeys(piece.strip("▁") for piece in read_prior(model))
    return "".join(piece for piece in pieces if pattern.fullmatch(piece))


def sentencepiece_arms(options: argparse.Namespace, corpus: Corpus, folder: Path) -> dict[str, Any]:
    """LLaMA, the published merge, and ours by prior, by text and by both."""
    llama = options.tokenizers / "llama" / "tokenizer.model"
    chinese = options.tokenizers / "chinese_sp.model"
    reference = folder / "reference.model"
    subprocess.run(
        [*HANPACA, "merge-sp", str(llama), str(chinese), "-o", str(reference)], check=True
    )
    base = open_tokenizer(llama)
    found: dict[str, Any] = {
        "llama": row(base, llama, corpus),
        "reference": row(base, reference, corpus),
    }
    prior, text = ["--prior", str(chinese)], ["--text", str(corpus.training)]
    required = folder / "required.txt"
    required.write_text(han_characters(chinese))
    cover = ["--required", str(required)]
    arms = {
        "prior": (PRIOR_PIECES, prior),
        "prior, its characters required": (PRIOR_PIECES, prior + cover),
        "text": (REFERENCE_PIECES, text),
        "prior and text": (REFERENCE_PIECES, prior + text),
        "prior and text, characters required": (REFERENCE_PIECES, prior + text + cover),
        "text, 8,000": (8_000, text),
        "prior and text, 8,000": (8_000, prior + text),
        "all text, 20,000": (20_000, ["--text", str(corpus.everything)]),
    }
    for name, (num_pieces, how) in arms.items():
        output = folder / re.sub("[^a-z0-9]+", "-", name)
        cost = measured(extension_call(llama, output, num_pieces, how), options.limit)
        found[name] = row(base, output, corpus, cost) if cost else "failed or over the limit"
    return found


def byte_level_arms(options: argparse.Namespace, corpus: Corpus, folder: Path) -> dict[str, Any]:
    """SmolLM2 extended by us and by bpe-continue, with equal data and size."""
    base = open_tokenizer(options.smollm2)
    found: dict[str, Any] = {"smollm2": row(base, options.smollm2, corpus)}
    output = folder / "byte-level"
    how = ["--text", str(corpus.small)]
    cost = measured(extension_call(options.smollm2, output, BYTE_LEVEL_PIECES, how), options.limit)
    found["hanpaca"] = row(base, output, corpus, cost) if cost else "failed or over the limit"
    if options.bpe_continue is None:
        print("bpe-continue is left out: give --bpe-continue its command", file=sys.stderr)
        return found
    output = folder / "bpe-continue.json"
    call = [str(options.bpe_continue), str(options.smollm2 / "tokenizer.json"), str(output)]
    size = str(len(base.ids) + BYTE_LEVEL_PIECES)
    cost = measured([*call, str(corpus.small), "--vocab-size", size], options.limit)
    found["bpe-continue"] = row(base, output, corpus, cost) if cost else "failed or over the limit"
    return found


def main() -> None:
    """Measure all, print, and write the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tokenizers", type=Path, required=True)
    parser.add_argument("--chinese", type=Path, required=True)
    parser.add_argument("--english", type=Path, required=True)
    parser.add_argument("--smollm2", type=Path)
    parser.add_argument("--bpe-continue", type=Path)
    parser.add_argument("--limit", type=float, default=900.0, help="seconds for a training")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        corpus = prepare(options.chinese, options.english, folder)
        result = {
            "command": "python benchmarks/tokenizer_extension.py; see its documentation",
            "machine": f"{platform.machine()}, {os.cpu_count()} processors, one thread used; "
            f"load {os.getloadavg()[0]:.1f} at the beginning",
            "held_out": f"all of {', '.join(HELD_OUT_DOMAINS)}; 1 in 20 documents of the others",
            "corpus_bytes": options.chinese.stat().st_size,
            "training_bytes": corpus.training.stat().st_size,
            "byte_level_training_bytes": corpus.small.stat().st_size,
            "sentencepiece": sentencepiece_arms(options, corpus, folder),
        }
        if options.smollm2:
            try:
                result["byte_level"] = byte_level_arms(options, corpus, folder)
            except HanpacaError as error:
                print(f"the byte-level part is left out: {error}", file=sys.stderr)
    RESULT.write_text(json.dumps(result, indent=2, ensure_ascii=False) + "\n")
    print(json.dumps(result, indent=2, ensure_ascii=False))


if __name__ == "__main__":
    main()
