"""Documents of every kind are read as text with places; what cannot be read is said in one line."""

import os
import re
import zipfile
from pathlib import Path

import pytest

from hanpaca.data.readers.html import html_blocks
from hanpaca.data.readers.parts import TextPart, read_parts
from hanpaca.data.readers.walk import find_papers
from hanpaca.errors import DataError
from tests.support.papers import write_docx, write_epub, write_pdf
from tests.support.texts import POEMS

TRADITIONAL = "床前明月光，疑是地上霜。舉頭望明月，低頭思故鄉。電腦程式設計需要長時間的練習。"
UNMAPPED = "ќҚҪїҲӘҜԳԴԵԶ"
"""What Chinese comes out as where a font has a wrong map."""


def parts_of(path: Path) -> list[TextPart]:
    return list(read_parts(path, note=lambda told: pytest.fail(told)))


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "gb18030", "big5", "utf-16"])
def test_a_text_is_read_in_the_encoding_it_has(tmp_path: Path, encoding: str) -> None:
    for text in (TRADITIONAL, TRADITIONAL * 40, "白日依山尽，黄河入海流。"):
        if encoding == "big5" and not text.startswith(TRADITIONAL):
            continue
        for name, written in (("a.txt", text), ("a.html", f"<p>{text}</p>")):
            (tmp_path / name).write_text(written, encoding=encoding)
            assert parts_of(tmp_path / name) == [TextPart(text, "line", 1)]


def test_lines_and_rows_have_their_numbers(tmp_path: Path) -> None:
    (tmp_path / "a.md").write_text("一\n二\n\n\n三", encoding="utf-8")
    assert parts_of(tmp_path / "a.md") == [TextPart("一\n二", "line", 1), TextPart("三", "line", 5)]
    (tmp_path / "a.jsonl").write_text('{"text": "一"}\n\n{"text": "二"}\n', encoding="utf-8")
    assert parts_of(tmp_path / "a.jsonl") == [TextPart("一", "row", 1), TextPart("二", "row", 3)]


def test_a_page_of_html_is_its_text_alone() -> None:
    page = (
        "<html><head><title>T</title><script>var a = '<p>no</p>';</script></head>\n"
        "<body><h1>题</h1><p>一<b>二</b>&#x4E09;<br>四</p>\n"
        "<style>p {}</style><table><tr><td>五<td>六</table>七"
    )
    assert [text for _, text in html_blocks([page])] == ["题", "一二三", "四", "五", "六", "七"]
    assert [line for line, _ in html_blocks([page])] == [2, 2, 2, 3, 3, 3]


def test_a_word_file_is_its_paragraphs(tmp_path: Path) -> None:
    path = write_docx(tmp_path / "a.docx", ["一", "", "二\t三"])
    assert parts_of(path) == [TextPart("一", "paragraph", 1), TextPart("二 三", "paragraph", 3)]


def test_a_book_is_its_chapters_in_the_order_of_reading(tmp_path: Path) -> None:
    path = write_epub(tmp_path / "a.epub", POEMS[:3])
    assert parts_of(path) == [TextPart(text, "chapter", n) for n, text in enumerate(POEMS[:3], 1)]


def test_a_pdf_is_its_pages(tmp_path: Path) -> None:
    pytest.importorskip("pypdf")
    path = write_pdf(tmp_path / "a.pdf", [POEMS[0], "LoRA of rank 8"])
    assert parts_of(path) == [TextPart(POEMS[0], "page", 1), TextPart("LoRA of rank 8", "page", 2)]


def test_pages_that_cannot_be_read_are_named_and_the_others_read(tmp_path: Path) -> None:
    pytest.importorskip("pypdf")
    path = write_pdf(tmp_path / "a.pdf", ["", POEMS[0], UNMAPPED, UNMAPPED, "", ""])
    told: list[str] = []
    assert list(read_parts(path, note=told.append)) == [TextPart(POEMS[0], "page", 2)]
    assert told == [
        "no text, perhaps a scan, on page 1, 5-6 of 6; "
        "letters that are mostly neither Han nor Latin on page 3-4 of 6"
    ]


def test_documents_that_cannot_be_read_say_why(tmp_path: Path) -> None:
    pytest.importorskip("pypdf")
    write_pdf(tmp_path / "scan.pdf", ["", ""])
    write_pdf(tmp_path / "locked.pdf", [POEMS[0]], password="secret")
    whole = write_pdf(tmp_path / "half.pdf", [POEMS[0]]).read_bytes()
    (tmp_path / "half.pdf").write_bytes(whole[:200])
    (tmp_path / "no.pdf").write_bytes(b"<html>not found</html>")
    (tmp_path / "locked.docx").write_bytes(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(500))
    packed = write_docx(tmp_path / "half.docx", POEMS).read_bytes()
    (tmp_path / "half.docx").write_bytes(packed[:-30])
    with zipfile.ZipFile(tmp_path / "other.docx", "w") as other:
        other.writestr("a", "b")
    with zipfile.ZipFile(tmp_path / "xml.docx", "w") as other:
        other.writestr("word/document.xml", "<w:p>")
    (tmp_path / "jis.txt").write_bytes("\u3042\u3044".encode("utf-8") + b"\xff\xfe\xff\xff")
    words = {
        "scan.pdf": "no text, perhaps a scan, on page 1-2 of 2",
        "locked.pdf": "encrypted",
        "half.pdf": "this PDF is damaged",
        "no.pdf": "this PDF is damaged",
        "locked.docx": "has a password, or is an old .doc file",
        "half.docx": "is damaged",
        "other.docx": "no .docx file: 'word/document.xml' is missing",
        "xml.docx": "is damaged",
        "jis.txt": "neither UTF-8 nor GB18030, Big5 or UTF-16",
    }
    for name, said in words.items():
        with pytest.raises(DataError, match=re.escape(said)) as told:
            parts_of(tmp_path / name)
        assert str(told.value).startswith(str(tmp_path / name))
        assert "\n" not in str(told.value)


def test_folders_are_searched_through_links_once(tmp_path: Path) -> None:
    for name in ("b.txt", "a/c.PDF", "a/d.txt.gz", "a/e.xls", ".f.txt", ".g/h.txt", "a/.i.md"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "a/up").symlink_to("..")
    (tmp_path / "again").symlink_to("a")
    (tmp_path / "gone.txt").symlink_to("nowhere")
    (tmp_path / "a/Makefile").touch()
    (Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + "你.txt".encode("gb18030")))).touch()
    found = find_papers([tmp_path, tmp_path / "b.txt"])
    assert [str(one.relative_to(tmp_path)) for one in found.files] == [
        "a/c.PDF",
        "a/d.txt.gz",
        "b.txt",
    ]
    assert [one.removeprefix(f"{tmp_path}/") for one in found.faults] == [
        "a/up: a link led back to a folder above; not followed",
        "gone.txt: a link to nothing",
        "??.txt: its name is not UTF-8; rename it",
    ]
    assert dict(found.passed_over) == {".xls": 1, "without a suffix": 1}
