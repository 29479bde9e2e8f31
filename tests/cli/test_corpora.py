"""`--text` and its companions mean the same in every tokenizer command."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from hanpaca.cli.app import app
from hanpaca.errors import HanpacaError

POEM = "白日依山尽，黄河入海流。\n\n" * 30


@pytest.fixture
def files(tmp_path: Path) -> Path:
    (tmp_path / "zh.txt").write_bytes(POEM.encode("gb18030"))
    row = json.dumps({"body": POEM})
    (tmp_path / "zh.jsonl").write_text("\n".join([row] * 9), encoding="utf-8")
    return tmp_path


@pytest.mark.slow
@pytest.mark.parametrize("named", ["", "poem="])
@pytest.mark.parametrize(
    ("file", "options"),
    [("zh.txt", ("--encoding", "gb18030")), ("zh.jsonl", ("--text-field", "body"))],
)
@pytest.mark.parametrize(
    "command", ["extend --base BASE -o OUT --num-pieces 5", "audit BASE BASE", "compare BASE",
                "train -o OUT --num-pieces 270 --kind byte-bpe"],
)  # fmt: skip
def test_a_text_may_have_a_name_an_encoding_and_a_field(
    command: str, file: str, options: tuple[str, str], named: str, pico_base: Path, files: Path
) -> None:
    call = command.replace("BASE", str(pico_base)).replace("OUT", str(files / "out")).split()
    text = f"--text={named}{files / file}"
    done = CliRunner().invoke(app, ["tokenizer", *call, text, *options])
    assert done.exit_code == 0, done.output
    wrong = CliRunner().invoke(app, ["tokenizer", *call[:-1], call[-1], text])
    assert isinstance(wrong.exception, HanpacaError)


def test_files_of_one_name_are_learned_from_together(pico_base: Path, tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "zh.txt").write_text(POEM, encoding="utf-8")
    texts = [f"--text={tmp_path / name / 'zh.txt'}" for name in ("a", "b")]
    out = tmp_path / "out"
    call = ["extend", "--base", str(pico_base), "-o", str(out), "--num-pieces", "5", *texts]
    assert CliRunner().invoke(app, ["tokenizer", *call]).exit_code == 0
    assert out.is_dir()


def test_extending_says_what_it_does_and_guesses(pico_base: Path, files: Path) -> None:
    call = ["extend", "--base", str(pico_base), "-o", str(files / "out"), "--num-pieces", "5"]
    text = [f"--text={files / 'zh.txt'}", "--encoding", "gb18030"]
    done = CliRunner().invoke(app, ["tokenizer", *call, *text])
    assert "extending, 2 of 4: learning pieces" in done.stderr
    assert "scripts guessed from the text: Han" in done.stderr
    assert "out: 5 new pieces from id " in done.stdout
