"""Models asked questions with options: the same in every form, kept, and gone on with."""

import doctest
import json
from pathlib import Path

import pytest
from torch import cpu
from typer.testing import CliRunner

import hanpaca.steps.choice as module
import hanpaca.steps.choice_scorers as scorers
from hanpaca import ChoiceSettings, ChoiceTask, read_questions
from hanpaca.cli.app import app
from hanpaca.data.choice.questions import QuestionSet
from hanpaca.errors import DataError
from hanpaca.evals.results import TaskResult, read_results
from hanpaca.progress import Progress
from hanpaca.steps.choice import ask_choices
from hanpaca.steps.choice_scorers import engine_for
from hanpaca.steps.evaluate import evaluate
from hanpaca.steps.write_gguf import folder_to_gguf
from tests.support.commands import hanpaca
from tests.support.peft_adapters import make_adapter
from tests.support.texts import SENTENCES

WORDS = sorted({word for sentence in SENTENCES for word in sentence.split() if word.isalpha()})


def row(number: int, subject: str) -> dict[str, object]:
    options = [WORDS[(7 * number + at * at) % len(WORDS)] + str(at) for at in range(4)]
    text = f"Which comes after {SENTENCES[number % 3][:10]} {number}?"
    return {"question": text, "choices": options, "answer": number % 4, "subject": subject}


def write(path: Path, numbers: range, *subjects: str) -> Path:
    rows = [row(number, subject) for number in numbers for subject in subjects]
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("own") / "own.jsonl", range(20), "first", "second")


@pytest.fixture(scope="module")
def questions(file: Path) -> QuestionSet:
    shown = write(file.with_name("shown.jsonl"), range(50, 53), "first", "second")
    return read_questions(file, examples=shown)


def scores_of(cache: Path) -> list[dict[str, object]]:
    (rows,) = cache.rglob("rows.jsonl")
    return [json.loads(line) for line in rows.read_text(encoding="utf-8").splitlines()]


def test_two_files_of_one_name_have_a_table_each(pico_base: Path, tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
    paths = (
        write(tmp_path / "a/own.jsonl", range(2), "x"),
        write(tmp_path / "b/own.jsonl", range(3), "x"),
    )
    tasks = [ChoiceTask(read_questions(path)) for path in paths]
    found = evaluate([pico_base], {}, tasks=tasks)
    assert list(found.task_tables) == ["own (1)", "own (2)"]
    assert [task.models[0].scores[0].num_items for task in found.tasks] == [2, 3]


def without_how(found: TaskResult) -> object:
    return [(one.scores, one.picks, one.notes) for one in found.models]


def test_the_example_of_the_docstring_holds(pico_base: Path, tmp_path: Path) -> None:
    names = {
        "BASE": pico_base,
        "QUESTIONS": write(tmp_path / "three.jsonl", range(3), "x"),
        "CACHE": tmp_path / "cache",
    }
    found = doctest.testmod(module, extraglobs=names)
    assert (found.attempted > 0, found.failed) == (True, 0)


def test_a_file_is_run_by_what_reads_faster_where_there_is_room(
    pico_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "m.gguf"
    folder_to_gguf(pico_base, file, file_type="f16", metadata={})
    monkeypatch.setattr(cpu, "get_capabilities", lambda: {"avx512_bf16": True})
    assert engine_for(file, "auto", dtype="bfloat16") == "transformers"
    assert engine_for(pico_base, "llama.cpp", dtype="float32") == "transformers"
    for engine in ("llama.cpp", "layers", "transformers"):
        assert engine_for(file, engine, dtype="bfloat16") == engine
    assert engine_for(file, "auto", dtype="float32") == "llama.cpp"
    monkeypatch.setattr(scorers, "free_bytes", lambda: 1e5)
    assert engine_for(file, "auto", dtype="bfloat16") == "llama.cpp"
    monkeypatch.setattr(scorers, "free_bytes", lambda: 1e12)
    monkeypatch.setattr(cpu, "get_capabilities", dict)
    assert engine_for(file, "auto", dtype="bfloat16") == "llama.cpp"


@pytest.mark.slow
@pytest.mark.parametrize("rule", ["letter", "reference", "paper", "lm-eval", "text", "text-sum"])
def test_a_folder_and_its_gguf_file_pick_the_same_by_every_rule(
    pico_base: Path, questions: QuestionSet, tmp_path: Path, rule: str
) -> None:
    gguf = tmp_path / "f32.gguf"
    folder_to_gguf(pico_base, gguf, file_type="f32", metadata={})
    settings = ChoiceSettings(rule=rule, shots=1, dtype="float32", wording="zh")
    task = ChoiceTask(questions, settings)
    one = ask_choices({"it": pico_base}, task, cache=tmp_path / "one")
    other = ask_choices({"it": gguf}, task, cache=tmp_path / "other")
    assert without_how(one) == without_how(other)
    exact, found = scores_of(tmp_path / "one"), scores_of(tmp_path / "other")
    for a, b in zip(exact, found, strict=True):
        assert b["scores"] == pytest.approx(a["scores"], abs=0.1)
    assert len({str(a["scores"]) for a in exact}) == 40


@pytest.mark.slow
def test_what_is_known_is_not_asked_again_and_half_a_line_is(
    pico_base: Path, questions: QuestionSet, tmp_path: Path
) -> None:
    task = ChoiceTask(questions)
    told: list[Progress] = []
    whole = ask_choices({"it": pico_base}, task, cache=tmp_path, tell=told.append)
    assert told[-1].done == 40
    told.clear()
    assert ask_choices({"it": pico_base}, task, cache=tmp_path, tell=told.append) == whole
    assert told == []
    (rows,) = tmp_path.rglob("rows.jsonl")
    text = rows.read_text(encoding="utf-8")
    for kept in (0, 700, len(text) - 30):
        rows.write_text(text[:kept], encoding="utf-8")
        told.clear()
        again = ask_choices({"it": pico_base}, task, cache=tmp_path, tell=told.append)
        assert without_how(again) == without_how(whole)
        assert told
    other = ChoiceTask(questions, ChoiceSettings(rule="paper"))
    ask_choices({"it": pico_base}, other, cache=tmp_path)
    assert len(list(tmp_path.rglob("rows.jsonl"))) == 2


def test_prompts_that_are_too_long_lose_examples_and_never_the_question(
    pico_base: Path, questions: QuestionSet, tmp_path: Path
) -> None:
    def asked(shots: int, tokens: int) -> TaskResult:
        settings = ChoiceSettings(shots=shots, context_tokens=tokens, wording="zh")
        return ask_choices({"it": pico_base}, ChoiceTask(questions, settings), cache=tmp_path)

    bare, room = asked(0, 256), asked(3, 256)
    assert bare.models[0].notes == ()
    assert room.models[0].notes == ("40 questions had room for fewer examples",)
    short = asked(3, 110)
    (note,) = short.models[0].notes
    assert "fewer examples" in note
    # With room for the question alone, it is asked as if no example had been wanted.
    assert [one.value for one in short.models[0].scores] == [
        one.value for one in bare.models[0].scores
    ]


def test_a_question_that_does_not_fit_counts_as_wrong_and_is_told(
    pico_base: Path, tmp_path: Path
) -> None:
    rows = [row(0, "x"), {**row(1, "x"), "question": SENTENCES[0] * 3}]
    file = tmp_path / "own.jsonl"
    file.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    settings = ChoiceSettings(context_tokens=64, wording="zh")
    task = ChoiceTask(read_questions(file), settings)
    (found,) = ask_choices({"it": pico_base}, task, cache=tmp_path / "cache").models
    assert found.notes == ("1 questions did not fit into the context",)
    assert sum(found.picks.values()) == 1
    assert found.scores[0].num_items == 2


def test_examples_that_are_not_there_are_missed(pico_base: Path, questions: QuestionSet) -> None:
    with pytest.raises(DataError, match="3 examples of first: give 4 as examples="):
        ask_choices({"it": pico_base}, ChoiceTask(questions, ChoiceSettings(shots=4)))


@pytest.mark.parametrize("words", [("--shots", "-1"), ("--context-tokens", "1")])
def test_a_setting_out_of_its_range_is_one_line(
    words: tuple[str, str], pico_base: Path, file: Path
) -> None:
    done = hanpaca("eval", pico_base, "--task", file, *words)
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
    assert f"hanpaca: {words[0]}: " in done.stderr


def test_the_suite_takes_nothing_that_it_would_not_heed(pico_base: Path, file: Path) -> None:
    done = hanpaca("eval", pico_base, "--suite", "--task", file)
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
    assert "the suite has its own prompts" in done.stderr


def test_the_command_compares_a_base_with_its_adapter(
    pico_base: Path, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    adapter = tmp_path / "adapter"
    make_adapter(pico_base, adapter)
    page = tmp_path / "page.html"
    arguments = ["eval", str(pico_base), "--adapter", str(adapter), "--task", str(file)]
    done = CliRunner().invoke(app, [*arguments, "--page", str(page)], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    for told in ("base + adapter", "% right", "chance", "always"):
        assert told in done.stdout
    text = page.read_text(encoding="utf-8")
    assert "<h2>own</h2>" in text
    assert "rule letter, 0-shot, wording en" in text
    done = CliRunner().invoke(app, [*arguments, "--json"], catch_exceptions=False)
    (tmp_path / "results.json").write_text(done.stdout, encoding="utf-8")
    (task,) = read_results(tmp_path / "results.json").tasks
    assert [one.name for one in task.models] == ["base", "base + adapter"]
    assert task.baselines == {"chance": 25.0, "always A": 25.0}
    done = CliRunner().invoke(app, ["eval", str(pico_base)])
    assert "nothing to measure on" in str(done.exception)
