import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("gradio", reason="gradio is not installed (pip install 'hanpaca[web]')")

import gradio as gr
from fastapi import FastAPI
from starlette.testclient import TestClient

from hanpaca.app.events import Events, Tab, paced, sampling, status, worded
from hanpaca.app.page import build
from hanpaca.app.web import KeptInside, mount, serve
from hanpaca.data.asking import CHINESE
from hanpaca.errors import RecipeError, ResourceError
from hanpaca.steps.web import Documents, Loading, Models, Offer, Sampling, Talk
from tests.support.scripted import ANSWER

DEFAULTS = ("", 30, 0.0, 40, 0.95, 0.05, 1.1, 0)
"""The system prompt and the values of `Sampling`, as the page sends them."""


@pytest.fixture(scope="module")
def models(scripted_folder: Path) -> Iterator[Models]:
    offered = [Offer(name, scripted_folder / f"{name}.gguf") for name in ("short", "endless")]
    with Models(offered, loading=Loading(threads=1, context_tokens=512)) as models:
        yield models


@pytest.fixture
def warnings(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    found: list[str] = []
    monkeypatch.setattr(gr, "Warning", found.append)
    return found


def tab_of(models: Models, *names: str) -> Tab:
    return Tab(Talk(models, names or ["short"]), "zh")


def test_an_answer_fills_the_page_and_empties_the_box(models: Models) -> None:
    events = Events(models, ["short", "endless"])
    pictures = list(events.ask(None, " 一 ", *DEFAULTS))
    tab, box, left, right, status_left, status_right = pictures[0]
    assert box.value == ""
    assert (box.submit_btn, box.stop_btn) == (False, True)
    assert (
        left == right == [{"role": "user", "content": "一"}, {"role": "assistant", "content": ""}]
    )
    assert status_left == status_right == "reading …"
    *_, left, right, status_left, status_right = pictures[-1]
    assert left[1]["content"] == ANSWER
    assert right[1]["content"].startswith(f"{ANSWER}\n")
    assert "3 characters · " in status_left
    assert status_right.endswith(" · cut off at the most tokens")
    _, box, *_ = events.rest(tab)
    assert (box.submit_btn, box.stop_btn) == (True, False)


def test_answers_from_documents_show_their_sources(scripted_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "tea_1.txt").write_text("龙井茶*产于*杭州。", encoding="utf-8")
    with Documents(tmp_path / "i.sqlite") as documents:
        documents.add(tmp_path / "tea_1.txt")
        offered = [Offer("short", scripted_folder / "short.gguf")]
        loading = Loading(threads=1, context_tokens=1024)
        with Models(offered, loading=loading, documents=documents) as models:
            events, tab = Events(models, ["short"]), tab_of(models)
            *_, (_, _, left, _, told, _) = events.ask(tab, "龙井茶产于哪里？", *DEFAULTS)
            assert left[0]["content"] == "龙井茶产于哪里？"
            assert left[1]["content"] == ANSWER
            numbers, source = told.split("\n\n")
            assert "3 字" in numbers
            assert source.startswith("\\[1\\] ")
            assert source.endswith("tea\\_1\\.txt, line 1: 龙井茶\\*产于\\*杭州。")
            *_, (_, _, left, _, told, _) = events.ask(tab, "股票市场如何？", *DEFAULTS)
            assert left[3]["content"] == CHINESE.nothing
            assert "tea" not in told
            answer = tab.talk.halves[0].session.answer
            assert answer is not None
            assert answer.num_tokens == 0


def test_an_empty_question_is_not_sent(models: Models) -> None:
    ((_, _, left, *_),) = Events(models, ["short"]).ask(tab_of(models), "  \n", *DEFAULTS)
    assert left == []


def test_a_changed_question_is_found_by_its_message(models: Models) -> None:
    events, tab = Events(models, ["short"]), tab_of(models)
    for question in "一二三":
        list(events.ask(tab, question, *DEFAULTS))
    *_, (_, _, left, *_) = events.edit(tab, 0, 2, "两", DEFAULTS)
    assert [one["content"] for one in left] == ["一", ANSWER, "两", ANSWER]
    *_, (_, _, left, *_) = events.edit(tab, 0, 0, " ", DEFAULTS)
    assert len(left) == 4
    _, question, left, *_ = events.undo(tab)
    assert (question, len(left)) == ("两", 2)
    _, _, left, *_ = events.clear(tab)
    assert left == []


def test_what_cannot_be_done_is_a_warning_in_the_words_of_the_page(
    models: Models, warnings: list[str]
) -> None:
    events, tab = Events(models, ["short"]), tab_of(models)
    list(events.retry(tab, *DEFAULTS))
    list(events.ask(tab, "一", "", 0, *DEFAULTS[2:]))
    assert warnings == [
        "there is no question to ask again",
        "max tokens is 0: 回答的最多词元数 must be at least 1",
    ]
    error = RecipeError("a", "give {seed} or write it with {merge()}")
    assert worded(error, tab) == "a: give 随机种子 or write it with hanpaca merge"


def test_a_refused_question_stands_with_its_reason(models: Models) -> None:
    tab = tab_of(models)
    *_, (_, _, left, _, told, _) = Events(models, ["short"]).ask(tab, "长" * 900, *DEFAULTS)
    assert left[1]["content"].startswith("⚠️ the prompt has ")
    assert told == ""


def test_another_model_is_picked_and_a_second_one_leaves(models: Models) -> None:
    events, tab = Events(models, ["short"]), tab_of(models)
    list(events.ask(tab, "一", *DEFAULTS))
    _, second, left, right, *_ = events.pick(tab, "short", "endless")
    assert second.visible
    assert left == right
    _, second, _, right, *_ = events.pick(tab, "endless", "")
    assert not second.visible
    assert right == []
    assert tab.talk.halves[0].name == "endless"


def test_a_conversation_is_saved_and_loaded(
    models: Models, tmp_path: Path, warnings: list[str]
) -> None:
    events, tab = Events(models, ["short"]), tab_of(models)
    list(events.ask(tab, "一", "短", *DEFAULTS[1:]))
    file = tmp_path / "talk.json"
    file.write_text(events.save(tab), encoding="utf-8")
    assert json.loads(events.save(tab))["messages"][0] == {"role": "system", "content": "短"}
    _, system, left, *_ = events.load(None, str(file))
    assert (system, left[1]["content"]) == ("短", ANSWER)
    file.write_text("{", encoding="utf-8")
    events.load(tab, str(file))
    assert warnings[0].startswith("talk.json: damaged JSON")


def test_sliders_are_read_in_the_order_of_the_fields() -> None:
    values = (64.0, 0.7, 20.0, 0.9, 0.1, 1.2, 3)
    assert sampling(values) == Sampling(64, 0.7, 20, 0.9, 0.1, 1.2, 3)
    with pytest.raises(RecipeError, match="top p is 0"):
        sampling((64, 0.7, 20, None, 0.1, 1.2, 3))


def test_few_pictures_are_drawn_but_always_the_last() -> None:
    seen: list[int] = []

    def steps() -> Iterator[int]:
        for number in range(100):
            seen.append(number)
            yield number

    assert list(paced(steps(), lambda step: 0 if step == 0 else 60)) == [0, 1]
    assert len(seen) == 100
    assert list(paced(iter([]), float)) == []
    assert list(paced(iter([60]), float)) == [0]


def test_the_rate_is_characters_of_the_time_of_writing(models: Models) -> None:
    tab = tab_of(models)
    half = tab.talk.halves[0]
    half.num_written, half.seconds, half.waited = 30, 1.5, 0.26
    assert status(half, tab) == "30 字 · 每秒 20.0 字 · 首字 0.3 秒"
    half.seconds = 0.1
    assert status(half, tab) == "30 字 · 首字 0.3 秒"


def page(models: Models, **more: Any) -> TestClient:
    return TestClient(mount(FastAPI(), models, ["short"], **more), base_url="http://127.0.0.1")


def test_the_page_offers_no_call_for_programs_and_no_count_of_launches(models: Models) -> None:
    blocks = build(models, ["short"], Sampling(), None)
    assert not blocks.analytics_enabled
    assert blocks.get_api_info()["named_endpoints"] == {}
    with page(models) as client:
        config = client.get("/config").json()
        assert config["footer_links"] == []
        assert not config["analytics_enabled"]


def test_a_browser_is_told_to_load_nothing_from_elsewhere(models: Models) -> None:
    with page(models) as client:
        answer = client.get("/", headers={"Origin": "https://evil.example"})
        assert answer.status_code == 200
        policy = answer.headers["content-security-policy"]
        assert "default-src 'self'" in policy
        assert "http" not in policy
        assert "access-control-allow-origin" not in answer.headers
        assert "fonts.googleapis.com" not in answer.text


def test_the_page_stands_beside_the_routes_of_its_front(models: Models) -> None:
    front = FastAPI()
    front.add_api_route("/v1/models", lambda: {"object": "list"})
    with TestClient(mount(front, models, ["short"])) as client:
        assert client.get("/v1/models").json() == {"object": "list"}
        assert client.get("/").is_success
    assert KeptInside in [one.cls for one in front.user_middleware]


def test_a_port_that_is_taken_is_named(models: Models) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(
            ResourceError, match=rf"127\.0\.0\.1, port {port}: .*give another port="
        ):
            serve(models, ["short"], port=port)
