"""`hanpaca ask`: documents read, questions answered, as a user gives the commands."""

import json
from pathlib import Path

import pytest

from tests.support.commands import hanpaca
from tests.support.papers import write_pdf

TEA = "龙井茶产于杭州，是绿茶。"


@pytest.mark.slow
def test_documents_are_read_and_found(tmp_path: Path) -> None:
    (tmp_path / "tea.txt").write_text(TEA, encoding="gb18030")
    (tmp_path / "empty.txt").touch()
    (tmp_path / "damaged.txt").write_bytes("白日".encode() + b"\xff\xff" + "依山".encode())
    data = write_pdf(tmp_path / "odd.pdf", ["西湖在杭州。"]).read_bytes()
    (tmp_path / "odd.pdf").write_bytes(data.replace(b"startxref\n", b"startxref\n1"))
    index = tmp_path / "i.sqlite"
    done = hanpaca("ask", "add", tmp_path, "--index", index)
    assert done.returncode == 0
    assert done.stdout == f"{index}: 3 files read, 1 unreadable, 0 unchanged, 0 gone; 2 passages\n"
    said = [line for line in done.stderr.splitlines() if not line.startswith("reading: ")]
    assert sorted(said) == [
        f"{tmp_path}/damaged.txt: neither UTF-8 nor GB18030, Big5 or UTF-16 as a whole: mend the "
        "file, or give its --encoding",
        f"{tmp_path}/empty.txt: no text in it",
    ]
    found = hanpaca("ask", "龙井茶产于哪里？", "--index", index)
    assert (found.returncode, found.stdout) == (0, f"[1] {tmp_path}/tea.txt, line 1: {TEA}\n")
    assert found.stderr == "give --model to have the question answered from these\n"
    nothing = hanpaca("ask", "--index", index, "股票？", "--json")
    assert json.loads(nothing.stdout) == {
        "answer": "文档里没有找到与问题有关的内容。",
        "sources": [],
    }


def test_mistakes_are_one_line(tmp_path: Path) -> None:
    index = tmp_path / "none.sqlite"
    for words, status, said in (
        (("ask", "茶", "--index", index), 4, f"{index}: no index of documents: make one with"),
        (("ask", "add", tmp_path / "no", "--index", index), 3, "no such file or folder"),
    ):
        done = hanpaca(*words)
        assert done.returncode == status
        assert said in done.stderr
