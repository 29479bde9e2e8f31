"""`hanpaca tokenizer audit`, `show`, `compare` and `train` as a user calls them."""

import json
import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from rich.text import Text
from typer.testing import CliRunner, Result

from hanpaca.cli import app
from hanpaca.cli.tokenizer_compare import _coloured
from hanpaca.errors import HanpacaError
from hanpaca.report.pieces import visible
from hanpaca.steps.show import ShownText


def hanpaca(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["tokenizer", *map(str, arguments)])


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("texts")
    (folder / "zh.txt").write_text("白日依山尽，\n黄河入海流。\n\n白日", encoding="utf-8")
    (folder / "en.txt").write_text("The lazy dog.\n\n  pizza <b>&amp;\n", encoding="utf-8")
    (folder / "empty.txt").write_text("", encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def worse(pico_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The base with a piece "zz" before all others."""
    spec: dict[str, Any] = json.loads((pico_base / "tokenizer.json").read_text(encoding="utf-8"))
    spec["model"]["vocab"]["zz"] = len(spec["model"]["vocab"])
    spec["model"]["merges"].insert(0, ["z", "z"])
    folder = tmp_path_factory.mktemp("worse")
    (folder / "tokenizer.json").write_text(json.dumps(spec), encoding="utf-8")
    return folder


def audited(base: Path, other: Path, texts: Path, *more: object) -> Result:
    named = (f"--text=poem={texts / 'zh.txt'}", f"--protected={texts / 'en.txt'}")
    result = hanpaca("audit", base, other, *named, *more)
    assert result.exit_code == 0, result.output
    return result


def test_an_audit_reads_lines_of_named_corpora(pico_base: Path, worse: Path, texts: Path) -> None:
    found = json.loads(audited(pico_base, worse, texts, "--json").stdout)
    assert [(one["name"], one["num_texts"]) for one in found["corpora"][:2]] == [
        ("poem", 3), ("en", 2),
    ]  # fmt: skip
    changes = found["corpora"][1]["changes"]
    text = "  pizza <b>&amp;"
    assert changes == [{"before": ["z", "z"], "after": ["zz"], "count": 1, "text": text}]
    assert found["unused_pieces"] == ["zz"]


def test_an_audit_is_a_table_too(pico_base: Path, worse: Path, texts: Path) -> None:
    output = audited(pico_base, worse, texts).stdout
    assert re.search(r"new pieces not in the texts +│ +1 │", output)
    assert re.search(r"en +│ +1 │ +z z │ +zz │", output)


def test_the_page_of_an_audit_is_whole_and_alone(
    pico_base: Path, worse: Path, texts: Path, tmp_path: Path
) -> None:
    page = tmp_path / "new" / "audit.html"
    for _ in range(2):  # a second audit replaces the page
        audited(pico_base, worse, texts, "--html", page)
    text = page.read_text(encoding="utf-8")
    assert text.startswith("<!doctype html>")
    for drawing in re.findall("<svg.*?</svg>", text, flags=re.DOTALL):
        ElementTree.fromstring(drawing)
    cells = '<td class="number">([0-9.]+)</td>'
    lengths = [
        (float(before), float(after))
        for before, after in re.findall(f"<tr><td>[^<]*</td>{cells}{cells}</tr>", text)
    ]
    assert len(lengths) > 2
    assert lengths[0][0] == lengths[0][1] > lengths[-1][-1]  # Chinese in bytes, digits
    assert "pizza &lt;b&gt;&amp;amp;" in text
    assert not re.search(r"<script|https?://(?!www\.w3\.org/(2000/svg|1999/xlink))|src=", text)
    assert [path.name for path in page.parent.iterdir()] == ["audit.html"]


def test_an_audit_needs_no_text(pico_base: Path, worse: Path) -> None:
    found = json.loads(hanpaca("audit", pico_base, worse, "--json").stdout)
    assert found["num_new_pieces"] == 1
    assert found["killed_pieces"] == found["dead_pieces"] == []


def test_show_gives_ids_and_bytes_of_each_piece(pico_base: Path, worse: Path) -> None:
    shown = json.loads(hanpaca("show", "zz白", pico_base, worse, "--json").stdout)
    assert [one["num_tokens"] for one in shown] == [5, 4]
    assert shown[0]["pieces"] == ["z", "z", r"\xe7", r"\x99", r"\xbd"]
    assert shown[1]["bytes"] == [b"zz".hex(), "e7", "99", "bd"]
    output = hanpaca("show", "zz", pico_base, worse).stdout
    assert re.search(r"│ +2 │ +1.000 │ z z +│", output)


def test_show_marks_what_the_first_tokenizer_does_not_cut_out() -> None:
    text = "the dog"
    # SentencePiece puts a space before the text.
    first = ShownText("a", 2, 0.3, [1, 2], [b" the", b" dog"]).places(text)
    second = ShownText("b", 3, 0.4, [1, 2, 3], [b"the", b" d", b"og"]).places(text)
    assert [place in first for place in second] == [True, False, False]
    line = _coloured(["the", " d", "og"], [True, False, True])
    assert isinstance(line, Text)
    assert line.plain == "the ▁d og"
    assert len({span.style for span in line.spans}) == 2


def test_spaces_and_control_characters_can_be_seen() -> None:
    assert visible(" a\t\n白\x00") == "▁a\\t\\n白\\x00"


@pytest.mark.slow
def test_compare_measures_each_pair(pico_base: Path, worse: Path, texts: Path) -> None:
    corpora = (f"--text={texts / 'en.txt'}", f"--text=zh={texts / 'zh.txt'}")
    rows = json.loads(hanpaca("compare", pico_base, worse, *corpora, "--json").stdout)
    assert [(row["text"], row["tokenizer"]) for row in rows] == [
        (name, str(path)) for name in ("en", "zh") for path in (pico_base, worse)
    ]
    assert rows[0]["num_tokens"] == rows[1]["num_tokens"] + 1
    assert (rows[2]["num_characters"], rows[2]["num_tokens"]) == (14, 42)
    assert all(row["characters_per_second"] > 0 for row in rows)
    assert "3.0000" in hanpaca("compare", pico_base, *corpora).stdout


def test_train_writes_what_audit_and_show_can_read(texts: Path, tmp_path: Path) -> None:
    output = tmp_path / "new" / "tokenizer"
    result = hanpaca(
        "train", "--text", texts, "--kind", "byte-bpe", "--num-pieces", 260, "-o", output
    )
    assert result.exit_code == 0, result.output
    assert "260 pieces" in result.stdout
    assert json.loads(hanpaca("show", "白日", output, "--json").stdout)[0]["num_tokens"] < 6
    assert [path.name for path in output.parent.iterdir()] == ["tokenizer"]


@pytest.mark.parametrize(
    ("call", "status", "message"),
    [
        ("audit BASE none --text TEXTS/zh.txt", 4, "none: no such file"),
        ("audit TEXTS BASE", 4, "no tokenizer.json or tokenizer.model in this folder"),
        ("audit BASE BASE --text none.txt", 3, "none.txt: no such file"),
        ("audit BASE BASE --text a=TEXTS/zh.txt --text a=TEXTS/en.txt", 2, "name of its own"),
        ("audit BASE BASE --text =TEXTS/zh.txt", 2, "name of its own"),
        ("audit BASE BASE --script Han --text TEXTS/en.txt", 3, "no Han characters"),
        ("audit BASE BASE --text TEXTS/en.txt", 3, "no letters of a script"),
        ("audit BASE BASE --text TEXTS/empty.txt", 3, "no letters of a script"),
        ("audit BASE BASE --script Klingon", 2, "Klingon"),
        ("audit BASE BASE --html TEXTS/zh.txt/a.html", 5, "cannot be written"),
        ("audit BASE BASE --html TEXTS", 4, "a folder has this name"),
        ("show text none", 4, "none: no such file"),
        ("show EMPTY BASE", 2, "the text to show is empty"),
        ("compare none --text TEXTS/zh.txt", 4, "none: no such file"),
        ("compare BASE --text none.txt", 3, "none.txt: no such file"),
        ("compare BASE --text TEXTS/empty.txt", 3, "empty: has no text"),
        ("train --text none.txt --num-pieces 300 -o OUT", 3, "none.txt: no such file"),
        ("train --text TEXTS/zh.txt --num-pieces 9 -o OUT --kind byte-bpe", 2, "too few"),
        ("train --text TEXTS/zh.txt --num-pieces 9999 -o OUT --kind byte-bpe", 3, "only"),
        ("train --text TEXTS/zh.txt --num-pieces 9999 -o OUT", 3, "only"),
        ("train --text TEXTS/empty.txt --num-pieces 300 -o OUT", 3, "empty"),
        ("train --text TEXTS/zh.txt --num-pieces 300 -o OUT --kind wordpiece", 2, "'wordpiece'"),
        ("train --text TEXTS/zh.txt --num-pieces 300 -o TEXTS", 4, "already exists"),
    ],
)
def test_a_users_mistake_is_one_clear_line(
    call: str, status: int, message: str, pico_base: Path, texts: Path, tmp_path: Path
) -> None:
    places = {"BASE": str(pico_base), "TEXTS": str(texts), "OUT": str(tmp_path / "out")}
    words = [re.sub("BASE|TEXTS|OUT", lambda found: places[found[0]], one) for one in call.split()]
    result = hanpaca(*("" if word == "EMPTY" else word for word in words))
    assert isinstance(result.exception, HanpacaError), result.output
    assert result.exception.exit_code == status
    assert message in str(result.exception)
    assert "\n" not in str(result.exception)
    assert list(tmp_path.iterdir()) == []
    assert sorted(path.name for path in texts.iterdir()) == ["empty.txt", "en.txt", "zh.txt"]
