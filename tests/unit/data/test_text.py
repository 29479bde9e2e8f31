import json
from pathlib import Path

import pytest

from hanpaca.data.text import read_documents
from hanpaca.errors import DataError


def test_blank_lines_part_documents_and_sources_are_named(tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    file.write_text("\ufeff白日依山尽\n黄河入海流\n\n\n欲穷千里目\n", encoding="utf-8")
    found = list(read_documents([file]))
    assert [one.text for one in found] == ["白日依山尽\n黄河入海流", "欲穷千里目"]
    assert [one.source for one in found] == [f"{file}:1", f"{file}:5"]


def test_folders_are_read_in_order(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    (tmp_path / "b/2.txt").write_text("二", encoding="utf-8")
    (tmp_path / "1.jsonl").write_text(json.dumps({"body": "一"}) + "\n\n", encoding="utf-8")
    (tmp_path / "skip.bin").write_bytes(b"\xff")
    found = [one.text for one in read_documents([tmp_path], text_field="body")]
    assert found == ["一", "二"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", "好\n汉字".encode("gb18030"), "a.txt:1: byte .* set `encoding: gb18030`"),
        ("a.txt", b"ok\n\xff\xff\n", "a.txt:2: byte 0xff"),
        ("a.jsonl", b'{"text": "a"}\n{"text":', "a.jsonl:2: not JSON"),
        ("a.jsonl", b'{"txt": "a"}\n', r"a.jsonl:1: no text in field 'text' \(found: txt\)"),
        ("a.jsonl", b"[1]\n", r"a.jsonl:1: .*found: list"),
        ("a.pdf", b"%PDF", "cannot read .pdf"),
    ],
)
def test_a_broken_line_is_named(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message):
        list(read_documents([tmp_path / name]))


def test_gb18030_is_read_when_asked_for(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes("汉字".encode("gb18030"))
    assert next(read_documents([tmp_path / "a.txt"], encoding="gb18030")).text == "汉字"
    with pytest.raises(DataError, match="'utf-99' is unknown"):
        list(read_documents([tmp_path / "a.txt"], encoding="utf-99"))


def test_missing_and_empty_places_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file or folder"):
        list(read_documents([tmp_path / "none.txt"]))
    with pytest.raises(DataError, match=r"no \.txt, \.md, \.jsonl file"):
        list(read_documents([tmp_path]))
