"""The suite asked of models: once by one rule, resumed, kept, and checked."""

import json
from pathlib import Path

import pytest

from hanpaca.errors import ArtifactError
from hanpaca.progress import Progress
from hanpaca.steps.answer_suite import (
    Sampling,
    SuiteAsking,
    answer_suite,
    load_suite,
    read_suite_results,
)
from tests.support.commands import hanpaca
from tests.support.scripted import ANSWER, END, scripted_model

PROMPTS = {
    "knowledge": f"""
layers: [program]
prompts:
- {{id: k1, language: zh, ask: 问一, check: {{answers: [{ANSWER}]}}}}
- {{id: k2, language: zh, ask: 问二, check: {{answers: [秋冬]}}}}
- {{id: k3, language: zh, ask: 问三, layers: [judge], notes: 无}}
""",
    "dialogue": """
layers: [program]
prompts:
- {id: d1, language: en, ask: [问一, 问二], check: {follow: {han: [3, 3], ends: 秋, no_han: true}}}
""",
}
ONE = SuiteAsking(context_tokens=256, threads=1, num_parallel=2)


@pytest.fixture(scope="module")
def short(pico_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return scripted_model(pico_base, tmp_path_factory.mktemp("short") / "short", last=END)


@pytest.fixture
def prompts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder = tmp_path / "prompts"
    folder.mkdir()
    for name, text in PROMPTS.items():
        (folder / f"{name}.yaml").write_text(text, encoding="utf-8")
    return folder


def test_answers_are_checked_and_every_turn_is_the_models_own(short: Path, prompts: Path) -> None:
    (found,) = answer_suite([short], suite=load_suite(folder=prompts), asking=ONE)
    by_name = {one.said.name: one for one in found.answers}
    assert list(by_name) == ["k1", "k2", "k3", "d1"]
    assert by_name["d1"].said.answers == (ANSWER, ANSWER)
    assert by_name["d1"].said.stopped == (True, True)
    checked = {name: one.checked and one.checked.loose for name, one in by_name.items()}
    assert checked == {"k1": True, "k2": False, "k3": None, "d1": False}
    assert by_name["k1"].quality.in_language is True
    assert by_name["d1"].quality.in_language is False
    assert [(one.right, one.asked) for one in found.instructions()] == [(2, 3), (2, 3)]
    assert found.rows() == [
        ("knowledge", "2/3", "50.0 %", "9–91", "50.0 %", "100.0 %", "100.0 %", "100.0 %", "3"),
        ("dialogue", "1/1", "0.0 %", "0–79", "0.0 %", "100.0 %", "0.0 %", "100.0 %", "3"),
        ("zh", "2/3", "50.0 %", "9–91", "50.0 %", "100.0 %", "100.0 %", "100.0 %", "3"),
        ("en", "1/1", "0.0 %", "0–79", "0.0 %", "100.0 %", "0.0 %", "100.0 %", "3"),
        ("all", "3/4", "33.3 %", "6–79", "33.3 %", "100.0 %", "75.0 %", "100.0 %", "3"),
    ]


def test_an_interrupted_suite_goes_on_and_a_finished_one_is_read(
    short: Path, prompts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    suite = load_suite(folder=prompts)

    def stop_after_two(progress: Progress) -> None:
        if progress.unit == "prompts" and progress.done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        answer_suite([short], suite=suite, asking=ONE, tell=stop_after_two)
    told: list[float] = []

    def count(progress: Progress) -> None:
        if progress.unit == "prompts":
            told.append(progress.done)

    (whole,) = answer_suite([short], suite=suite, asking=ONE, tell=count)
    assert told == [3, 4]
    monkeypatch.setattr("hanpaca.steps.answer_suite.ChatModel", None)  # nobody is asked
    assert answer_suite([short], suite=suite, asking=ONE) == [whole]


def test_another_rule_or_suite_is_asked_anew(short: Path, prompts: Path) -> None:
    answer_suite([short], suite=load_suite(folder=prompts), asking=ONE)
    cut = SuiteAsking(Sampling(max_tokens=6), context_tokens=256, threads=1)
    (found,) = answer_suite([short], suite=load_suite(folder=prompts), asking=cut)
    assert not any(one.quality.stopped for one in found.answers)
    changed = PROMPTS["knowledge"].replace("问一", "问四")
    (prompts / "knowledge.yaml").write_text(changed, encoding="utf-8")
    (other,) = answer_suite([short], suite=load_suite(folder=prompts), asking=ONE)
    assert other.answers[0].turns == ("问四",)
    assert other.suite != found.suite


def test_the_command_writes_what_is_read_back(short: Path, prompts: Path, tmp_path: Path) -> None:
    words = ["--prompts", prompts, "--threads", 1, "--context-tokens", 256]
    done = hanpaca("suite", "ask", short, *words, "-o", tmp_path / "out", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)[0]["model"] == "short"
    (read,) = read_suite_results(tmp_path / "out")
    assert read.model == "short"
    assert read.sampling["temperature"] == 0
    done = hanpaca("suite", "ask", short, *words)
    assert "one answer a prompt, greedy, repeat penalty 1.1" in done.stderr.replace("\n", " ")
    assert "33.3 %" in done.stdout


def test_what_cannot_be_compared_is_refused(short: Path, prompts: Path, tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="no answers to a suite here"):
        read_suite_results(tmp_path)
    out = tmp_path / "out"
    answer_suite([short], suite=load_suite(folder=prompts), asking=ONE, output=out)
    text = (out / "short.json").read_text(encoding="utf-8")
    for old, new, message in (
        ('"temperature": 0.0', '"temperature": 0.5', "by other rules"),
        ('"seed": 0,\n  "sampling"', '"seed": 1,\n  "sampling"', "answered other prompts"),
        ('"model": "short"', '"name": "short"', "model: Field required"),
    ):
        assert old in text
        (out / "other.json").write_text(text.replace(old, new, 1), encoding="utf-8")
        with pytest.raises(ArtifactError, match=message):
            read_suite_results(out)


def test_another_model_of_the_same_name_keeps_the_first_ones_answers(
    short: Path, prompts: Path, tmp_path: Path, pico_base: Path
) -> None:
    other = scripted_model(pico_base, tmp_path / "b/short", last=END, metadata={"general.tag": "b"})
    suite, out, told = load_suite(folder=prompts), tmp_path / "out", list[str]()
    for _ in range(2):
        for file in (short, other):
            answer_suite(
                [file],
                suite=suite,
                asking=ONE,
                output=out,
                tell=lambda sign: told.append(sign.note),
            )
    assert [one.model for one in read_suite_results(out)] == ["short-2", "short"]
    assert f"{out} has answers of another short: these are called short-2" in told
    (out / "review-ann.json").write_text('{"review": "x", "votes": {}, "notes": {}}')
    assert len(read_suite_results(out)) == 2
    text = (out / "short.json").read_text(encoding="utf-8")
    (out / "copy.json").write_text(text, encoding="utf-8")
    with pytest.raises(ArtifactError, match="two files have answers of a model called short"):
        read_suite_results(out)


def test_a_prompt_that_is_too_long_counts_as_wrong_and_the_rest_goes_on(
    short: Path, prompts: Path
) -> None:
    long = PROMPTS["knowledge"].replace("问二", "问" * 200)
    (prompts / "knowledge.yaml").write_text(long, encoding="utf-8")
    suite = load_suite(folder=prompts)
    (found,) = answer_suite([short], suite=suite, asking=ONE)
    assert found.too_long == ["k2"]
    assert len(found.answers) == len(suite.prompts)
    (long_one,) = (one for one in found.answers if one.said.name == "k2")
    assert set(long_one.said.answers) == {""}
    assert long_one.checked is None or not long_one.checked.loose
    assert all(one.said.answers[-1] for one in found.answers if one.said.name != "k2")
    assert answer_suite([short], suite=suite, asking=ONE) == [found]


def test_eval_needs_a_text_or_the_suite(short: Path) -> None:
    done = hanpaca("eval", short)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "give --text, questions as --task, or --suite" in done.stderr
