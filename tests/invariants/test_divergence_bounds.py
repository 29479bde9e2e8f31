"""What quantizing costs a real model stays within bounds, and importance helps."""

from pathlib import Path

import pytest

from hanpaca.checkpoints.model import open_model
from hanpaca.data.docstrings import HELDOUT_PACKAGES, docstring_prose
from hanpaca.steps.compare_gguf import compare_models
from hanpaca.steps.imatrix import collect_imatrix
from hanpaca.steps.write_gguf import model_to_gguf
from hanpaca.tokenizer.conversion.gguf_side import write_gguf_side

BOUNDS = {
    "f16": (0.0, 1e-4),
    "q8_0": (2e-4, 0.005),
    "q6_k": (0.002, 0.02),
    "q4_k_m": (0.02, 0.15),
    "q2_k": (0.2, 1.0),
}
"""Nats a token, at least and at most, of SmolLM2-135M on English; `benchmarks/divergence.py`
measures all kinds on more text."""


@pytest.mark.slow
def test_divergence_of_each_kind_is_within_its_bounds(smollm2_gguf: Path, tmp_path: Path) -> None:
    files = {kind: tmp_path / f"{kind}.gguf" for kind in BOUNDS}
    model_to_gguf(open_model(smollm2_gguf, write_side=write_gguf_side), files, metadata={})
    texts = list(docstring_prose(HELDOUT_PACKAGES))
    half = len(texts) // 2
    matrix = collect_imatrix(
        smollm2_gguf,
        texts[:half],
        datasets=HELDOUT_PACKAGES,
        num_tokens=512,
        block_tokens=256,
    )
    weighed = tmp_path / "q2_k with importance.gguf"
    model_to_gguf(
        open_model(smollm2_gguf, write_side=write_gguf_side),
        {"q2_k": weighed},
        metadata={},
        importance=matrix.means(),
    )
    found = compare_models(
        [smollm2_gguf, *files.values(), weighed],
        texts[half:],
        num_tokens=256,
        block_tokens=256,
    )
    kl = {one.model.removesuffix(".gguf"): one.kl for one in found}
    for kind, (least, most) in BOUNDS.items():
        assert least <= kl[kind] <= most, (kind, kl)
    assert kl[weighed.stem] < kl["q2_k"], kl
