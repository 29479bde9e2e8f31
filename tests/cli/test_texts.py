"""Options about text that several commands share."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from hanpaca.cli.app import app
from hanpaca.cli.display import byte_counter
from hanpaca.errors import DataError

POEM = "白日依山尽，黄河入海流。欲穷千里目，更上一层楼。\n" * 3


def extend(base: Path, folder: Path, *options: str) -> None:
    arguments = ["tokenizer", "extend", "--base", str(base), "-o", str(folder / "new")]
    CliRunner().invoke(
        app, [*arguments, "--num-pieces", "5", *options], catch_exceptions=False
    )  # fmt: skip


def test_the_encoding_that_a_message_asks_for_is_an_option(pico_base: Path, tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    file.write_bytes(POEM.encode("gb18030"))
    with pytest.raises(DataError, match="looks like gb18030: give encoding= gb18030"):
        extend(pico_base, tmp_path, "--text", str(file))
    assert not (tmp_path / "new").exists()
    extend(pico_base, tmp_path, "--text", str(file), "--encoding", "gb18030")
    assert (tmp_path / "new/tokenizer.json").is_file()


def test_the_field_that_a_message_asks_for_is_an_option(pico_base: Path, tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    file.write_text(f'{{"body": {POEM!a}}}\n'.replace("'", '"'), encoding="utf-8")
    with pytest.raises(DataError, match=r"\(found: body\): give text_field="):
        extend(pico_base, tmp_path, "--text", str(file))
    extend(pico_base, tmp_path, "--text", str(file), "--text-field", "body")
    assert (tmp_path / "new/tokenizer.json").is_file()


def test_progress_says_rate_and_time_left(capsys: pytest.CaptureFixture[str]) -> None:
    tell = byte_counter("reading", every_seconds=0.0)
    tell(0, 4_000_000)
    tell(1_000_000, 4_000_000)
    shown = capsys.readouterr().err
    assert shown.startswith("reading: 1.0 of 4.0 MB, ")
    assert shown.rstrip().endswith("left")
    byte_counter("reading")(1, 1)
    assert capsys.readouterr().err == ""
