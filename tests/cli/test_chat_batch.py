"""A file of questions: every row answered by itself, and gone on with after an interruption."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from hanpaca.errors import ArtifactError, DataError
from hanpaca.progress import Progress
from hanpaca.steps.batch import answer_file
from hanpaca.steps.chat import Chat, Loading, Sampling
from tests.support.commands import hanpaca
from tests.support.scripted import ANSWER, END, scripted_model

ONE = Loading(context_tokens=128, threads=1)


@pytest.fixture(scope="module")
def short(pico_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return scripted_model(pico_base, tmp_path_factory.mktemp("short") / "short", last=END)


def write(path: Path, *rows: Any) -> Path:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    return path


def rows_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_every_row_is_answered_in_order_with_what_it_had(short: Path, tmp_path: Path) -> None:
    talk = [{"role": "user", "content": "一"}, {"role": "assistant", "content": "二"}]
    questions = write(
        tmp_path / "q.jsonl",
        "问",
        {"prompt": "问", "id": 7},
        {"instruction": "译", "input": "春"},
        {"messages": [{"role": "system", "content": "短"}, *talk, talk[0]]},
    )
    done = hanpaca("chat", short, "--threads", 1, "--input", questions, "-o", tmp_path / "a.jsonl")
    assert done.returncode == 0, done.stderr
    assert (done.stdout, "4 answers; " in done.stderr) == ("", True)
    found = rows_of(tmp_path / "a.jsonl")
    said = {"answer": ANSWER, "num_tokens": 10, "stopped": True}
    assert found[:2] == [{"prompt": "问", **said}, {"prompt": "问", "id": 7, **said}]
    assert [row["answer"] for row in found] == [ANSWER] * 4
    assert sorted(one.name for one in tmp_path.iterdir()) == ["a.jsonl", "q.jsonl"]


@pytest.mark.slow
def test_a_killed_batch_goes_on_where_it_was(pico_base: Path, tmp_path: Path) -> None:
    endless = scripted_model(pico_base, tmp_path / "endless", last="\n")
    questions = write(tmp_path / "q.jsonl", *(f"问{number}" for number in range(300)))
    words = ["chat", str(endless), "--threads", "1", "--max-tokens", "200"]
    words += ["--input", str(questions), "--output", str(tmp_path / "a.jsonl")]
    command = [sys.executable, "-c", "from hanpaca.cli import main; main()", *words]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    answers = tmp_path / "a.jsonl.partial/answers.jsonl"
    with subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL) as process:
        end = time.monotonic() + 240
        while not (answers.is_file() and answers.read_bytes().count(b"\n") >= 2):
            assert time.monotonic() < end
            assert process.poll() is None
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
    before = answers.read_bytes()
    kept = before.count(b"\n")
    assert not (tmp_path / "a.jsonl").exists()
    answers.write_bytes(before[: before.rfind(b"\n") + 1] + b'{"prompt": "half')
    done = hanpaca(*words)
    assert f"300 answers, {kept} of them from before, 300 cut off" in done.stderr
    rows = rows_of(tmp_path / "a.jsonl")
    assert [row["prompt"] for row in rows] == [f"问{number}" for number in range(300)]
    assert len({row["answer"] for row in rows}) == 1


def test_other_questions_or_settings_begin_anew(short: Path, tmp_path: Path) -> None:
    questions = write(tmp_path / "q.jsonl", "一", "二", "三")
    output = tmp_path / "a.jsonl"

    def stop_after_two(progress: Progress) -> None:
        if progress.done == 2:
            raise KeyboardInterrupt

    with Chat(short, loading=ONE) as chat:
        for sampling, kept in ((Sampling(), 2), (Sampling(max_tokens=6), 0)):
            chat.session.sampling = Sampling()
            with pytest.raises(KeyboardInterrupt):
                answer_file(chat, questions, output, tell=stop_after_two)
            chat.session.sampling = sampling
            assert answer_file(chat, questions, output).num_kept == kept
            output.unlink()
        with pytest.raises(KeyboardInterrupt):
            answer_file(chat, questions, output, tell=stop_after_two)
        write(questions, "一", "二", "四")
        report = answer_file(chat, questions, output)
    assert (report.num_answers, report.num_kept, report.num_cut) == (3, 0, 3)
    assert {row["answer"] for row in rows_of(output)} == {ANSWER[:2]}


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (5, r"q\.jsonl:2: a text or an object is needed, not int"),
        ({}, r"q\.jsonl:2: one of prompt, question, instruction with a text, or messages"),
        ({"prompt": " "}, r"q\.jsonl:2: one of prompt"),
        ({"prompt": "a", "question": "b"}, r"q\.jsonl:2: one of prompt"),
        ({"prompt": "a", "answer": "b"}, r"q\.jsonl:2: there is an 'answer' already"),
        ({"messages": []}, r"q\.jsonl:2: 'messages' is no list of turns"),
        (
            {"messages": [{"role": "assistant", "content": "a"}]},
            r"q\.jsonl:2: questions and answers must take turns",
        ),
    ],
)
def test_a_bad_row_is_named(short: Path, tmp_path: Path, row: Any, message: str) -> None:
    questions = write(tmp_path / "q.jsonl", "问", row)
    with Chat(short, loading=ONE) as chat, pytest.raises(DataError, match=message):
        answer_file(chat, questions, tmp_path / "a.jsonl")


def test_a_question_that_is_too_long_has_no_answer_and_the_rest_goes_on(
    short: Path, tmp_path: Path
) -> None:
    questions = write(tmp_path / "q.jsonl", "问", {"prompt": "word " * 500}, "问")
    with Chat(short, loading=ONE) as chat:
        report = answer_file(chat, questions, tmp_path / "a.jsonl")
    assert (report.num_answers, report.num_cut, report.num_too_long) == (3, 0, 1)
    rows = rows_of(tmp_path / "a.jsonl")
    assert [row["answer"] for row in rows] == [ANSWER, "", ANSWER]
    assert [row.get("too_long") for row in rows] == [None, True, None]


def test_an_output_that_exists_is_not_replaced(short: Path, tmp_path: Path) -> None:
    questions = write(tmp_path / "q.jsonl", "问")
    with Chat(short, loading=ONE) as chat, pytest.raises(ArtifactError, match="already exists"):
        answer_file(chat, questions, questions)


@pytest.mark.parametrize("words", [("--input", "q"), ("--output", "a"), ("问", "--input", "q")])
def test_half_of_the_options_is_one_line(short: Path, words: tuple[str, ...]) -> None:
    done = hanpaca("chat", short, *words)
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
