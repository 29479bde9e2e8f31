"""`hanpaca data check` and `clean`, as a user gives them."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from hanpaca.cli import app
from hanpaca.data.cleaning.settings import CleanSettings
from tests.support.commands import hanpaca

POEM = "白日依山尽，黄河入海流。欲穷千里目，更上一层楼。"


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "zh.jsonl"
    rows = [{"text": POEM}, {"text": POEM}, {"text": "An English line."}, {"no": 1}]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_check_prints_a_table_and_the_places_of_faults(text: Path) -> None:
    done = CliRunner().invoke(app, ["data", "check", str(text)])
    assert done.exit_code == 0
    assert "exact duplicate" in done.stdout
    assert "Han letters" in done.stdout
    assert f"{text}:4: no text in field 'text' (found: no)" in done.stderr
    assert f"{text}:2 repeats {text}:1" in done.stderr


def test_check_prints_json_for_scripts(text: Path) -> None:
    done = CliRunner().invoke(app, ["data", "check", str(text), "--json", "--script", "Han"])
    tree = json.loads(done.stdout)
    assert tree["dropped"] == {"unreadable": 1, "other script": 1, "exact duplicate": 1}
    assert tree["num_kept"] == 1
    assert tree["files"][0]["encoding"] == "utf-8"


def test_clean_writes_what_is_kept_and_what_went(text: Path, tmp_path: Path) -> None:
    kept, gone = tmp_path / "kept.jsonl", tmp_path / "gone.jsonl"
    call = ["data", "clean", str(text), "-o", str(kept), "--dropped", str(gone)]
    done = CliRunner().invoke(app, [*call, "--no-exact-duplicates", "--near-duplicates", "0"])
    assert done.exit_code == 0
    assert f"{kept}: 3 of 4 rows" in done.stdout
    assert len(kept.read_text().splitlines()) == 3
    assert json.loads(gone.read_text())["reason"] == "unreadable"


def test_every_rule_is_an_option_with_its_meaning() -> None:
    shown = CliRunner().invoke(app, ["data", "clean", "--help"], env={"COLUMNS": "200"}).stdout
    for name in CleanSettings.model_fields:
        option = {"scripts": "script"}.get(name, name)
        assert f"--{option.replace('_', '-')}" in shown


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--near-duplicates", "0.2"], "--near-duplicates: it must be from 0.5 to 1"),
        (["--min-script-share", "0"], "--min-script-share: Input should be greater than 0"),
        (["--min-characters", "9", "--max-characters", "8"], "max_characters (8) is less than"),
        (["--script", "Klingon"], "'Klingon' is not one of"),
        (["--block-tokens", "9"], "give --tokenizer"),
    ],
)
def test_a_rule_out_of_its_range_is_refused_by_name(
    text: Path, options: list[str], told: str
) -> None:
    done = hanpaca("data", "check", text, *options)
    assert done.returncode == 2
    assert told in done.stderr
    assert "Traceback" not in done.stderr


def test_an_output_that_exists_is_refused_in_the_words_of_the_command_line(
    text: Path, tmp_path: Path
) -> None:
    done = hanpaca("data", "clean", text, "-o", text)
    assert done.returncode == 4
    assert "already exists: remove it or give another --output" in done.stderr
    empty = tmp_path / "empty.jsonl"
    empty.write_text("{}\n")
    done = hanpaca("data", "clean", empty, "-o", tmp_path / "out.jsonl")
    assert done.returncode == 3
    assert "see why with `hanpaca data check`" in done.stderr
