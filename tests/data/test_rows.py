"""Rows of every layout, one at a time, and what each kind of damage costs."""

import csv
import gzip
import io
import json
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hanpaca.data.conversations import read_conversations
from hanpaca.data.json_list import read_list
from hanpaca.data.rows import read_rows
from hanpaca.errors import DataError

ROW = {"instruction": "问", "input": "", "output": "答"}
GOOD = json.dumps(ROW, ensure_ascii=False)
DAMAGED = {
    "null output": ('{"instruction": "问", "output": null}', r"field 'output' is empty"),
    "nested roles": (
        '{"messages": [{"role": {"name": "user"}, "content": "问"}]}',
        r"role {'name': 'user'} is unknown",
    ),
    "unknown role": (
        '{"messages": [{"role": "robot", "content": "问"}]}',
        "role 'robot' is unknown",
    ),
    "tool turn": (
        '{"messages": [{"role": "user", "content": "问"}, {"role": "tool", "content": "{}"}, '
        '{"role": "assistant", "content": "答"}]}',
        "role 'tool' is unknown",
    ),
    "trailing comma": ('{"instruction": "问", "output": "答",}', "not JSON: "),
    "half a character": (
        '{"instruction": "问", "output": "\\ud83d"}',
        r"half a character, \\ud83d, at position 0 of 'output'",
    ),
    "a key twice": ('{"output": "a", "output": "b"}', "the key 'output' stands there twice"),
    "no object": ("3", "an object is needed, not int"),
    "no JSON": ("{oops}", "not JSON: "),
    "brackets in a text": ('{"output": "}]", "instruction": }', "not JSON: "),
}


def packed(rows: list[str], layout: str) -> str:
    return "[" + ",\n".join(rows) + "]" if layout == "list" else "\n".join(rows) + "\n"


@pytest.mark.parametrize("damage", DAMAGED)
@pytest.mark.parametrize("layout", ["list", "lines"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_damaged_row_is_named_or_skipped_and_costs_no_other(
    damage: str, layout: str, mark: str, end: str, tmp_path: Path
) -> None:
    row, reason = DAMAGED[damage]
    path = tmp_path / "a.json"
    text = mark + packed([GOOD, row, GOOD], layout)
    path.write_bytes(text.replace("\n", end).encode())
    with pytest.raises(DataError, match=rf"a\.json:2: .*{reason}.*set skip_bad_rows= to leave"):
        list(read_conversations([path]))
    told: list[str] = []
    found = read_conversations([path], skip_bad_rows=True, tell=lambda one: told.append(one.note))
    assert [place for _, place in found] == [f"{path}:1", f"{path}:3"]
    assert told[0].startswith(f"1 bad rows are left out; the first: {path}:2: ")


def test_a_comma_before_the_end_of_a_list_is_one_bad_row(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(f"[{GOOD},\n{GOOD},\n]", encoding="utf-8")
    with pytest.raises(DataError, match=r"json:3: not JSON: a comma before the end .*\(line 3\)"):
        list(read_conversations([tmp_path / "a.json"]))
    assert len(list(read_conversations([tmp_path / "a.json"], skip_bad_rows=True))) == 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (f"[{GOOD}, {GOOD}", "json:2: not JSON: the list does not end; the file is cut off"),
        (f"[{GOOD},", "json:2: not JSON: Expecting value"),
        (f"[{GOOD}, {GOOD[:-5]}", "json:2: not JSON: Expecting"),
        (f"[{GOOD} {GOOD}]", "json:1: not JSON: ',' or ']' is expected after this row, not '{'"),
        (f"[{GOOD}] x", "json:1: not JSON: 'x' follows the end of the list"),
    ],
)
def test_a_list_that_is_broken_as_a_whole_is_refused_though_rows_may_be_skipped(
    text: str, message: str, tmp_path: Path
) -> None:
    (tmp_path / "a.json").write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=message):
        list(read_conversations([tmp_path / "a.json"], skip_bad_rows=True))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=6,
)


@settings(max_examples=60)
@given(
    rows=st.lists(JSON, max_size=6),
    size=st.integers(1, 9),
    indent=st.sampled_from([None, 1]),
    ascii_only=st.booleans(),
)
def test_a_list_read_in_pieces_is_what_the_json_module_reads(
    rows: list[Any], size: int, indent: int | None, ascii_only: bool
) -> None:
    text = json.dumps(rows, indent=indent, ensure_ascii=ascii_only)
    blocks = [text[at : at + size] for at in range(0, len(text), size)]
    found = list(read_list(blocks, Path("a.json")))
    assert [row for _, row in found] == rows
    assert [place for place, _ in found] == [f"a.json:{n + 1}" for n in range(len(rows))]


def as_csv(rows: list[dict[str, str]]) -> bytes:
    stream = io.StringIO()
    table = csv.DictWriter(stream, list(rows[0]))
    table.writeheader()
    table.writerows(rows)
    return stream.getvalue().encode()


def as_parquet(rows: list[dict[str, Any]]) -> bytes:
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    stream = io.BytesIO()
    parquet.write_table(pyarrow.Table.from_pylist(rows), stream)
    return stream.getvalue()


ALPACA = [
    {"instruction": f'问"{n}，\n', "input": "" if n else "x", "output": "答"} for n in range(700)
]
LAYOUTS: dict[str, Callable[[list[Any]], bytes]] = {
    "a.json": lambda rows: json.dumps(rows).encode(),
    "a.jsonl": lambda rows: "\n".join(map(json.dumps, rows)).encode(),
    "a.csv": as_csv,
    "a.parquet": as_parquet,
}


@pytest.mark.parametrize("name", LAYOUTS)
@pytest.mark.parametrize("packing", ["", ".gz"])
def test_instructions_are_the_same_in_every_layout_and_in_a_folder(
    name: str, packing: str, tmp_path: Path
) -> None:
    data = LAYOUTS[name](ALPACA)
    (tmp_path / (name + packing)).write_bytes(gzip.compress(data) if packing else data)
    (tmp_path / "README.md").write_text("no instructions")
    expected = [("问" + f'"{n}，\n' + ("" if n else "\nx"), "答") for n in range(700)]
    for path in (tmp_path / (name + packing), tmp_path):
        found = [(a.content, b.content) for (a, b), _ in read_conversations([path])]
        assert found == expected


def test_turns_of_a_parquet_file_are_read(tmp_path: Path) -> None:
    turns = [{"role": "user", "content": "问"}, {"role": "assistant", "content": "答"}]
    (tmp_path / "a.parquet").write_bytes(as_parquet([{"messages": turns}] * 3))
    places = [place for _, place in read_conversations([tmp_path / "a.parquet"])]
    assert places == [f"{tmp_path / 'a.parquet'}:{n}" for n in (1, 2, 3)]


def test_damaged_tables_are_named(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text('instruction,output\n问,答\n问,答,三\n"问",答\n', encoding="utf-8")
    with pytest.raises(DataError, match=r"a\.csv:2: more values than the 2 columns"):
        list(read_conversations([path]))
    assert len(list(read_conversations([path], skip_bad_rows=True))) == 2
    path.write_text('instruction,output\n问,答\n"问,答\n', encoding="utf-8")
    with pytest.raises(DataError, match=r"a\.csv:2: not CSV: unexpected end of data"):
        list(read_conversations([path]))
    (tmp_path / "a.parquet").write_bytes(as_parquet([ROW])[:-9])
    with pytest.raises(DataError, match=r"a\.parquet:1: this parquet file is damaged"):
        list(read_conversations([tmp_path / "a.parquet"]))


def test_a_folder_without_instructions_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("x")
    with pytest.raises(DataError, match=r"no instructions in this folder; they can be \.json"):
        list(read_conversations([tmp_path]))


@pytest.mark.parametrize("name", ["a.json", "a.jsonl", "a.csv"])
def test_memory_does_not_grow_with_the_file(name: str, tmp_path: Path) -> None:
    row = {"instruction": "q" * 1000, "output": "a" * 7000}
    num_rows = 2_000
    (tmp_path / name).write_bytes(LAYOUTS[name]([row] * num_rows))
    tracemalloc.start()
    try:
        assert sum(1 for _ in read_rows(tmp_path / name, encoding="utf-8")) == num_rows
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < (tmp_path / name).stat().st_size / 2


def test_a_row_without_end_is_refused_before_it_fills_the_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("hanpaca.data.json_list.MAX_ROW_CHARACTERS", 1 << 16)

    def blocks() -> Iterator[str]:
        yield '[{"output": "'
        while True:
            yield "a" * (1 << 12)

    with pytest.raises(DataError, match=r"a\.json:1: not JSON: a row of more than 65536 char"):
        list(read_list(blocks(), Path("a.json")))
