"""`generate_data` against endpoints that fail: exact numbers, no row twice, no cap crossed."""

import json
import multiprocessing
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

import hanpaca as hp
from hanpaca.data.conversations import read_conversations
from hanpaca.errors import ArtifactError, DataError, RecipeError, ResourceError
from hanpaca.steps.generate_data import estimate_data
from tests.support.fake_model import (
    FAULTS,
    FakeModel,
    fake_model,
    generate_when,
    hashes_in,
    said_to,
)

KEY = "sk-very-secret-42"


def rows_of(folder: Path, name: str = "rows.jsonl") -> list[dict[str, Any]]:
    lines = (folder / name).read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def made(model: FakeModel, output: Path, **given: Any) -> hp.GenerateSettings:
    """Make rows; the settings that were used."""
    besides = {
        name: given.pop(name)
        for name in ("materials", "evaluation", "key_from", "tell")
        if name in given
    }
    settings = hp.GenerateSettings(**given)
    hp.generate_data(output, url=model.url, model="fake", settings=settings, **besides)
    return settings


@pytest.mark.slow
def test_500_rows_come_of_an_endpoint_that_is_busy_fails_breaks_off_and_hangs(
    tmp_path: Path,
) -> None:
    output = tmp_path / "made"
    with fake_model(faults=FAULTS) as model:
        made(model, output, num_rows=500, num_at_once=16, timeout_seconds=1)
        assert model.most_open <= 16 + sum(FAULTS.values()) * len(model.asked)  # some hang on
    talks = [talk for talk, _ in read_conversations([output / "rows.jsonl"])]
    assert len(talks) == len({turns[0].content for turns in talks}) == 500
    assert all(turns[1].content.endswith("的回答。") for turns in talks)
    calls = (output / "calls.jsonl").read_text(encoding="utf-8")
    assert all(set(row["provenance"]["calls"]) <= hashes_in(calls) for row in rows_of(output))
    assert "500 instructions" in (output / "README.md").read_text(encoding="utf-8")
    assert sorted(file.name for file in output.iterdir()) == [
        *("README.md", "calls.jsonl", "dropped.jsonl", "rows.jsonl")
    ]


@pytest.mark.slow
def test_the_same_seed_asks_the_same(tmp_path: Path) -> None:
    asked = []
    for name, seed, at_once in (("a", 1, 1), ("b", 1, 9), ("c", 2, 4)):
        with fake_model() as model:
            made(model, tmp_path / name, num_rows=25, seed=seed, num_at_once=at_once)
            asked.append(Counter(json.dumps(one, sort_keys=True) for one in model.asked))
    assert asked[0] == asked[1]
    assert len(asked[0]) == 50
    assert not asked[0] & asked[2]
    assert (tmp_path / "a/rows.jsonl").read_text().replace("\n", "").count("provenance") == 25


@pytest.mark.slow
def test_killed_anywhere_it_goes_on_and_no_row_comes_twice(tmp_path: Path) -> None:
    forks = multiprocessing.get_context("forkserver")
    forks.set_forkserver_preload(
        ["pytest", "hanpaca.steps.generate_data", "tests.support.fake_model"]
    )
    settings = hp.GenerateSettings(num_rows=70, num_at_once=4, timeout_seconds=5)
    faults = {"busy": 0.2, "failing": 0.05}  # a reply that broke off is another one the next time
    output = tmp_path / "made"

    def run_once(model: FakeModel, place: Path, number: int) -> int | None:
        given = {"url": "http://127.0.0.1:1/v1", "model": "fake", "settings": settings}
        gate = forks.Event()
        process = forks.Process(
            target=generate_when, args=(gate, place, {**given, "url": model.url})
        )
        process.start()
        assert process.pid
        model.kills = (process.pid, len(model.asked) + number)
        gate.set()
        process.join(240)
        assert process.exitcode is not None
        model.kills = None
        return process.exitcode

    with fake_model(faults=faults) as model:
        ends: list[int | None] = []
        while not output.exists() and len(ends) < 60:
            ends.append(run_once(model, output, 1 + 3 * len(ends) % 11))
        assert ends.count(-9) >= 20, ends
        hp.generate_data(tmp_path / "whole", url=model.url, model="fake", settings=settings)
    assert rows_of(output) == rows_of(tmp_path / "whole")
    assert len({row["messages"][0]["content"] for row in rows_of(output)}) == 70
    replies = [
        Counter(row["asked"] for row in rows_of(folder, "calls.jsonl") if "reply" in row)
        for folder in (output, tmp_path / "whole")
    ]
    assert replies[0] == replies[1]
    assert set(replies[0].values()) == {1}


@pytest.mark.slow
def test_a_cap_is_never_crossed_by_16_calls_at_once(tmp_path: Path) -> None:
    prices = {"input_price": 10.0, "output_price": 200.0, "max_tokens": 64, "num_at_once": 16}
    with fake_model(faults=FAULTS) as model, pytest.raises(ResourceError) as stopped:
        made(model, tmp_path / "made", num_rows=500, max_cost=1.0, timeout_seconds=1, **prices)
    read, written = model.tokens
    assert 0 < (read * 10 + written * 200) / 1e6 <= 1.0
    there = len(rows_of(tmp_path / "made.partial"))
    assert f"{there} of 500 rows are there" in str(stopped.value)
    assert "give more max_cost=" in str(stopped.value)
    assert 0 < there < 500  # on a busy machine more calls run out of time, and count in full
    settings = hp.GenerateSettings(num_rows=there, max_cost=1.0, **prices)
    hp.generate_data(
        tmp_path / "made", url=model.url, model="fake", settings=settings
    )  # it is gone
    assert len(rows_of(tmp_path / "made")) == there


def test_calls_without_a_count_cost_what_was_reserved(tmp_path: Path) -> None:
    with fake_model(counted=False) as model, pytest.raises(ResourceError, match="max_calls="):
        made(model, tmp_path / "a", num_rows=9, max_calls=7, output_price=1.0)
    with fake_model(counted=False) as model, pytest.raises(ResourceError, match=r"can cost 0\.05"):
        made(model, tmp_path / "b", num_rows=9, max_cost=0.1, max_tokens=512, output_price=100.0)
    assert len(model.asked) == 1


def test_what_is_evaluated_with_is_dropped_and_named(tmp_path: Path) -> None:
    leaked = "下列选项中，哪一项最能说明唐代科举制度的根本变化及其影响？"
    (tmp_path / "eval.jsonl").write_text(json.dumps({"question": leaked}), encoding="utf-8")
    replies = iter([f'{{"instruction": "请回答：{leaked}"}}'])

    def say(request: dict[str, Any]) -> str:
        return next(replies, "") or said_to(request)

    with fake_model(say=say) as model:
        made(
            model,
            tmp_path / "made",
            num_rows=3,
            num_at_once=1,
            evaluation=[tmp_path / "eval.jsonl"],
        )
    (dropped,) = rows_of(tmp_path / "made", "dropped.jsonl")
    assert dropped["reason"] == "leak"
    assert leaked in dropped["detail"]


def test_the_key_stands_in_no_file_and_no_message(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_KEY", KEY)
    with fake_model() as model:
        made(model, tmp_path / "made", num_rows=3, key_from="MY_KEY")
        assert {one["authorization"] for one in model.headers} == {f"Bearer {KEY}"}
        model.status = 401
        with pytest.raises(ArtifactError, match="status 401") as refused:
            made(model, tmp_path / "refused", num_rows=3, key_from="MY_KEY")
    assert KEY not in str(refused.value)
    files = [file for file in tmp_path.rglob("*") if file.is_file()]
    assert len(files) >= 3
    assert not any(KEY in file.read_text(encoding="utf-8") for file in files)
    assert not (tmp_path / "refused.partial").exists()
    with pytest.raises(RecipeError, match="no key in 'NO_KEY'"):
        made(FakeModel(url=model.url), tmp_path / "none", key_from="NO_KEY")


def test_a_schema_is_asked_for_until_it_is_refused(tmp_path: Path) -> None:
    with fake_model() as model:
        made(model, tmp_path / "a", num_rows=2, num_at_once=1)
        assert sum("response_format" in one for one in model.asked) == 2
    with fake_model(schema=False) as model:
        made(model, tmp_path / "b", num_rows=2, num_at_once=1)
        assert sum("response_format" in one for one in model.asked) == 1
    assert len(rows_of(tmp_path / "b")) == 2


def test_documents_are_asked_about_and_named(tmp_path: Path) -> None:
    papers = tmp_path / "papers"
    papers.mkdir()
    (papers / "tea.txt").write_text("龙井茶产于杭州，是绿茶。", encoding="gb18030")
    (papers / "empty.pdf").touch()
    notes: list[str] = []
    with fake_model() as model:
        made(
            model,
            tmp_path / "made",
            mode="from_text",
            num_rows=2,
            materials=[papers],
            tell=lambda one: notes.append(one.note),
        )
        assert all("龙井茶产于杭州" in one["messages"][0]["content"] for one in model.asked)
    source = rows_of(tmp_path / "made")[0]["provenance"]["source"]
    assert (source["path"], source["unit"], source["number"]) == ("papers/tea.txt", "line", 1)
    assert any("empty.pdf" in note for note in notes)


def test_a_passage_that_is_too_long_for_the_server_is_dropped(tmp_path: Path) -> None:
    rows = [{"text": "龙井茶产于杭州。" * times} for times in (40, 1, 1)]
    lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    (tmp_path / "tea.jsonl").write_text(lines, encoding="utf-8")
    with fake_model(context=300) as model:
        given = {"mode": "from_text", "materials": [tmp_path / "tea.jsonl"]}
        made(model, tmp_path / "made", num_rows=2, num_at_once=1, **given)
    dropped = rows_of(tmp_path / "made", "dropped.jsonl")
    assert [one["reason"] for one in dropped] == ["too long"] * len(dropped)
    assert len(rows_of(tmp_path / "made")) == 2


def test_a_model_writes_the_question_itself(tmp_path: Path) -> None:
    with fake_model() as model:
        made(model, tmp_path / "made", mode="magpie", num_rows=3, template="llama-3")
        prompts = [one for one in model.asked if "prompt" in one]
    assert {one["stop"][0] for one in prompts} == {"<|eot_id|>"}
    assert len({one["seed"] for one in prompts}) == 3


def test_mistakes_are_told_before_anything_is_asked(tmp_path: Path) -> None:
    with fake_model() as model:
        for error, told, given in (
            (RecipeError, "give materials=", {"mode": "from_text"}),
            (DataError, "no such file", {"mode": "from_text", "materials": [tmp_path / "no"]}),
            (RecipeError, "takes no documents", {"materials": [tmp_path]}),
            (RecipeError, "in 'xx' come with", {"language": "xx"}),
            (RecipeError, "neither known", {"mode": "magpie", "template": "none"}),
        ):
            with pytest.raises(error, match=told):
                made(model, tmp_path / "made", **given)
        assert model.asked == []
    assert list(tmp_path.iterdir()) == []


def test_an_estimate_is_the_most_that_rows_cost(tmp_path: Path) -> None:
    prices = {"input_price": 1.0, "output_price": 4.0, "max_tokens": 256}
    settings = hp.GenerateSettings(num_rows=40, **prices)
    estimate = estimate_data(settings)
    assert estimate.num_calls == 80
    with fake_model() as model:
        report = hp.generate_data(tmp_path / "a", url=model.url, model="f", settings=settings)
    assert report.num_calls == 80
    assert 0 < report.cost < estimate.cost
    assert [file.name for file in tmp_path.iterdir()] == ["a"]
