import gzip
import json
from pathlib import Path

import pytest

from hanpaca.data.conversations import Message, read_conversations
from hanpaca.errors import DataError


def write(path: Path, tree: object) -> Path:
    path.write_text(json.dumps(tree, ensure_ascii=False), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("row", "asked", "answered"),
    [
        ({"instruction": "译", "input": "hi", "output": "你好"}, "译\nhi", "你好"),
        ({"instruction": "译", "input": "", "output": "你好"}, "译", "你好"),
        (
            {"conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]},
            "q",
            "a",
        ),
        (
            {
                "messages": [
                    {"role": "user", "content": "q"},
                    {"role": "assistant", "content": "a"},
                ]
            },
            "q",
            "a",
        ),
    ],
)
def test_the_usual_formats_are_read(
    tmp_path: Path, row: dict[str, object], asked: str, answered: str
) -> None:
    file = write(tmp_path / "a.json", [row])
    [(conversation, source)] = read_conversations([file])
    assert conversation == (Message("user", asked), Message("assistant", answered))
    assert source == f"{file}:1"


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"instruction": "x", "output": ""}, "a.json:1: field 'output' is empty"),
        ({"messages": [{"role": "bot", "content": "x"}]}, "role 'bot' is unknown"),
        ({"messages": [{"role": "user", "content": "x"}]}, "no answer"),
        ({"messages": "x"}, "a list of objects"),
        ({"prompt": "x"}, "found prompt; expected instruction"),
        (3, "an object is needed, not int"),
    ],
)
def test_a_malformed_row_is_named(tmp_path: Path, row: object, message: str) -> None:
    with pytest.raises(DataError, match=message):
        list(read_conversations([write(tmp_path / "a.json", [row])]))


def test_broken_files_are_named(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"instruction": "x", "output": "y"}\n{oops\n')
    with pytest.raises(DataError, match=r"a\.jsonl:2: not JSON"):
        list(read_conversations([tmp_path / "a.jsonl"]))
    with pytest.raises(DataError, match="a list of rows is needed, not dict"):
        list(read_conversations([write(tmp_path / "b.json", {})]))


SEPARATORS = "行\u2028段\u2029页\u0085尾\x0b\x0c\x1c\x1e"


@pytest.mark.parametrize("suffix", [".json", ".jsonl"])
def test_unicode_line_ends_inside_a_text_end_no_line(suffix: str, tmp_path: Path) -> None:
    """JSON leaves U+2028 and U+0085 as they are; web text is full of them."""
    row = {"instruction": SEPARATORS, "output": f"答{SEPARATORS}"}
    tree = [row, row] if suffix == ".json" else row
    file = write(tmp_path / f"a{suffix}", tree)
    if suffix == ".jsonl":
        file.write_text(file.read_text(encoding="utf-8") + "\r\n" + json.dumps(row))
    talks = [talk for talk, _ in read_conversations([file])]
    assert len(talks) == 2
    assert {talk[0].content for talk in talks} == {SEPARATORS}
    assert {talk[1].content for talk in talks} == {f"答{SEPARATORS}"}


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.json", b"", "not JSON"),
        ("a.json", b"{}", "a list of rows is needed, not dict"),
        ("a.json", b"[" * 100_000, "nested too deeply"),
        ("a.jsonl", b"{}\n" + b"[" * 100_000, "a.jsonl:1: found nothing"),
        ("a.jsonl", b"\n\n[1]", "a.jsonl:1: an object is needed, not int"),
        ("a.jsonl", b"\n{", "a.jsonl:2: not JSON"),
        ("a.json", "[{}]".encode("utf-16"), "looks like utf-16: give encoding= utf-16"),
        (
            "a.json",
            '[{"output": "你"}]'.encode("gb18030"),
            "looks like gb18030: give encoding= gb18030",
        ),
        ("a.json", b'[{"output": 5, "instruction": "a"}]', "a.json:1: field 'output'"),
        ("a.json", b'[{"output": "a"}]', "field 'instruction' is empty or not text"),
        ("a.json", b'[{"messages": 5}]', "a list of objects with 'role' and 'content'"),
        ("a.json", b'[{"messages": [5]}]', "a list of objects with 'role' and 'content'"),
        ("a.json", b'[{"messages": [{"role": ["user"], "content": "a"}]}]', "is unknown; known"),
        ("a.json", b'[{"messages": [{"role": "user", "content": "a"}]}]', "there is no answer"),
        ("a.json", b'[{"messages": []}]', "there is no answer"),
    ],
)
def test_a_damaged_file_is_named_with_its_row(
    name: str, content: bytes, message: str, tmp_path: Path
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message) as error:
        list(read_conversations([tmp_path / name]))
    assert "\n" not in str(error.value)


def talks(tmp_path: Path, *rows: object) -> list[list[tuple[str, str]]]:
    read = read_conversations([write(tmp_path / "a.json", list(rows))])
    return [[(turn.role, turn.content) for turn in talk] for talk, _ in read]


ANSWERED = {"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]}


def test_system_and_history_are_learned_from(tmp_path: Path) -> None:
    alpaca = {"instruction": "多少钱？", "output": "三十元。", "system": "你是店员。"}
    shared = {
        "system": "Be brief.",
        "conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}],
    }
    assert talks(tmp_path, alpaca | {"history": [["有书吗？", "有。"]]}, shared) == [
        [
            ("system", "你是店员。"),
            ("user", "有书吗？"),
            ("assistant", "有。"),
            ("user", "多少钱？"),
            ("assistant", "三十元。"),
        ],
        [("system", "Be brief."), ("user", "q"), ("assistant", "a")],
    ]
    both = {"messages": [{"role": "system", "content": "x"}, *ANSWERED["messages"]]}
    assert talks(tmp_path, both | {"system": "x"}) == talks(tmp_path, both)
    with pytest.raises(DataError, match=r"a\.json:1: two system prompts"):
        talks(tmp_path, both | {"system": "y"})


@pytest.mark.parametrize(
    "mark",
    [
        {"weight": 0},
        {"weight": 0.0},
        {"loss_weight": 0},
        {"loss_mask": 0},
        {"loss": False},
        {"train": False},
        {"label": False},
    ],
)
def test_an_answer_marked_so_is_not_learned(tmp_path: Path, mark: dict[str, object]) -> None:
    quiet = {"role": "assistant", "content": "a"} | mark
    turns = [{"role": "user", "content": "q"}, quiet, *ANSWERED["messages"]]
    file = write(tmp_path / "a.json", [{"messages": turns}, ANSWERED | mark])
    told: list[str] = []
    [(talk, _)] = read_conversations([file], tell=lambda one: told.append(one.note))
    assert [turn.learned for turn in talk if turn.role == "assistant"] == [False, True]
    assert told == ["1 rows are left out: all their answers are marked so"]


def test_marks_that_say_yes_change_nothing_and_others_are_named(tmp_path: Path) -> None:
    marks = {"weight": 1, "train": True, "label": True, "loss_mask": 1.0, "loss": None}
    odd = {"weight": 0.5, "label": 3}
    told: list[str] = []
    file = write(tmp_path / "a.json", [ANSWERED | marks, ANSWERED | odd, ANSWERED | odd])
    read = list(read_conversations([file], tell=lambda one: told.append(one.note)))
    assert all(turn.learned for talk, _ in read for turn in talk)
    assert told == [
        "the key 'label' is not used (2 times)",
        "the key 'weight other than 0 and 1' is not used (2 times)",
    ]


def test_a_key_without_use_is_named_once_with_its_count(tmp_path: Path) -> None:
    row = ANSWERED | {"tools": [{"name": "f"}], "id": 0, "empty": [], "none": None}
    named = {"messages": [{"name": "Li", **turn} for turn in ANSWERED["messages"]]}
    told: list[str] = []
    file = write(tmp_path / "a.json", [row, row, named])
    assert len(list(read_conversations([file], tell=lambda one: told.append(one.note)))) == 3
    assert told == [
        "the key 'tools' is not used (2 times)",
        "the key 'id' is not used (2 times)",
        "the key 'name' is not used (2 times)",
    ]


@pytest.mark.parametrize(("value", "asked"), [(0, "x\n0"), (2.5, "x\n2.5"), (None, "x"), ("", "x")])
def test_a_number_is_an_input(tmp_path: Path, value: object, asked: str) -> None:
    [talk] = talks(tmp_path, {"instruction": "x", "input": value, "output": "y"})
    assert talk[0] == ("user", asked)


def test_parts_of_text_are_joined(tmp_path: Path) -> None:
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    [talk] = talks(
        tmp_path, {"messages": [{"role": "user", "content": parts}, *ANSWERED["messages"][1:]]}
    )
    assert talk[0] == ("user", "ab")


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"instruction": ["a", "b"], "output": "y"}, r"field 'instruction' is a list with 'a', wh"),
        ({"instruction": "x", "input": ["a"], "output": "y"}, "field 'input' is a list with 'a'"),
        ({"instruction": "x", "input": False, "output": "y"}, "field 'input' is .*found False"),
        ({"instruction": "x", "output": None}, r"field 'output' is empty .*\(found None\)"),
        ({"instruction": "x", "output": "y", "history": [["q"]]}, "history must be a list of"),
        (
            {"instruction": "x", "output": "好 \ud83d 的"},
            r"half a character, \\ud83d, at position 2 of 'output'",
        ),
        ({"messages": ANSWERED["messages"][1:]}, "begins with an answer"),
        (
            {"messages": ANSWERED["messages"][:1], "chosen": "a", "rejected": "b"},
            "no answer in this conversation; chosen and rejected are preferences",
        ),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url"}]}]},
            "field 'content' is a list with {'type': 'image_url'}, which is no text",
        ),
    ],
)
def test_a_row_that_cannot_be_learned_is_named_or_skipped(
    tmp_path: Path, row: dict[str, object], message: str
) -> None:
    (tmp_path / "a.json").write_text(json.dumps([ANSWERED, row, ANSWERED]))
    with pytest.raises(DataError, match=f"a.json:2: .*{message}.*set skip_bad_rows= to leave"):
        list(read_conversations([tmp_path / "a.json"]))
    told: list[str] = []
    found = read_conversations(
        [tmp_path / "a.json"], skip_bad_rows=True, tell=lambda one: told.append(one.note)
    )
    assert [place[-1] for _, place in found] == ["1", "3"]
    assert told[0].startswith("1 bad rows are left out; the first: ")


@pytest.mark.parametrize("name", ["a.json", "a.jsonl", "a.json.gz", "a.jsonl.gz"])
@pytest.mark.parametrize("layout", ["list", "lines", "blank lines", "pretty"])
def test_lists_and_lines_are_read_whatever_the_name_says(
    name: str, layout: str, tmp_path: Path
) -> None:
    row = json.dumps(ANSWERED)
    text = {
        "list": json.dumps([ANSWERED] * 3),
        "lines": f"{row}\n{row}\n{row}",
        "blank lines": f"\ufeff{row}\r\n\r\n{row}\r\n{row}\r\n\r\n",
        "pretty": json.dumps([ANSWERED] * 3, indent=2),
    }[layout]
    data = text.encode()
    (tmp_path / name).write_bytes(gzip.compress(data) if name.endswith("gz") else data)
    places = [place.rpartition(":")[2] for _, place in read_conversations([tmp_path / name])]
    assert places == (["1", "3", "4"] if layout == "blank lines" else ["1", "2", "3"])


def test_a_broken_line_can_be_skipped_and_a_key_said_twice_is_one(tmp_path: Path) -> None:
    good = json.dumps(ANSWERED)
    twice = '{"instruction": "a", "output": "b", "output": "c"}'
    (tmp_path / "a.jsonl").write_text(f"{good}\n{{oops\n{twice}\n{good}")
    found = read_conversations([tmp_path / "a.jsonl"], skip_bad_rows=True)
    assert [place[-1] for _, place in found] == ["1", "4"]
    (tmp_path / "a.jsonl").write_text(f"{good}\n{twice}")
    with pytest.raises(DataError, match=r"a\.jsonl:2: .*the key 'output' stands there twice"):
        list(read_conversations([tmp_path / "a.jsonl"]))


@pytest.mark.parametrize("encoding", ["gb18030", "utf-16"])
def test_an_encoding_that_is_named_is_read_and_utf8_stays_utf8(
    encoding: str, tmp_path: Path
) -> None:
    text = json.dumps([{"instruction": "问", "output": "白日依山尽"}], ensure_ascii=False)
    for written in (encoding, "utf-8"):
        (tmp_path / "a.json").write_bytes(text.encode(written))
        [(talk, _)] = read_conversations([tmp_path / "a.json"], encoding=encoding)
        assert talk[1].content == "白日依山尽"
