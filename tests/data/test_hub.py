"""Data sets of the hub, read where a name asks for them; here from folders in the hub's layout."""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from hanpaca import Texts, read_conversations, read_documents, read_questions
from hanpaca.data.hub import HubName, here
from hanpaca.errors import DataError, RecipeError, ResourceError
from tests.support.in_process import say


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "datasets"))
    return tmp_path / "cache/hanpaca/hub"


@pytest.fixture
def published(tmp_path: Path, cache: Path) -> Callable[..., Path]:
    """Writes a folder in the hub's layout: a file of rows for each split."""
    pytest.importorskip("datasets")

    def write(**splits: list[dict[str, object]]) -> Path:
        folder = tmp_path / f"own-{'-'.join(splits)}"
        folder.mkdir()
        for split, rows in splits.items():
            lines = (json.dumps(row, ensure_ascii=False) for row in rows)
            (folder / f"{split}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
        return folder

    return write


def test_names_are_taken_apart_or_refused() -> None:
    assert HubName.read("hub:org/set") == HubName("org/set", "", "train", None)
    assert HubName.read("hub:org/set:law:val[:50]") == HubName("org/set", "law", "val", 50)
    assert HubName.read("hub:org/set::train[:9]") == HubName("org/set", "", "train", 9)
    for name in ("hub:", "hub:org/set:a:b:c", "hub:org/set:a:train[5:]"):
        with pytest.raises(RecipeError, match="no name of a data set: write hub:owner/name"):
            HubName.read(name)


def test_texts_of_the_hub_are_read_once_and_are_then_as_files(
    published: Callable[..., Path], cache: Path
) -> None:
    rows: list[dict[str, object]] = [{"text": f"第{n}首。"} for n in range(30)]
    folder = published(train=rows, test=[{"text": "留出。"}])
    name = Path(f"hub:{folder}::train[:20]")
    texts = Texts((name,))
    assert list(texts) == [row["text"] for row in rows[:20]]
    (folder / "train.jsonl").unlink()
    assert len(list(texts.drawn(0, 10_000))) == 20
    assert len(texts.digest()) == 64
    assert texts.num_bytes > 0
    (document,) = read_documents([Path(f"hub:{folder}::test")])
    assert document.text == "留出。"
    assert len(list(cache.iterdir())) == 2


def test_instructions_and_questions_are_read_from_the_hub(published: Callable[..., Path]) -> None:
    rows: list[dict[str, object]] = [
        {"instruction": "写诗", "output": "白日依山尽"},
        {"instruction": "再写", "output": "黄河入海流"},
    ]
    asked: list[dict[str, object]] = [{"question": "1+1?", "choices": ["1", "2"], "answer": 1}]
    found = list(read_conversations([Path(f"hub:{published(train=rows)}")]))
    assert [one[-1].content for one, _ in found] == ["白日依山尽", "黄河入海流"]
    folder = published(validation=asked)
    questions = read_questions(f"hub:{folder}::validation").questions
    assert [(one.text, one.options, one.answer) for one in questions] == [("1+1?", ("1", "2"), 1)]
    whole = read_questions(f"hub:{folder}:*:validation").questions
    assert [one.text for one in whole] == ["1+1?"]


def test_what_is_not_there_is_one_line_and_leaves_nothing(
    published: Callable[..., Path], cache: Path
) -> None:
    folder = published(train=[{"text": "a"}])
    with pytest.raises(DataError, match=r"Bad split: dev\. Available splits"):
        here(Path(f"hub:{folder}::dev"))
    with pytest.raises(DataError, match="Couldn't find any data file"):
        here(Path(f"hub:{folder / 'absent'}"))
    assert not [path for path in cache.glob("*") if path.is_dir()]


def test_without_the_package_or_the_network_it_is_one_line(
    cache: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Unreachable:
        def load_dataset(self, *_: object, **__: object) -> None:
            raise ConnectionError("Couldn't reach 'org/set' on the Hub")

    monkeypatch.setitem(sys.modules, "datasets", Unreachable())
    with pytest.raises(ResourceError, match="give a file instead, or try again with a network"):
        list(read_documents([Path("hub:org/set")]))
    monkeypatch.setitem(sys.modules, "datasets", None)
    said = say(capsys, "eval", "model", "--text", "zh=hub:org/set")
    assert (said.status, said.error.count("\n")) == (5, 1)
    assert "pip install 'hanpaca[hub]'" in said.error
    assert not cache.is_dir() or not list(cache.glob("*/"))
