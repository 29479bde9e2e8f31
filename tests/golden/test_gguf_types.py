"""Types and bytes against llama-quantize; benchmarks/gguf_bytes.py made the numbers."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
from gguf.constants import GGMLQuantizationType as Type
from numpy.typing import NDArray

from benchmarks.gguf_bytes import ROWS, WIDE, importance_of, layer_shapes, over_layers, seeded
from hanpaca.gguf.kernels import quantize
from hanpaca.gguf.types import FILE_TYPES, Shape, tensor_type

GOLDEN: dict[str, Any] = json.loads(
    (Path(__file__).parent / "gguf_types.json").read_text(encoding="utf-8")
)
Rows = NDArray[np.float32]


@pytest.mark.parametrize(
    "golden", GOLDEN["types"], ids=lambda one: f"{one['model']}-{one['shape']['importance']}"
)
def test_every_tensor_gets_llama_quantizes_type(golden: dict[str, Any]) -> None:
    model = Shape(**golden["shape"])
    shapes = layer_shapes(model, 256, 256)
    assert golden["tensors"].keys() == FILE_TYPES.keys()
    for file_type, expected in golden["tensors"].items():
        types = {
            name: tensor_type(name, shape, file_type=file_type, model=model).name
            for name, shape in shapes.items()
            if len(shape) == 2 and file_type != "f32"  # of which nothing is converted
        }
        assert over_layers(types) == expected, file_type


def check_bytes(key: str, rows_of: Callable[[str], Rows]) -> int:
    """Returns the number of tensors and types that were compared."""
    compared = 0
    for name, hashes in GOLDEN["bytes"][key].items():
        rows = rows_of(name)
        has_importance = "importance" in key and len(rows) > 1 and name != "token_embd.weight"
        weights = importance_of(name, rows.shape[1]) if has_importance else None
        for kind, expected in hashes.items():
            data = quantize(rows, Type[kind], weights).tobytes()
            assert hashlib.sha256(data).hexdigest()[:16] == expected, (name, kind)
            compared += 1
    return compared


@pytest.mark.slow
@pytest.mark.parametrize("key", ["SmolLM2-135M", "SmolLM2-135M, importance"])
def test_a_real_model_gets_llama_quantizes_bytes(key: str, smollm2_gguf: Path) -> None:
    tensors = {one.name: one for one in gguf.GGUFReader(smollm2_gguf).tensors}

    def rows_of(name: str) -> Rows:
        one = tensors[name]
        rows: Rows = gguf.quants.dequantize(np.atleast_2d(one.data)[:ROWS], one.tensor_type)
        return rows

    assert check_bytes(key, rows_of) > 200


@pytest.mark.slow
@pytest.mark.parametrize("key", ["wide", "wide, importance"])
def test_a_wide_model_gets_llama_quantizes_bytes(key: str) -> None:
    shapes = layer_shapes(WIDE, 2048, 5632)
    assert check_bytes(key, lambda name: np.atleast_2d(seeded(name, shapes[name]))[:ROWS]) > 100
