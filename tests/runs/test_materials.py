"""The first stage by itself: what is learned from, what is held out, and what is wrong with it."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from hanpaca.data.jsonl import read_jsonl, read_texts
from hanpaca.errors import DataError, RecipeError
from hanpaca.runs import layout
from hanpaca.runs.materials import external_inputs, stored_conversations, write_materials
from hanpaca.runs.recipe import load_recipe

DOCUMENTS = [f"第{number}篇：白日依山尽，黄河入海流。" for number in range(40)]
ENGLISH = [f"Paragraph {number} of a book that is here to be replayed." for number in range(40)]
ROWS = [{"instruction": f"问题{number}？", "output": f"回答{number}。"} for number in range(12)]
Work = Callable[..., dict[str, Any]]


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """A user's own files."""
    folder = tmp_path / "own"
    folder.mkdir()
    (folder / "zh.txt").write_text("\n\n".join(DOCUMENTS), encoding="utf-8")
    (folder / "en.txt").write_text("\n\n".join(ENGLISH), encoding="utf-8")
    (folder / "chat.json").write_text(json.dumps(ROWS, ensure_ascii=False), encoding="utf-8")
    return folder


@pytest.fixture
def stage(tmp_path: Path) -> Path:
    folder = tmp_path / "05-data"
    folder.mkdir()
    return folder


@pytest.fixture
def work(own: Path, stage: Path) -> Work:
    """Run the stage with some settings of the section changed; the metrics."""

    def run(seed: int = 0, weights: Sequence[float] = (), **changes: object) -> dict[str, Any]:
        section = {
            "text": ["zh.txt"],
            "replay": ["en.txt"],
            "instructions": ["chat.json"],
            "heldout_documents": 8,
            "heldout_questions": 4,
            **changes,
        }
        tree = {
            "name": "own",
            "base": "nowhere",
            "seed": seed,
            "data": section,
            "tokenizer": {"num_pieces": 10},
            "pretrain": {"num_tokens": 1_000, "replay_fraction": 0, "weights": list(weights)},
            "sft": {"num_tokens": 1_000, "replay_fraction": 0},
            "eval": {"num_questions": 0},
        }
        (own / "recipe.yaml").write_text(json.dumps(tree), encoding="utf-8")
        recipe = load_recipe(own / "recipe.yaml")
        external_inputs(recipe)
        return dict(write_materials(recipe, stage))

    return run


def texts(stage: Path, *names: str) -> list[list[str]]:
    return [read_texts(stage / name) for name in names]


def all_documents(stage: Path) -> list[str]:
    learned, heldout = texts(stage, layout.TEXT, layout.TEXT_HELDOUT)
    return learned + heldout


def test_what_is_held_out_is_not_learned_and_nothing_is_lost(work: Work, stage: Path) -> None:
    metrics = work()
    learned, heldout = texts(stage, layout.TEXT, layout.TEXT_HELDOUT)
    assert sorted(learned + heldout) == sorted(DOCUMENTS)
    assert len(heldout) == metrics["num_heldout_documents"] == 8
    assert len(learned) == metrics["num_documents"] == 32
    assert metrics["num_characters"] == sum(map(len, learned))
    assert learned == [text for text in DOCUMENTS if text in learned], "the order is kept"
    replay, replay_heldout = texts(stage, layout.REPLAY, layout.REPLAY_HELDOUT)
    assert sorted(replay + replay_heldout) == sorted(ENGLISH)
    share = sum(map(len, replay_heldout)) / sum(map(len, ENGLISH))
    assert 0.05 < share < 0.15
    talks = stored_conversations(stage / layout.CONVERSATIONS)
    questions = list(read_jsonl(stage / layout.QUESTIONS))
    asked = {row["question"]: row["reference"] for row in questions}
    answered = {one[0].content: one[1].content for one in talks}
    assert asked | answered == {row["instruction"]: row["output"] for row in ROWS}
    assert (len(asked), len(answered)) == (4, 8)


def test_paths_with_weights_lie_apart_and_hold_the_same(work: Work, own: Path, stage: Path) -> None:
    """In the recipe's order; a text of two paths is the first one's."""
    (own / "more.txt").write_text("\n\n".join(["另一篇。", *DOCUMENTS[:3]]), encoding="utf-8")
    named = ["more.txt", "zh.txt"]
    joined = work(text=named)
    learned, heldout = texts(stage, layout.TEXT, layout.TEXT_HELDOUT)
    for file in stage.iterdir():
        file.unlink()
    assert work(text=named, weights=[1, 3]) == joined
    assert [file.name for file in layout.text_files(stage)] == ["text.1.jsonl", "text.2.jsonl"]
    parts = texts(stage, "text.1.jsonl", "text.2.jsonl")
    assert parts[0] + parts[1] == learned
    assert set(parts[0]) <= {"另一篇。", *DOCUMENTS[:3]}
    assert texts(stage, layout.TEXT_HELDOUT) == [heldout]


def test_weights_are_one_for_each_path(work: Work) -> None:
    with pytest.raises(RecipeError, match=r"weights are 2 for the 1 paths of data.text"):
        work(weights=[1, 3])


def test_the_seed_decides_what_is_held_out(work: Work, stage: Path) -> None:
    found: dict[int, dict[str, bytes]] = {}
    for seed in (0, 1, 0):
        work(seed=seed)
        drawn = {file.name: file.read_bytes() for file in stage.iterdir()}
        assert found.setdefault(seed, drawn) == drawn
    assert found[0][layout.TEXT_HELDOUT] != found[1][layout.TEXT_HELDOUT]
    assert found[0][layout.QUESTIONS] != found[1][layout.QUESTIONS]


def test_a_text_that_comes_twice_is_not_learned_and_held_out(
    work: Work, own: Path, stage: Path
) -> None:
    doubled = "\n\n".join(DOCUMENTS * 3)
    (own / "zh.txt").write_text(doubled, encoding="utf-8")
    work(heldout_documents=20)
    learned, heldout = texts(stage, layout.TEXT, layout.TEXT_HELDOUT)
    assert sorted(learned + heldout) == sorted(DOCUMENTS)


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "gb18030", "big5"])
def test_every_encoding_and_line_end_gives_the_same_text(
    encoding: str, newline: str, work: Work, own: Path, stage: Path
) -> None:
    # Big5 writes traditional characters only.
    documents = ["白日依山盡，黃河入海流。", "欲窮千里目，更上一層樓。", "春眠不覺曉。"]
    (own / "zh.txt").write_bytes((newline * 2).join(documents).encode(encoding))
    work(encoding=encoding.removesuffix("-sig"), heldout_documents=2)
    assert sorted(all_documents(stage)) == sorted(documents)


def test_a_folder_of_every_format_is_read(work: Work, own: Path, stage: Path) -> None:
    folder = own / "corpus/deep"
    folder.mkdir(parents=True)
    (folder / "a.txt").write_text("一段。\n\n二段。", encoding="utf-8")
    (folder / "b.md").write_text("# 三段", encoding="utf-8")
    rows = [json.dumps({"content": text}, ensure_ascii=False) for text in ("四\n段", "五段")]
    (folder / "c.jsonl").write_text("\n".join(rows), encoding="utf-8")
    (folder / "d.csv").write_text("not,text", encoding="utf-8")
    work(text=["corpus"], text_field="content", heldout_documents=2)
    assert sorted(all_documents(stage)) == sorted(["一段。", "二段。", "# 三段", "四\n段", "五段"])


def test_conversations_of_every_format_become_one(work: Work, own: Path, stage: Path) -> None:
    def turns(who: str, what: str, user: str, assistant: str) -> list[dict[str, str]]:
        return [{who: user, what: "问"}, {who: assistant, what: "答"}]

    openai = {"messages": turns("role", "content", "user", "assistant")}
    sharegpt = {"conversations": turns("from", "value", "human", "gpt")}
    alpaca = {"instruction": "问", "input": "", "output": "答"}
    (own / "a.jsonl").write_text("\n".join(map(json.dumps, (openai, sharegpt, alpaca))))
    (own / "b.json").write_text(json.dumps([alpaca, openai]))
    work(instructions=["a.jsonl", "b.json"], heldout_questions=0)
    lines = (stage / layout.CONVERSATIONS).read_text(encoding="utf-8").splitlines()
    assert len(lines) == 5
    assert len(set(lines)) == 1
    assert json.loads(lines[0]) == openai


@pytest.mark.parametrize(
    ("turns", "asked"),
    [
        (["system:短", "user:问", "assistant:答"], ("问", "答")),
        (["user:一", "assistant:二", "user:问", "assistant:答"], ("问", "答")),
        (["user:问", "assistant:答", "user:没有回答"], ("问", "答")),
        (["system:短", "assistant:你好"], None),
    ],
)
def test_a_heldout_question_is_what_a_user_asked_and_was_answered(
    turns: list[str], asked: tuple[str, str] | None, work: Work, own: Path, stage: Path
) -> None:
    pairs = [turn.split(":") for turn in turns]
    row = {"messages": [{"role": role, "content": text} for role, text in pairs]}
    (own / "chat.json").write_text(json.dumps([row, row, row]), encoding="utf-8")
    work(heldout_questions=2)
    found = [(one["question"], one["reference"]) for one in read_jsonl(stage / layout.QUESTIONS)]
    assert found == ([asked] * 2 if asked else [])


@pytest.mark.slow
def test_english_is_measured_even_where_none_is_replayed(work: Work, stage: Path) -> None:
    metrics = work(replay=[])
    assert metrics["num_replay_characters"] == 0
    assert read_texts(stage / layout.REPLAY) == []
    assert metrics["num_heldout_replay_characters"] > 1_000


@pytest.mark.slow
@pytest.mark.parametrize("num_texts", [1, 2, 3, 5])
def test_a_little_replay_is_learned_and_two_texts_are_measured(
    num_texts: int, work: Work, own: Path, stage: Path
) -> None:
    """With one text there is no error bar: the evaluation failed after all the training."""
    replay = [f"{name} " * 50 for name in ("one", "two", "three", "four", "five")[:num_texts]]
    (own / "en.txt").write_text("\n\n".join(replay), encoding="utf-8")
    work()
    learned, heldout = texts(stage, layout.REPLAY, layout.REPLAY_HELDOUT)
    assert learned
    assert len(heldout) >= 2
    assert not set(learned) & set(heldout)
    stripped = {text.strip() for text in replay}
    assert set(learned) <= stripped
    assert (set(heldout) <= stripped) == (num_texts > 2)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"text": ["gone.txt"]}, r"gone\.txt: no such file or folder \(the recipe names it"),
        ({"instructions": ["gone.json"]}, r"gone\.json: no such file"),
        ({"replay": ["gone.txt"]}, r"gone\.txt: no such file"),
        ({"text": ["empty.txt"]}, r"empty\.txt.*no text"),
        ({"text": ["blank.txt"]}, r"blank\.txt.*no text"),
        ({"text": ["folder"]}, "folder: no text in this folder"),
        ({"text": ["chat.json"]}, r"chat\.json: cannot read \.json"),
        ({"replay": ["empty.txt"]}, r"empty\.txt.*no text"),
        ({"instructions": ["none.json"]}, r"none\.json.*no conversation"),
        ({"instructions": ["empty.jsonl"]}, r"empty\.jsonl.*no conversation"),
        ({"text": ["latin.txt"]}, r"latin\.txt:1: byte 0xe9"),
        ({"text": ["gb.txt"]}, r"gb\.txt:1: .*give encoding= gb18030"),
        ({"encoding": "no-such"}, "encoding 'no-such' is unknown"),
        ({"heldout_documents": 0}, "heldout_documents: 0 held out, but at least 2"),
        ({"heldout_documents": 1}, "heldout_documents: 1 held out, but at least 2"),
        ({"heldout_documents": 40}, "40 cannot be held out of 40; lower it or give more data"),
        ({"heldout_questions": 12}, "12 cannot be held out of 12"),
    ],
)
def test_what_is_wrong_is_named_and_nothing_is_written(
    changes: dict[str, Any], message: str, work: Work, own: Path, stage: Path
) -> None:
    (own / "folder").mkdir()
    (own / "empty.txt").touch()
    (own / "empty.jsonl").touch()
    (own / "blank.txt").write_text(" \n\t\n\n", encoding="utf-8")
    (own / "none.json").write_text("[]")
    (own / "latin.txt").write_bytes("café\n".encode("latin-1"))
    (own / "gb.txt").write_bytes("白日依山尽".encode("gb18030"))
    with pytest.raises(DataError, match=message) as error:
        work(**changes)
    assert "\n" not in str(error.value)
    assert not list(stage.iterdir())
