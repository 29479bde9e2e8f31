"""F16 files against llama.cpp's own converter (benchmarks/gguf_converter.py made the numbers)."""

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.gguf_converter import GOLDEN, described
from hanpaca.steps.write_gguf import folder_to_gguf
from tests.support.gguf_models import MODELS, make_golden_model

OURS_ONLY = {
    # What the file leaves to defaults is said here; the values are those defaults.
    "llama.attention.key_length": 8,
    "llama.attention.value_length": 8,
    "tokenizer.ggml.add_bos_token": True,
    "tokenizer.ggml.add_eos_token": False,
    "tokenizer.ggml.add_space_prefix": True,
    "tokenizer.ggml.unknown_token_id": 0,
}


@pytest.fixture(scope="module")
def golden() -> dict[str, Any]:
    return dict(json.loads(GOLDEN.read_text(encoding="utf-8")))


@pytest.mark.parametrize("name", MODELS)
def test_a_file_is_the_converters(name: str, golden: dict[str, Any], tmp_path: Path) -> None:
    folder = make_golden_model(name, tmp_path / "model")
    folder_to_gguf(folder, tmp_path / "m.gguf", file_type="f16", metadata={})
    ours, theirs = described(tmp_path / "m.gguf"), golden[name]
    assert ours["tensors"] == theirs["tensors"]
    fields = {key: value for key, value in theirs["fields"].items() if _is_of_the_model(key)}
    assert {key: ours["fields"].get(key) for key in fields} == fields
    more = ours["fields"].keys() - theirs["fields"].keys()
    if MODELS[name][0] == "llama":
        assert {key: ours["fields"][key] for key in more if _is_of_the_model(key)} == {
            key: value for key, value in OURS_ONLY.items() if key in more
        }


def _is_of_the_model(key: str) -> bool:
    """Names and sizes in words are for people."""
    return not key.startswith("general.") or key in ("general.architecture", "general.file_type")
