"""The verbs on GGUF files as Python functions, and as commands that call them."""

import doctest
import importlib
from pathlib import Path

import pytest
from typer.testing import CliRunner

from hanpaca.cli import app
from hanpaca.errors import ArtifactError, RecipeError
from hanpaca.merging.extract import extract_adapter
from hanpaca.progress import Progress
from hanpaca.steps.write_gguf import write_gguf


@pytest.fixture(scope="module")
def files(pico_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("files")
    write_gguf(pico_base, folder, types=["f16"])
    return folder


@pytest.mark.parametrize("module", ["write_gguf", "imatrix", "export"])
def test_the_examples_of_the_docstrings_hold(
    module: str, pico_base: Path, files: Path, tmp_path: Path
) -> None:
    names = {"BASE": pico_base, "FILES": files, "OUTPUT": tmp_path / "out"}
    found = doctest.testmod(importlib.import_module(f"hanpaca.steps.{module}"), extraglobs=names)
    assert found.attempted > 0
    assert found.failed == 0


def test_a_command_and_python_write_the_same_bytes(
    files: Path, pico_base: Path, tmp_path: Path
) -> None:
    words = ["gguf", str(pico_base), "-o", str(tmp_path), "--types", "f16"]
    assert CliRunner().invoke(app, words).exit_code == 0
    name = f"{pico_base.name}.f16.gguf"
    assert (tmp_path / name).read_bytes() == (files / name).read_bytes()


def test_signs_of_life_and_names_are_the_callers(pico_base: Path, tmp_path: Path) -> None:
    told: list[Progress] = []
    found = write_gguf(
        str(pico_base), str(tmp_path), types=["q8_0"], tell=told.append, name="own", metadata={}
    )
    assert found["q8_0"].file == tmp_path / "own.q8_0.gguf"
    assert (told[-1].fraction, told[-1].unit) == (1.0, "bytes")


def test_warnings_of_the_plan_are_told(pico_untied: Path, tmp_path: Path) -> None:
    other, adapter = tmp_path / "other", tmp_path / "adapter"
    changed_copy(pico_untied, other)
    extract_adapter(pico_untied, other, adapter, rank=2)
    words = [f"--adapter={adapter}", f"--adapter={adapter}", "--types", "f16"]
    done = CliRunner().invoke(app, ["gguf", str(pico_untied), "-o", str(tmp_path / "o"), *words])
    assert done.exit_code == 0, done.output
    assert "was trained on" in " ".join(done.stderr.split())
    found = write_gguf(pico_untied, tmp_path / "p", types=["f16"], adapters=[adapter, adapter])
    assert any("their changes add up" in note for note in found["f16"].notes)


def changed_copy(base: Path, folder: Path) -> None:
    import shutil

    from safetensors.torch import load_file, save_file

    shutil.copytree(base, folder)
    weights = load_file(folder / "model.safetensors")
    name = "model.layers.0.self_attn.q_proj.weight"
    weights[name] = weights[name] + 0.25
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def test_what_makes_no_sense_is_refused_before_anything_is_made(
    pico_base: Path, tmp_path: Path
) -> None:
    with pytest.raises(RecipeError, match="type of file 'q9' is unknown; known: f32"):
        write_gguf(pico_base, tmp_path / "out", types=["q9"])
    with pytest.raises(RecipeError, match="no type of file is given: give types=; known: f32"):
        write_gguf(pico_base, tmp_path / "out", types=[])
    with pytest.raises(ArtifactError, match="nowhere"):
        write_gguf(tmp_path / "nowhere", tmp_path / "out")
    assert not list(tmp_path.iterdir())
