"""Files of every layout and encoding, rows that cannot be read among them."""

import gzip
import json
from pathlib import Path

import pytest

from hanpaca.data.cleaning.encodings import find_encoding
from hanpaca.data.cleaning.rows import Row, find_sources, read_source
from hanpaca.data.files import text_files
from hanpaca.data.lines import MAX_CHARACTERS
from hanpaca.errors import DataError, RecipeError

POEM = "白日依山尽，黄河入海流。\n欲穷千里目，更上一层楼。"


def rows(path: Path, encoding: str = "auto") -> list[Row]:
    (source,) = find_sources([path], encoding=encoding, text_field="text")
    return list(read_source(source, text_field="text"))


def faults(path: Path) -> list[tuple[int, str, str]]:
    return [(row.number, row.fault, row.detail) for row in rows(path) if row.fault]


def test_bad_lines_of_text_are_named_and_the_rest_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    lines = [
        '{"text": "一", "domain": "poem"}',
        '{"text": "二",}',
        "",
        '{"text": null}',
        '["三"]',
        '{"text": "\\ud83d"}',
        '{"text": " "}',
        '{"content": "四"}',
        '{"text": "五"}',
    ]
    path.write_text("\n".join(lines))
    read = [row for row in rows(path) if not row.fault]
    assert [(row.number, row.text) for row in read] == [(1, "一"), (9, "五")]
    assert [row.written for row in read] == [lines[0], lines[8]]
    found = faults(path)
    assert [(number, fault) for number, fault, _ in found] == [
        (2, "unreadable"),
        (4, "unreadable"),
        (5, "unreadable"),
        (6, "unreadable"),
        (7, "no text"),
        (8, "unreadable"),
    ]
    assert "not JSON" in found[0][2]
    assert "no text in field 'text' (found: content)" in found[5][2]
    assert str(path) not in found[0][2]


def test_bad_conversations_are_named_and_empty_answers_are_told_apart(tmp_path: Path) -> None:
    good = {"instruction": "问", "input": "", "output": "答", "id": 7}
    turns = [{"role": "user", "content": "问"}, {"role": "assistant", "content": "答"}]
    given: list[object] = [
        good,
        good | {"output": ""},
        good | {"output": None},
        {"messages": [turns[0], turns[1] | {"content": " "}]},
        {"messages": [turns[0], {"role": "tool", "content": "x"}, turns[1]]},
        {"conversations": [{"from": "human", "value": "问"}, {"from": "gpt", "value": ""}]},
        {"messages": turns},
        good | {"instruction": ["nested"]},
        "row",
    ]
    path = tmp_path / "a.json"
    path.write_text(json.dumps(given), encoding="utf-8")
    read = [row for row in rows(path) if not row.fault]
    assert [row.text for row in read] == ["问\n答", "问\n答"]
    assert [json.loads(row.written) for row in read] == [given[0], given[6]]
    told = faults(path)
    assert [(number, fault) for number, fault, _ in told] == [
        (2, "empty answer"),
        (3, "empty answer"),
        (4, "empty answer"),
        (5, "unreadable"),
        (6, "empty answer"),
        (8, "unreadable"),
        (9, "unreadable"),
    ]
    assert "role 'tool' is unknown" in told[3][2]


def test_json_lines_hold_instructions_if_the_first_row_has_an_answer(tmp_path: Path) -> None:
    answered, text = tmp_path / "a.jsonl", tmp_path / "b.jsonl"
    answered.write_text('not json\n{"instruction": "问", "output": "答"}\n')
    text.write_text('{"text": "一", "output": "x"}\n')
    sources = [
        find_sources([path], encoding="auto", text_field="text")[0].kind
        for path in (answered, text)
    ]
    assert sources == ["instructions", "text"]
    assert [row.fault for row in rows(answered)] == ["unreadable", ""]
    with pytest.raises(RecipeError, match="take them apart"):
        find_sources([answered, text], encoding="auto", text_field="text")


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (POEM.encode(), "utf-8"),
        (b"plain\n", "utf-8"),
        (b"", "utf-8"),
        (POEM.replace("\n", "\r\n").encode("utf-8-sig"), "utf-8 with BOM, CRLF"),
        (POEM.encode("gb18030"), "gb18030"),
        ((POEM * 9_000).encode("gb18030"), "gb18030"),
        ("床前明月光，疑是地上霜。".encode("big5"), "big5"),
        (POEM.encode("utf-16"), "utf-16 with BOM"),
        (POEM.encode("utf-32"), "utf-32 with BOM"),
        (POEM.encode() + b"\xff" + POEM.encode(), "unknown"),
        (POEM.encode() + b"\xe7\x99", "unknown"),
    ],
)
def test_the_encoding_of_a_file_is_found(tmp_path: Path, data: bytes, name: str) -> None:
    for path, written in ((tmp_path / "a.txt", data), (tmp_path / "a.txt.gz", gzip.compress(data))):
        path.write_bytes(written)
        assert str(find_encoding(text_files(path)[0])) == name
        if name != "unknown" and data and len(data) < 1000:
            read = "".join(row.text for row in rows(path))
            assert read in (POEM, "plain", "床前明月光，疑是地上霜。")


def test_damaged_utf_8_is_never_taken_for_gb18030(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    for at in range(30, 60):
        path.write_bytes(POEM.encode()[:at] + b"\xff" + POEM.encode()[at:])
        assert find_encoding(text_files(path)[0]).name == "unknown"
    with pytest.raises(DataError, match=r"a\.txt:\d: byte 0x"):
        rows(path)


def test_a_long_document_comes_in_parts_that_are_read_again_as_they_are(tmp_path: Path) -> None:
    path, again = tmp_path / "a.jsonl", tmp_path / "b.jsonl"
    text = "字" * (MAX_CHARACTERS + 5)
    path.write_text(json.dumps({"text": text, "id": 1}) + "\n")
    parts = rows(path)
    assert [row.number for row in parts] == [1, 1]
    assert "".join(row.text for row in parts) == text
    again.write_text("".join(row.written + "\n" for row in parts))
    assert [row.text for row in rows(again)] == [row.text for row in parts]
    assert [row.written for row in rows(again)] == [row.written for row in parts]


def test_a_line_too_long_is_one_unreadable_row(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "' + "a" * (33 * MAX_CHARACTERS) + '"}\n{"text": "b"}\n')
    found = rows(path)
    assert [(row.number, row.fault) for row in found] == [(1, "unreadable"), (2, "")]


def test_a_half_character_in_a_key_that_is_not_read_is_written_escaped(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text('[{"instruction": "问", "output": "答", "note": "\\ud83d"}]')
    (row,) = rows(path)
    assert row.written.isascii()


def test_no_path_one_twice_and_a_missing_one_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("一")
    with pytest.raises(RecipeError, match="no text is named"):
        find_sources([], encoding="auto", text_field="text")
    with pytest.raises(RecipeError, match="given twice"):
        find_sources([path, path], encoding="auto", text_field="text")
    for name in ("b.txt", "b.json", "b.pdf"):
        with pytest.raises(DataError, match=name):
            find_sources([tmp_path / name], encoding="auto", text_field="text")


def test_columns_of_parquet_are_read(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "a.parquet"
    parquet.write_table(pyarrow.table({"text": ["一", "", "二"]}), path)
    assert [(row.number, row.text, row.fault) for row in rows(path)] == [
        (1, "一", ""),
        (2, "", "no text"),
        (3, "二", ""),
    ]


GOOD = '{"instruction": "问", "output": "答"}'
TURNS = '{"messages": [{"role": "user", "content": "问"}, {"role": "%s", "content": %s}]}'


@pytest.mark.parametrize(
    ("damaged", "fault", "reason"),
    [
        ('{"instruction": "问", "output": null}', "empty answer", "empty"),
        ('{"instruction": "问", "output": "答",}', "unreadable", "not JSON"),
        ('{"instruction": "问", "output": "答", "output": "又"}', "unreadable", "twice"),
        ('{"instruction": "问", "output": "\\ud83d"}', "unreadable", "half a character"),
        (TURNS % ("tool", '"{}"'), "unreadable", "role 'tool' is unknown"),
        (TURNS % ("narrator", '"x"'), "unreadable", "role 'narrator' is unknown"),
        (TURNS % ("assistant", '{"role": "user"}'), "unreadable", "not text"),
        (TURNS % ("assistant", '""'), "empty answer", "empty"),
        ("[1, 2]", "unreadable", "an object is needed"),
        ('"row"', "unreadable", "an object is needed"),
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "gb18030", "utf-16"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_damage_of_each_kind_gives_its_row_and_reason_and_costs_no_other_row(
    tmp_path: Path, damaged: str, fault: str, reason: str, encoding: str, end: str
) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes((end.join([GOOD, damaged, GOOD]) + end).encode(encoding))
    found = rows(path)
    assert [(row.number, row.fault) for row in found] == [(1, ""), (2, fault), (3, "")]
    assert reason in found[1].detail
    assert found[0].text == found[2].text == "问\n答"


def test_a_list_with_a_trailing_comma_is_told_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text(f"[\n{GOOD},\n]\n", encoding="utf-8")
    ((number, fault, detail),) = faults(path)
    assert (number, fault) == (2, "unreadable")
    assert detail == "not JSON: a comma before the end of the list (line 3)"
