"""The Python of the documentation runs, block after block, on a model of two layers."""

import contextlib
import io
import json
import re
import shutil
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs/python.md"
READMES = (ROOT / "README.md", ROOT / "README_zh.md")
_BLOCK = re.compile(r"```python\n(.*?)```", re.DOTALL)


@pytest.fixture
def own_files(
    pico_base: Path, pico_recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reader's folder: a base, texts, conversations and a recipe."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    shutil.copytree(pico_base, "base")
    for file in ("zh.txt", "en.txt", "chat.json", "recipe.yaml"):
        shutil.copyfile(pico_recipe.parent / file, file)
    row = {"question": "Which comes first?", "choices": ["one", "two", "three"], "answer": "A"}
    Path("questions.jsonl").write_text(json.dumps(row), encoding="utf-8")


def blocks_of(page: Path) -> list[str]:
    return _BLOCK.findall(page.read_text(encoding="utf-8"))


def run_blocks(page: Path) -> str:
    """Run a page's blocks, each with the names of those before it; what they print."""
    names: dict[str, object] = {}
    told = io.StringIO()
    for number, block in enumerate(blocks_of(page)):
        place = f"{page.name}, block {number + 1}"
        with contextlib.redirect_stdout(told):
            exec(compile(block, place, "exec"), names)
    return told.getvalue()


@pytest.mark.slow
@pytest.mark.usefixtures("own_files")
def test_the_page_on_python_runs_from_top_to_bottom() -> None:
    assert len(blocks_of(PAGE)) >= 8
    told = run_blocks(PAGE)
    assert json.loads(Path("merged/config.json").read_text())["model_type"] == "llama"
    assert Path("files/chat.q8_0.gguf").is_file()
    assert "nowhere: no such file or folder" in told


@pytest.mark.slow
@pytest.mark.usefixtures("own_files")
def test_the_python_of_both_readmes_is_one_and_runs() -> None:
    english, chinese = (blocks_of(page) for page in READMES)
    assert english == chinese
    assert len(english) == 1
    told = run_blocks(READMES[0])
    assert Path("files/merged.q8_0.gguf").is_file()
    assert told.splitlines()[-1] == str(Path("files/merged.q8_0.gguf"))
