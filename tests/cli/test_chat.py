"""The chat in a real terminal, with a model whose every answer is known beforehand."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from hanpaca.inference.engine import ChatModel
from hanpaca.inference.sampling import Sampling
from tests.support.scripted import ANSWER, END, scripted_model
from tests.support.terminal import Terminal

ONE = ("--threads", "1")
EDITOR = {"TERM": "xterm"}
GB18030 = b"hello\n\xc4\xe3\xba\xc3\nagain\n"


@pytest.fixture(scope="module")
def short(pico_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """It answers and stops."""
    return scripted_model(pico_base, tmp_path_factory.mktemp("short") / "short", last=END)


@pytest.fixture(scope="module")
def endless(pico_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """It goes on and on."""
    folder = tmp_path_factory.mktemp("endless")
    return scripted_model(pico_base, folder / "endless", last="\n")


@pytest.fixture
def opened() -> Iterator[list[Terminal]]:
    terminals: list[Terminal] = []
    yield terminals
    for terminal in terminals:
        terminal.close()


def chat(
    *words: object, given: str | bytes = b"", **environment: str
) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "-c", "from hanpaca.cli import main; main()", "chat", *map(str, words)],
        input=given.encode() if isinstance(given, str) else given,
        check=False,
        capture_output=True,
        env={**os.environ, **environment},
        timeout=240,
    )
    return subprocess.CompletedProcess(
        done.args, done.returncode, done.stdout.decode(), done.stderr.decode()
    )


def test_a_character_split_across_tokens_comes_whole(short: Path) -> None:
    with ChatModel(short, context_tokens=256, num_threads=1) as model:
        question = [{"role": "user", "content": "问"}]
        assert list(model.stream(question)) == list(ANSWER)
        answer = model.answer(question)
        assert (answer.text, answer.num_tokens, answer.stopped) == (ANSWER, 10, True)
        # Cut inside the second character: what is left of it is not shown.
        for most, expected in ((3, "你"), (4, "你"), (5, "你"), (6, "你春")):
            cut = model.answer(question, Sampling(max_tokens=most))
            assert (cut.text, cut.stopped) == (expected, False)
            assert "".join(model.stream(question, Sampling(max_tokens=most))) == expected


@pytest.mark.slow
@pytest.mark.parametrize("environment", [{"TERM": "dumb"}, EDITOR])
def test_a_conversation_of_several_turns(
    short: Path, opened: list[Terminal], environment: dict[str, str]
) -> None:
    opened.append(terminal := Terminal("chat", str(short), *ONE, environment=environment))
    terminal.wait_for(r"short\.gguf: 1 of \d+ cores, 2,048 tokens of context.*›")
    for question in ("你好", "再来一次", "/system 短", "第三"):
        terminal.type(f"{question}\r")
        expected = "system prompt: 短" if question.startswith("/") else ANSWER
        assert "\ufffd" not in terminal.wait_for(rf"\n{expected}\r\n.*›")
    terminal.type("/nonsense\r")
    terminal.wait_for("Ctrl-C stops an answer.*›")
    terminal.type("/exit\r")
    assert terminal.end() == 0


@pytest.mark.slow
@pytest.mark.parametrize("environment", [{"TERM": "dumb"}, EDITOR])
def test_ctrl_c_stops_an_answer_or_clears_a_line_and_ctrl_d_leaves(
    endless: Path, opened: list[Terminal], environment: dict[str, str]
) -> None:
    words = ("--context-tokens", "30000", "--max-tokens", "29000")
    opened.append(terminal := Terminal("chat", str(endless), *ONE, *words, environment=environment))
    terminal.wait_for("›")
    for _ in range(2):
        terminal.type("写\r")
        terminal.wait_for(f"{ANSWER}\r\n{ANSWER}")
        terminal.type("\x03")
        assert "\ufffd" not in terminal.wait_for(r" …\r\n.*›", seconds=60)
    terminal.type("half a que")
    terminal.wait_for("que")
    terminal.interrupt("Ctrl-D or /exit leaves.*›")
    terminal.interrupt("Ctrl-D or /exit leaves.*›")
    terminal.type("/undo\r")  # the conversation is still there
    terminal.wait_for("taken back: 写.*›")
    terminal.type("/undo\r")
    terminal.wait_for("taken back: 写.*›")
    terminal.type("\x04")
    assert terminal.end() == 0


@pytest.mark.slow
def test_a_line_of_chinese_is_edited_by_character_and_called_back(
    short: Path, opened: list[Terminal], tmp_path: Path
) -> None:
    pytest.importorskip("prompt_toolkit")
    opened.append(terminal := Terminal("chat", str(short), *ONE, environment=EDITOR))
    terminal.wait_for("›")
    # Two back, one away, another in its place: 画蛇添足 becomes 画龙添足.
    terminal.type("画蛇添足\x1b[D\x1b[D\x7f龙\r")
    terminal.wait_for(rf"{ANSWER}\r\n.*›")
    terminal.type("\x1b[A吗\r")  # up, and on
    terminal.wait_for(rf"{ANSWER}\r\n.*›")
    terminal.type("\x1b[200~一行\n两行\x1b[201~\r")  # pasted as one
    terminal.wait_for(rf"{ANSWER}\r\n.*›")
    terminal.type("/edit\r")
    terminal.wait_for("一行.*两行")
    terminal.type("？\r")
    terminal.wait_for(rf"{ANSWER}\r\n.*›")
    file = tmp_path / "talk.json"
    terminal.type(f"/save {file}\r")
    terminal.wait_for("3 turns.*›")
    terminal.type("\x04")
    assert terminal.end() == 0
    messages = json.loads(file.read_text(encoding="utf-8"))["messages"]
    assert [one["content"] for one in messages if one["role"] == "user"] == [
        "画龙添足",
        "画龙添足吗",
        "一行\n两行？",
    ]


@pytest.mark.slow
def test_commands_of_a_conversation(short: Path, tmp_path: Path) -> None:
    file = tmp_path / "talk.json"
    lines = (
        "一\n/retry\n二\n/edit 三\n/set temperature 0.5\n/set temperature -1\n/set mood 1\n"
        f"/save {file}\n/save {file}\n/clear\n/undo\n/retry\n/load {file}\n/undo\n/load none.json\n"
        f"/save\n/model\n/model none.gguf\n/model {short}\n四\n/exit\nnever"
    )
    done = chat(short, *ONE, given=lines)
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{ANSWER}\n" * 5
    said = done.stderr.splitlines()[1:]
    described = f"short.gguf: 1 of {len(os.sched_getaffinity(0))} cores, 2,048 tokens of context"
    assert "temperature 0.5" in said[0]
    assert said[1:] == [
        "hanpaca: temperature is -1.0: --temperature must be 0 or more",
        "hanpaca: 'mood' is no setting; there are max_tokens, temperature, top_k, top_p, min_p, "
        "repeat_penalty, seed",
        f"{file}: 2 turns",
        f"{file}: 2 turns",
        "begun anew",
        "there is nothing to undo",
        "hanpaca: there is no question to ask again",
        f"{file}: 2 turns",
        "taken back: 三",
        "hanpaca: none.json: cannot be read: No such file or directory",
        "hanpaca: a file is wanted, such as talk.json",
        described,
        "hanpaca: none.gguf: no such file or folder",
        described,
    ]


@pytest.mark.slow
def test_a_full_context_loses_its_oldest_turns_and_the_talk_goes_on(short: Path) -> None:
    lines = "".join(f"question number {n} is about something\n" for n in range(30))
    done = chat(short, *ONE, "--context-tokens", 256, "--max-tokens", 16, given=lines)
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{ANSWER}\n" * 30 + "\n"
    said = done.stderr.splitlines()[1:]
    assert said
    assert set(said) <= {
        "the oldest turn is left out: a context of 256 tokens is full",
        "the 2 oldest turns are left out: a context of 256 tokens is full",
    }


@pytest.mark.slow
def test_a_prompt_that_is_too_long_is_one_line_and_the_talk_goes_on(
    short: Path, opened: list[Terminal]
) -> None:
    words = ("--context-tokens", "256")
    opened.append(terminal := Terminal("chat", str(short), *ONE, *words))
    terminal.wait_for("›")
    terminal.type("早\r")
    terminal.wait_for(rf"{ANSWER}\r\n.*›")
    terminal.type("好" * 300 + "\r")
    shown = terminal.wait_for("hanpaca: .*\r\n›")
    assert "tokens, too many for a context of 256: shorten it, or give more --context-t" in shown
    terminal.type("又\r")
    terminal.wait_for(rf"{ANSWER}\r\n.*›")
    terminal.type("\x04")
    assert terminal.end() == 0
    done = chat(short, *ONE, *words, given="早\n" + "好" * 300 + "\n又\n")
    assert (done.returncode, done.stdout) == (4, f"{ANSWER}\n{ANSWER}\n\n")
    assert len(done.stderr.splitlines()) == 2


@pytest.mark.slow
@pytest.mark.parametrize("environment", [{}, {"LC_ALL": "C"}, {"PYTHONIOENCODING": "utf-8:strict"}])
def test_bytes_in_another_encoding_are_one_line(short: Path, environment: dict[str, str]) -> None:
    done = chat(short, *ONE, given=GB18030, **environment)
    assert (done.returncode, done.stdout) == (3, f"{ANSWER}\n")
    assert done.stderr.splitlines()[1:] == [
        "hanpaca: standard input, line 2: not utf-8 at byte 1, but it could be gb18030: "
        "give its --encoding"
    ]
    done = chat(short, *ONE, "--encoding", "gb18030", given=GB18030, **environment)
    assert (done.returncode, done.stdout) == (0, f"{ANSWER}\n" * 3 + "\n")


@pytest.mark.slow
def test_half_a_character_is_one_line(short: Path) -> None:
    done = chat(short, *ONE, given="你好".encode()[:-1])
    assert (done.returncode, done.stdout) == (3, "")
    assert "standard input, line 1: not utf-8 at byte 4" in done.stderr
    assert "Traceback" not in done.stderr
    done = chat(short, *ONE, "--encoding", "klingon")
    assert done.returncode == 2
    assert "'klingon' is no encoding" in done.stderr


def test_a_terminal_that_cannot_show_a_character_shows_another(short: Path) -> None:
    done = chat(short, "问", *ONE, PYTHONIOENCODING="ascii", PYTHONUTF8="0")
    assert (done.returncode, done.stdout) == (0, "???\n")


@pytest.mark.slow
def test_one_question_is_answered_and_that_is_all(short: Path) -> None:
    done = chat(short, "你好", *ONE, given="not read\n")
    assert (done.returncode, done.stdout) == (0, f"{ANSWER}\n")
    done = chat(short, "好" * 300, *ONE, "--context-tokens", 256)
    assert (done.returncode, done.stdout) == (4, "")


def test_a_text_is_continued_without_a_template(short: Path) -> None:
    done = chat(short, "你", *ONE, "--raw")
    assert (done.returncode, done.stdout) == (0, f"{ANSWER[1:]}\n")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--temperature", "-1"), "temperature is -1.0: --temperature must be 0 or more"),
        (("--max-tokens", "0"), "max tokens is 0: --max-tokens must be at least 1"),
        (("--top-p", "2"), "top p is 2.0: --top-p must be above 0 and at most 1"),
        (("--context-tokens", "3"), "a context of 3 tokens holds no conversation: --context-tok"),
        (("--threads", "0"), "threads is 0: --threads must be at least 1"),
        (("--template", "none"), "template 'none' is neither known nor a file: --template is chat"),
    ],
)
def test_an_option_out_of_its_range_is_one_line(
    short: Path, words: tuple[str, ...], message: str
) -> None:
    done = chat(short, "问", *words)
    assert (done.returncode, done.stdout) == (2, "")
    assert len(done.stderr.splitlines()) == 1
    assert f"hanpaca: {message}" in done.stderr


def test_of_a_run_the_file_for_use_is_taken(short: Path, tmp_path: Path) -> None:
    run = tmp_path / "run/70-gguf"
    run.mkdir(parents=True)
    shutil.copyfile(short, run / "own.q4_k_m.gguf")
    (run / "own.f16.gguf").write_bytes(b"larger")
    done = chat(run.parent, *ONE, given="一\n\n二\n")
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{ANSWER}\n{ANSWER}\n\n"
    assert done.stderr.startswith("own.q4_k_m.gguf: 1 of ")


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("ss") is None, reason="ss is not installed")
@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_chat_listens_on_no_tcp_port_and_leaves_no_folder(
    short: Path, opened: list[Terminal], tmp_path: Path, end: signal.Signals
) -> None:
    environment = {"TMPDIR": str(tmp_path)}
    opened.append(terminal := Terminal("chat", str(short), *ONE, environment=environment))
    terminal.wait_for("›")
    listening = subprocess.run(["ss", "-ltnp"], check=True, capture_output=True, text=True).stdout
    assert f"pid={terminal.pid}," not in listening
    os.kill(terminal.pid, end)
    if end == signal.SIGINT:  # it goes on
        terminal.wait_for("›")
        terminal.type("\x04")
        assert terminal.end() == 0
    else:
        assert terminal.end() == {signal.SIGTERM: 143, signal.SIGHUP: -1}[end]
    assert list(tmp_path.iterdir()) == []
