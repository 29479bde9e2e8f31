"""The built wheel by itself: what a user installs, away from the source tree."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.support.adapters import adapter_of
from tests.support.scripted import ANSWER, END, scripted_model

pytestmark = pytest.mark.slow
pytest.importorskip("hatchling", reason="hatchling, which builds the wheel, is not installed")
ROOT = Path(__file__).parents[1]
MOST_BYTES = 2_000_000


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    build = ["wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run(
        [sys.executable, "-m", "pip", *build, "--wheel-dir", folder, ROOT],
        check=True,
        stdout=subprocess.DEVNULL,
    )
    (file,) = folder.glob("hanpaca-*.whl")
    return file


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("installed")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    return folder


def test_it_is_small_and_holds_the_package_alone(wheel: Path) -> None:
    assert wheel.stat().st_size < MOST_BYTES
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0].partition("-")[0] for name in names} == {"hanpaca"}
    assert "hanpaca/py.typed" in names


def test_a_lora_is_merged_written_and_asked_with_it(
    installed: Path, pico_base: Path, tmp_path: Path
) -> None:
    adapter = adapter_of(pico_base, tmp_path / "adapter")

    def hanpaca(*words: object) -> str:
        code = (
            f"import hanpaca\nassert hanpaca.__file__.startswith({str(installed)!r})\n"
            "from hanpaca.cli import main\nmain()"
        )
        done = subprocess.run(
            [sys.executable, "-P", "-c", code, *map(str, words)],
            check=False,
            capture_output=True,
            text=True,
            cwd=tmp_path,
            env=os.environ | {"PYTHONPATH": str(installed)},
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert "Fold LoRA adapters" in hanpaca("--help")
    hanpaca("init", "my.yaml", "--budget", "evening")
    assert "6.06%" in hanpaca("plan", "reference/llama-7b")
    hanpaca("merge", "--base", pico_base, "--adapter", adapter, "--output", "merged")
    hanpaca("gguf", "write", "merged", "--output", "files", "--types", "q8_0")
    (file,) = (tmp_path / "files").glob("*.gguf")
    hanpaca("gguf", "verify", file)
    short = scripted_model(pico_base, tmp_path / "short", last=END)
    assert hanpaca("chat", short, "问", "--threads", "1").strip() == ANSWER
