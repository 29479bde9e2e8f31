"""Models compared by a judge on loopback: mirrored, cached, and only if the controls are met."""

import json
import signal
import threading
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from pydantic import TypeAdapter

from hanpaca.errors import ArtifactError, DataError, HanpacaError, RecipeError, ResourceError
from hanpaca.evals.tasks.suite.prompts import load_suite
from hanpaca.evals.tasks.suite.score import Said, SuiteResult, checked_answers
from hanpaca.steps.judge_suite import Endpoint, JudgeReport, judge_suite, pair_rows
from tests.support.commands import hanpaca
from tests.support.judging import answers_in, careful, judging

WHOLE = load_suite()
JUDGED = [one for one in WHOLE.prompts if "judge" in one.layers]
SUITE = replace(WHOLE, prompts=tuple(JUDGED[::6]))
NUM_JUDGED = len(SUITE.prompts)


def result(model: str, words: Mapping[int, str]) -> SuiteResult:
    """A model whose answer depends on the number of the prompt alone."""
    said = {
        one.name: Said(
            one.name,
            tuple(f"{words[number % len(words)]} {one.name}" for _ in one.turns),
            (True,) * len(one.turns),
            (1,) * len(one.turns),
        )
        for number, one in enumerate(SUITE.prompts)
    }
    rule = {"temperature": 0.0, "max_tokens": 9}
    # Its code is words, so nothing is run.
    return SuiteResult(model, "00", SUITE.version, 0, rule, checked_answers(SUITE, said))


A = result("a", {0: "good", 1: "good", 2: "bad"})
B = result("b", {0: "bad", 1: "good", 2: "good good"})
C = result("c", {0: "bad", 1: "bad", 2: "bad"})


def written(folder: Path, *results: SuiteResult) -> Path:
    folder.mkdir(exist_ok=True)
    for one in results:
        text = TypeAdapter(SuiteResult).dump_json(one)
        (folder / f"{one.model}.json").write_bytes(text)
    return folder


@careful
def counts_good(text: str) -> str:
    first, second = (one.count("good") for one in answers_in(text))
    return "[[A]]" if first > second else "[[B]]" if first < second else "[[C]]"


@careful
def always_first(text: str) -> str:
    return "[[A]]"


def judged(folder: Path, url: str) -> JudgeReport:
    return judge_suite(folder, Endpoint(url, "judge"), suite=SUITE)


def test_a_judge_asked_about_swapped_answers_gives_the_mirrored_table(tmp_path: Path) -> None:
    swapped = (
        SuiteResult(**{**vars(A), "answers": B.answers}),
        SuiteResult(**{**vars(B), "answers": A.answers}),
    )
    with judging(counts_good) as judge:
        ours = judged(written(tmp_path / "ours", A, B), judge.url).pairs[0]
        theirs = judged(written(tmp_path / "theirs", *swapped), judge.url).pairs[0]
    assert (ours.model, theirs.model) == ("a", "a")
    assert {name: 1 - score for name, score in ours.scores.items()} == theirs.scores
    assert theirs.rate.value == pytest.approx(100 - ours.rate.value)
    assert theirs.at_equal_length.value == pytest.approx(100 - ours.at_equal_length.value)
    assert set(ours.scores.values()) == {0.0, 0.5, 1.0}
    assert len(ours.scores) == NUM_JUDGED
    assert (ours.flip_rate, ours.unreadable) == (0, 0)


def test_a_judge_that_says_first_shows_no_difference_and_flips(tmp_path: Path) -> None:
    with judging(always_first) as judge:
        found = judged(written(tmp_path / "out", A, C), judge.url)
    (pair,) = found.pairs
    # Where both said the same word for word, even this judge sees it.
    same = sum(
        one.said.answers == other.said.answers
        for one, other in zip(A.answers, C.answers, strict=True)
        if one.said.name in pair.scores
    )
    assert set(pair.scores.values()) == {0.5}
    assert pair.flip_rate == pytest.approx(1 - same / NUM_JUDGED)
    assert (pair.rate.value, pair.rate.shown) == (50, False)
    assert pair_rows(found)[0][0] == "a, c: no difference shown"


def test_three_models_have_strengths_and_every_reply_is_asked_once(tmp_path: Path) -> None:
    folder = written(tmp_path / "out", A, B, C)
    with judging(counts_good) as judge:
        found = judged(folder, judge.url)
        num_asked = len(judge.asked)
        lines = (folder / "judged/replies.jsonl").read_text(encoding="utf-8").splitlines()
        assert len({json.loads(line)["asked"] for line in lines}) == len(lines)
        # Killed in the middle of a line: what was whole is kept.
        half = "\n".join([*lines[:-1], lines[-1][:40]])
        (folder / "judged/replies.jsonl").write_text(half, encoding="utf-8")
        assert judged(folder, judge.url) == found
        assert len(judge.asked) == num_asked + 1
        assert judged(folder, judge.url) == found
        assert len(judge.asked) == num_asked + 1
    ranked = sorted(found.strengths, key=lambda name: -found.strengths[name][0])
    assert ranked == ["b", "a", "c"] or ranked == ["a", "b", "c"]
    assert found.strengths["c"][2] < min(found.strengths["a"][0], found.strengths["b"][0])
    assert [row[0] for row in pair_rows(found)][1:] == ["a > c", "b > c"]


def test_ctrl_c_waits_for_no_reply_and_nothing_is_written_after_it(tmp_path: Path) -> None:
    folder = written(tmp_path / "out", A, B)
    main = threading.main_thread().ident
    assert main is not None
    hung, may_go = iter([True]), threading.Event()

    @careful
    def hangs(text: str) -> str:
        if next(hung, False):
            signal.pthread_kill(main, signal.SIGINT)
        may_go.wait(60)
        return "[[A]]"

    with judging(hangs) as judge:
        begun = time.monotonic()
        with pytest.raises(KeyboardInterrupt):
            judged(folder, judge.url)
        assert time.monotonic() - begun < 20
        kept = (folder / "judged/replies.jsonl").read_bytes()
        may_go.set()
    assert (folder / "judged/replies.jsonl").read_bytes() == kept
    assert len(judge.asked) <= len(kept.splitlines()) + 4
    with judging(counts_good) as judge:
        assert len(judged(folder, judge.url).pairs[0].scores) == NUM_JUDGED


def test_what_is_too_long_for_the_judge_is_left_out_and_counted(tmp_path: Path) -> None:
    folder = written(tmp_path / "out", A, B, C)
    first, *others = [one.name for one in SUITE.prompts]
    with judging(counts_good) as judge:
        judge.no_room_for = f"{A.answers[0].said.answers[0]}\n"
        found = judged(folder, judge.url)
        assert [pair.too_long for pair in found.pairs] == [(first,), (first,), ()]
        assert list(found.pairs[0].scores) == others
        assert len(found.pairs[2].scores) == NUM_JUDGED
        assert set(found.strengths) == {"a", "b", "c"}
        judge.no_room_for = "User: "
        with pytest.raises(ArtifactError, match="maximum context length"):
            judged(written(tmp_path / "new", A, B), judge.url)


def test_a_judge_that_fails_its_controls_is_refused(tmp_path: Path) -> None:
    folder = written(tmp_path / "out", A, B)
    with judging(lambda text: "[[A]]") as judge, pytest.raises(ArtifactError, match="is no judge"):
        judged(folder, judge.url)
    assert len(judge.asked) <= 40
    assert not (folder / "judged/report.json").exists()


@pytest.mark.slow
def test_a_busy_judge_is_asked_again_and_a_key_is_written_nowhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JUDGE_KEY", "sk-secret-123")
    monkeypatch.setattr("hanpaca.inference.endpoint._FIRST_PAUSE", 0.001)
    folder = written(tmp_path / "out", A, B)
    words = ["--model", "judge", "--key-from", "JUDGE_KEY"]
    with judging(counts_good) as judge:
        judge.statuses = [429, 500]
        done = hanpaca("suite", "judge", folder, "--url", judge.url, *words)
        assert done.returncode == 0, done.stderr
        assert set(judge.keys) == {"Bearer sk-secret-123"}
        judge.statuses = [401]
        ours = Endpoint(judge.url, "other", "JUDGE_KEY")
        with pytest.raises(ArtifactError, match="status 401"):
            ours.reply([{"role": "user", "content": "?"}])
        judge.statuses = [503] * 5
        with pytest.raises(ResourceError, match="status 503"):
            ours.reply([{"role": "user", "content": "?"}])
    files = [one.read_text(encoding="utf-8") for one in folder.rglob("*") if one.is_file()]
    assert not any("sk-secret" in text for text in (*files, done.stdout, done.stderr))
    assert f"{NUM_JUDGED}" in done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"choices": []}', b"<html>"])
def test_a_reply_that_is_no_completion_is_named(body: bytes) -> None:
    with judging(counts_good) as judge:
        judge.body = body or b" "
        with pytest.raises(ArtifactError, match="the reply is no chat completion"):
            Endpoint(judge.url, "judge").reply([{"role": "user", "content": "?"}])


def test_what_is_missing_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hanpaca.inference.endpoint._FIRST_PAUSE", 0.001)
    one, two = written(tmp_path / "one", A), written(tmp_path / "two", A, B)
    nobody = "http://127.0.0.1:9/v1"
    calls: list[tuple[type[HanpacaError], str, Path, Endpoint]] = [
        (RecipeError, "a judge compares models", one, Endpoint(nobody, "judge")),
        (ResourceError, "no reply", two, Endpoint(nobody, "judge")),
        (RecipeError, "no key in 'NO_SUCH_KEY'", two, Endpoint(nobody, "judge", "NO_SUCH_KEY")),
    ]
    for kind, message, folder, endpoint in calls:
        with pytest.raises(kind, match=message):
            judge_suite(folder, endpoint, suite=SUITE)
    with pytest.raises(DataError, match="answered suite"):
        judge_suite(two, Endpoint(nobody, "judge"), suite=load_suite(seed=5))
    with pytest.raises(RecipeError, match="no address"):
        Endpoint("localhost:80", "judge")
