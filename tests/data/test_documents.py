"""Reading text: every layout and packing, bad files, long ones, encodings."""

import bz2
import gzip
import io
import json
import lzma
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hanpaca.data import documents as text
from hanpaca.data import files, lines
from hanpaca.data.documents import read_documents
from hanpaca.errors import DataError, ResourceError

POEMS = ["白日依山尽，\n黄河入海流。", "欲穷千里目，\n更上一层楼。"]


def as_paragraphs(texts: list[str]) -> bytes:
    return "\n\n".join(texts).encode()


def as_jsonl(texts: list[str]) -> bytes:
    return "".join(json.dumps({"text": one}) + "\n" for one in texts).encode()


def as_parquet(texts: list[str], column: str = "text") -> bytes:
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    stream = io.BytesIO()
    table = pyarrow.table({"id": list(range(len(texts))), column: texts})
    parquet.write_table(table, stream, row_group_size=3)
    return stream.getvalue()


def as_zstd(data: bytes) -> bytes:
    zstandard = pytest.importorskip("zstandard")
    packer = zstandard.ZstdCompressor()
    half = len(data) // 2
    return bytes(packer.compress(data[:half]) + packer.compress(data[half:]))  # two frames


LAYOUTS: dict[str, Callable[[list[str]], bytes]] = {
    ".txt": as_paragraphs,
    ".jsonl": as_jsonl,
    ".parquet": as_parquet,
}
PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "": bytes,
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
    ".zst": as_zstd,
}


def found(*paths: Path, encoding: str = "utf-8", text_field: str = "text") -> list[str]:
    documents = read_documents(paths, encoding=encoding, text_field=text_field)
    return [document.text for document in documents]


@pytest.mark.parametrize("packing", PACKERS)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_in_every_packing_gives_the_same_documents(
    tmp_path: Path, layout: str, packing: str
) -> None:
    file = tmp_path / f"a{layout}{packing}"
    file.write_bytes(PACKERS[packing](LAYOUTS[layout](POEMS)))
    assert found(file) == POEMS
    assert found(tmp_path) == POEMS


line = st.text("白日 a\u2028é😀", min_size=1, max_size=12).map(lambda one: one.rstrip() + "尽")
texts_of_lines = st.lists(st.lists(line, min_size=1, max_size=6).map("\n".join), max_size=5)


@given(texts_of_lines, st.integers(1, 40), st.integers(4, 30))
@settings(max_examples=200, deadline=None)
def test_storage_does_not_change_documents_wherever_blocks_and_parts_end(
    tmp_path_factory: pytest.TempPathFactory, texts: list[str], block: int, most: int
) -> None:
    folder = tmp_path_factory.mktemp("stored")
    (folder / "a.txt").write_bytes(b"\xef\xbb\xbf" + as_paragraphs(texts))
    (folder / "b.md.gz").write_bytes(gzip.compress(as_paragraphs(texts).replace(b"\n", b"\r\n")))
    (folder / "c.jsonl").write_bytes(as_jsonl(texts))
    (folder / "d.NDJSON.xz").write_bytes(lzma.compress(as_jsonl(texts)))
    (folder / "e.txt").write_bytes("\n\n".join(texts).encode("utf-16"))
    (folder / "f.txt").write_bytes("\n\n".join(texts).encode("gb18030"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(files, "_BLOCK_BYTES", max(block, 4))
        names = ("a.txt", "b.md.gz", "c.jsonl", "d.NDJSON.xz")
        assert [found(folder / name) for name in names] == [texts] * 4
        assert found(folder / "e.txt", encoding="utf-16") == texts
        assert found(folder / "f.txt", encoding="gb18030") == texts
        patch.setattr(lines, "MAX_CHARACTERS", most)
        patch.setattr(text, "MAX_CHARACTERS", most)
        parts = found(folder / "c.jsonl")
        assert max(map(len, parts), default=0) <= most
        assert "".join(parts).replace("\n", "") == "".join(texts).replace("\n", "")
        assert found(folder / "d.NDJSON.xz") == parts
        if not {" ", "\u2028"} & set(
            "".join(texts)
        ):  # the end of a piece loses its white space in .txt only
            assert found(folder / "a.txt") == parts


def test_blank_lines_part_documents_and_sources_are_named(tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    file.write_text("\ufeff白日依山尽\n黄河入海流\n\n \t\n欲穷千里目\n", encoding="utf-8")
    documents = list(read_documents([file]))
    assert [one.text for one in documents] == ["白日依山尽\n黄河入海流", "欲穷千里目"]
    assert [one.source for one in documents] == [f"{file}:1", f"{file}:5"]


def test_folders_are_read_in_order_without_hidden_files(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    (tmp_path / "b/2.txt").write_text("二", encoding="utf-8")
    (tmp_path / "1.jsonl").write_text(json.dumps({"body": "一"}) + "\n\n", encoding="utf-8")
    (tmp_path / "skip.bin").write_bytes(b"\xff")
    (tmp_path / "skip.gz").write_bytes(b"\xff")
    (tmp_path / "._1.txt").write_bytes(b"\xff")
    (tmp_path / ".cache").mkdir()
    (tmp_path / ".cache/3.txt").write_bytes(b"\xff")
    assert found(tmp_path, text_field="body") == ["一", "二"]


def test_a_long_document_comes_in_parts_that_end_with_lines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lines, "MAX_CHARACTERS", 10)
    monkeypatch.setattr(text, "MAX_CHARACTERS", 10)
    file = tmp_path / "a.txt"
    file.write_text("白日依山\n黄河入海\n欲穷千里目更上一层楼春眠不觉晓", encoding="utf-8")
    documents = list(read_documents([file]))
    assert [one.text for one in documents] == [
        "白日依山\n黄河入海",
        "欲穷千里目更上一层楼",
        "春眠不觉晓",
    ]
    assert [one.source for one in documents] == [f"{file}:1", f"{file}:3", f"{file}:3"]


@pytest.mark.parametrize("name", ["a.txt", "a.jsonl"])
def test_memory_is_bounded_however_long_the_line(tmp_path: Path, name: str) -> None:
    import tracemalloc

    with gzip.open(tmp_path / f"{name}.gz", "wb", compresslevel=1) as stream:
        for _ in range(80):
            stream.write(b"x" * 1_000_000)
    tracemalloc.start()
    if name == "a.txt":
        assert sum(len(d.text) for d in read_documents([tmp_path / "a.txt.gz"])) == 80_000_000
        limit = 10e6
    else:
        with pytest.raises(DataError, match=r"a\.jsonl\.gz:1: a line of more than 33554432"):
            list(read_documents([tmp_path / "a.jsonl.gz"]))
        limit = 45e6
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < limit


@pytest.mark.parametrize("packing", ["", ".gz", ".zst"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_progress_counts_bytes_on_disk_up_to_all(tmp_path: Path, layout: str, packing: str) -> None:
    many = [f"{poem}{number}" for number in range(1000) for poem in POEMS]
    for name in ("a", "b"):
        data = PACKERS[packing](LAYOUTS[layout](many))
        (tmp_path / f"{name}{layout}{packing}").write_bytes(data)
    total = sum(file.stat().st_size for file in tmp_path.iterdir())
    told: list[tuple[int, int]] = []
    list(read_documents([tmp_path], on_bytes=lambda *pair: told.append(pair)))
    assert told == sorted(told)
    assert {pair[1] for pair in told} == {total}
    assert total / 2 in [pair[0] for pair in told]
    assert told[-1] == (total, total)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "a.txt",
            "好\n汉字".encode("gb18030"),
            "a.txt:1: .* looks like gb18030: give encoding= gb18030",
        ),
        ("a.txt", "ok\n汉字ok汉".encode("gb18030")[:-1], "a.txt:2: .* looks like gb18030"),
        ("a.txt", "汉字".encode("utf-16"), "a.txt:1: looks like utf-16: give encoding= utf-16"),
        ("a.txt", b"\xfe\xff\x6c\x49", "a.txt:1: looks like utf-16"),
        ("a.jsonl", "汉字".encode("utf-32"), "looks like utf-32: give encoding= utf-32"),
        (
            "a.txt",
            b"ok\n\xff\xff\n",
            "a.txt:2: byte 0xff is not utf-8: mend the file, or give its encoding=",
        ),
        ("a.txt", "白日依山尽".encode() + "汉".encode("gb18030"), "a.txt:1: byte 0xba .* mend"),
        (
            "a.txt",
            "ok\n白日".encode()[:-1],
            "a.txt:2: byte 0xe6 is not utf-8: mend the file, or give its encoding=",
        ),
        ("a.jsonl", b'{"text": "a"}\n{"text":', "a.jsonl:2: not JSON"),
        ("a.jsonl", b"[" * 100_000, "a.jsonl:1: not JSON: nested too deeply"),
        ("a.jsonl", b'{"txt": "a"}\n', r"a.jsonl:1: no text in field 'text' \(found: txt\)"),
        ("a.jsonl", b'{"text": null}\n', "a.jsonl:1: no text in field 'text'"),
        ("a.jsonl", b"[1]\n", r"a.jsonl:1: .*found: list"),
        (
            "a.jsonl",
            b'{"text": "a\\ud83d"}',
            r"a.jsonl:1: half a character, \\ud83d, at position 1",
        ),
        ("a.pdf", b"%PDF", "cannot read .pdf"),
        ("a.pdf.gz", b"%PDF", "cannot read .gz"),
        ("a.txt.gz", b"no", r"a.txt.gz:1: this gz file is damaged here \(Not a gzipped"),
        ("a.txt.bz2", b"no", "a.txt.bz2:1: this bz2 file is damaged"),
        ("a.txt.xz", b"no xz file at all", "a.txt.xz:1: this xz file is damaged"),
    ],
)
def test_a_broken_line_is_named(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message) as caught:
        found(tmp_path / name)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("packing", [".gz", ".bz2", ".xz", ".zst"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_cut_off_or_damaged_file_is_never_taken_for_whole(
    tmp_path: Path, layout: str, packing: str
) -> None:
    import random

    many = [f"{random.Random(number).random()} 白日" for number in range(3000)]
    data = PACKERS[packing](LAYOUTS[layout](many))
    file = tmp_path / f"a{layout}{packing}"
    for size in (12, len(data) // 3, len(data) * 3 // 4, len(data) - 1):
        file.write_bytes(data[:size])
        with pytest.raises(DataError, match=rf"{file.name}:\d+: this .* file is cut off here"):
            found(file)
    middle = len(data) // 3
    file.write_bytes(data[:middle] + bytes(64) + data[middle + 64 :])
    with pytest.raises(DataError, match=rf"{file.name}:\d+: "):
        found(file)


def test_an_empty_file_has_no_documents(tmp_path: Path) -> None:
    for name in ("a.txt", "a.jsonl"):
        (tmp_path / name).write_bytes(b"")
    assert found(tmp_path) == []


def test_gb18030_is_read_when_asked_for(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes("\ufeff汉字".encode("gb18030"))
    assert found(tmp_path / "a.txt", encoding="gb18030") == ["汉字"]
    for unknown in ("utf-99", "hex"):
        with pytest.raises(DataError, match=f"'{unknown}' is unknown"):
            found(tmp_path / "a.txt", encoding=unknown)


def test_missing_and_empty_places_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file or folder"):
        found(tmp_path / "none.txt")
    with pytest.raises(DataError, match=r"no text in this folder; it can be \.txt, \.md, \.jsonl"):
        found(tmp_path)


def test_an_unreadable_file_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.txt").write_text("ok")

    def refuse(*args: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(DataError, match=r"a\.txt:1: cannot be read: Permission denied"):
        found(tmp_path / "a.txt")


@pytest.mark.parametrize(
    ("name", "package", "command"),
    [
        ("a.txt.zst", "zstandard", "pip install zstandard"),
        ("a.parquet", "pyarrow", "pip install pyarrow"),
    ],
)
def test_a_missing_package_is_named_with_its_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, package: str, command: str
) -> None:
    (tmp_path / name).write_bytes(b"x")
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ResourceError, match=f"{command}$"):
        found(tmp_path / name)


def test_a_parquet_file_without_the_column_or_with_a_hole_is_named(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    file = tmp_path / "a.parquet"
    file.write_bytes(as_parquet(POEMS, column="body"))
    assert found(file, text_field="body") == POEMS
    with pytest.raises(DataError, match=r"a\.parquet:1: no column 'text' \(found: body, id\)"):
        found(file)
    with pytest.raises(DataError, match=r"a\.parquet:1: column 'id' holds int64, not text"):
        found(file, text_field="id")
    parquet.write_table(pyarrow.table({"text": ["白日", None]}), file)
    with pytest.raises(DataError, match=r"a\.parquet:2: no text in column 'text'"):
        found(file)
    kinds = (pyarrow.large_string(), pyarrow.dictionary(pyarrow.int32(), pyarrow.string()))
    for kind in kinds:
        parquet.write_table(pyarrow.table({"text": pyarrow.array(POEMS).cast(kind)}), file)
        assert found(file) == POEMS
    file.write_bytes(b"PAR1 no")
    with pytest.raises(DataError, match=r"a\.parquet:1: this parquet file is damaged"):
        found(file)


def test_the_shared_corpus_is_read_whole(shared_data: Path) -> None:
    pytest.importorskip("zstandard")
    assert len(found(shared_data / "corpus/zh.jsonl.zst")) == 44_188


@pytest.mark.parametrize(
    ("parting", "num_lines", "is_told"),
    [("\n", 101, True), ("\n", 100, False), ("\n\n", 300, False)],
)
def test_many_lines_without_a_blank_one_are_said_to_be_one_document(
    parting: str, num_lines: int, is_told: bool, tmp_path: Path
) -> None:
    (tmp_path / "a.txt").write_text(parting.join(f"第{n}句。" for n in range(num_lines)) + "\n\n")
    told: list[str] = []
    documents = list(read_documents([tmp_path], tell=lambda one: told.append(one.note)))
    assert len(documents) == (num_lines if parting == "\n\n" else 1)
    assert len(told) == is_told
    assert all("a.txt: its 101 lines are one document" in one for one in told)
