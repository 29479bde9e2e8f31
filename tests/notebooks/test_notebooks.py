"""The notebooks run from top to bottom, one after the other, on a model of two layers."""

import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.support.scripted import ANSWER, END, scripted_model

nbformat = pytest.importorskip("nbformat", reason="nbformat and nbclient are not installed")
nbclient = pytest.importorskip(
    "nbclient", reason="nbclient, which runs notebooks, is not installed"
)

ROOT = Path(__file__).parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
SMALLER: dict[str, dict[str, object]] = {
    "1_pretraining": {
        "BASE": "base",
        "TEXT": ["zh.txt"],
        "ENGLISH": ["en.txt"],
        "NUM_PIECES": 20,
        "NUM_TOKENS": 1024,
        "BLOCK_TOKENS": 64,
    },
    "2_instruction_tuning": {"ENGLISH": ["en.txt"], "NUM_TOKENS": 1024, "BLOCK_TOKENS": 128},
    "3_merge_and_quantize": {"TYPES": ["f16", "q8_0"]},
    "4_chat": {
        "MODEL": "scripted.gguf",
        "BESIDE": "work/files",
        "QUESTIONS": ["白日依山尽，黄河入海流。"],
        "MAX_TOKENS": 16,
        "DOCUMENTS": ["zh.txt"],
    },
}
"""Parameters with which each takes seconds."""


def parametrised(notebook: Path, values: dict[str, object]) -> Any:
    """The notebook with other values set after the cell tagged `parameters`, as papermill does."""
    found = nbformat.read(notebook, as_version=4)
    tags = [cell.metadata.get("tags", []) for cell in found.cells]
    lines = [f"{name} = {value!r}" for name, value in values.items()]
    place = tags.index(["parameters"])
    for name in values:
        assert f"\n{name} = " in "\n" + found.cells[place].source, f"{notebook.name} has no {name}"
    found.cells.insert(place + 1, nbformat.v4.new_code_cell("\n".join(lines)))
    return found


def said(notebook: Any) -> str:
    """What all cells print."""
    outputs = [one for cell in notebook.cells for one in cell.get("outputs", [])]
    return "".join(one.get("text", "") for one in outputs)


@pytest.mark.slow
def test_they_run_one_after_the_other(
    pico_base: Path, pico_recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT / "src"), str(ROOT)]))
    shutil.copytree(pico_base, tmp_path / "base")
    for name in ("zh.txt", "en.txt"):
        shutil.copyfile(pico_recipe.parent / name, tmp_path / name)
    scripted_model(pico_base, tmp_path / "scripted", last=END)  # writes scripted.gguf
    assert [one.stem for one in NOTEBOOKS] == list(SMALLER)
    told = []
    for file in NOTEBOOKS:
        notebook = parametrised(file, SMALLER[file.stem])
        nbclient.execute(notebook, cwd=tmp_path, timeout=600)
        told.append(said(notebook))
    assert "dead pieces: 0  English texts changed: 0" in told[0]
    assert (tmp_path / "work/chat-adapter/adapter_model.safetensors").is_file()
    assert "faults:\n" in told[2]
    assert (tmp_path / "work/files/chat.q8_0.gguf").is_file()
    assert f"再答： {ANSWER}" in told[3]
    assert "zh.txt: " in told[3]


@pytest.mark.parametrize("file", NOTEBOOKS, ids=lambda file: file.stem)
def test_their_first_cell_installs_where_nothing_is_and_they_are_told_in_two_languages(
    file: Path,
) -> None:
    notebook = nbformat.read(file, as_version=4)
    nbformat.validate(notebook)
    first = next(cell for cell in notebook.cells if cell.cell_type == "code")
    assert "%pip install" in first.source
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            assert any("一" <= sign <= "鿿" for sign in cell.source), cell.source
