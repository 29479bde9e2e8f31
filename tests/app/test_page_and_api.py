"""`hanpaca web`: the page and the API for programs at one address, over one model in memory."""

import json
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx2
import pytest

pytest.importorskip("gradio", reason="gradio is not installed (pip install 'hanpaca[web]')")

from tests.support.scripted import ANSWER
from tests.support.serving import Served, served

ASKED: dict[str, Any] = {"messages": [{"role": "user", "content": "问"}], "temperature": 0}
SETTINGS = ["", 20_000, 0.0, 40, 0.95, 0.05, 1.1, 0]
CHAT = "/v1/chat/completions"


@pytest.fixture(scope="module")
def server(scripted_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """`short` beside `endless`; the last test ends it."""
    other = str(scripted_folder / "endless.gguf")
    words = (other, "--context-tokens", "24000")
    folder = tmp_path_factory.mktemp("temporary")
    with served(scripted_folder / "short.gguf", *words, command="web", temporary=folder) as one:
        yield one


def said(events: Iterator[str]) -> str:
    """What an answer of a stream amounts to."""
    found = ""
    for line in events:
        if line.startswith("data: {"):
            for choice in json.loads(line.removeprefix("data: "))["choices"]:
                found += choice["delta"].get("content") or ""
    return found


def test_programs_are_answered_while_the_page_is_up(server: Served) -> None:
    with httpx2.Client(base_url=server.url, timeout=240) as client:
        assert "hanpaca" in client.get("/").text
        names = [one["id"] for one in client.get("/v1/models").json()["data"]]
        assert names == ["short", "endless"]
        assert client.get("/health").json() == {"status": "ok"}
        reply = client.post(CHAT, json=ASKED).json()
        assert (reply["model"], reply["choices"][0]["message"]["content"]) == ("short", ANSWER)
        asked = ASKED | {"model": "endless", "max_tokens": 20, "stream": True}
        with client.stream("POST", CHAT, json=asked) as stream:
            assert said(stream.iter_lines()) == f"{ANSWER}\n" * 2
        unknown = client.post(CHAT, json=ASKED | {"model": "gpt"})
        assert unknown.json()["error"]["message"].endswith("there are: short, endless")
        assert "llamacpp:requests_processing 0" in client.get("/metrics?model=endless").text
        for path in ("/v1/nothing", "/v1/"):
            assert client.get(path).json()["error"]["message"] == f"there is no {path}"


@pytest.mark.parametrize("path", ["/", "/config", "/v1/models", "/health", "/nothing"])
def test_other_hosts_and_origins_reach_neither(server: Served, path: str) -> None:
    for headers, status in (
        ({"Host": "evil.example"}, 400),
        ({"Origin": "https://evil.example"}, 403),
        ({"Origin": "null"}, 403),
    ):
        reply = httpx2.get(server.url + path, headers=headers, timeout=120)
        assert reply.status_code == status
        assert not [name for name in reply.headers if name.startswith("access-control")]


def page_asks(
    client: httpx2.Client, question: str, stack: ExitStack, *, tab: str = "tab"
) -> Iterator[str]:
    """Send a question as the page does; gives what its server tells meanwhile."""
    calls = client.get("/config").json()["dependencies"]
    (number,) = (one["id"] for one in calls if one["targets"][0][1] == "submit")
    body = {"data": [None, question, *SETTINGS], "fn_index": number, "session_hash": tab}
    client.post("/gradio_api/queue/join", json=body).raise_for_status()
    stream = client.stream("GET", f"/gradio_api/queue/data?session_hash={tab}")
    return stack.enter_context(stream).iter_lines()


@pytest.mark.slow
def test_tabs_that_are_left_in_mid_answer_and_while_they_wait_hold_nobody_up(
    server: Served,
) -> None:
    with httpx2.Client(base_url=server.url, timeout=240) as client, ExitStack() as stack:
        with ExitStack() as writing:
            pictures = page_asks(client, "一", writing, tab="writes")
            assert any(f"{ANSWER}\\n" in line for line in pictures)
            with ExitStack() as waiting:
                pictures = page_asks(client, "二", waiting, tab="waits")
                assert any("二" in line for line in pictures)
        began = time.monotonic()
        pictures = page_asks(client, "三", stack, tab="asks")
        assert any(ANSWER in line for line in pictures)
        assert time.monotonic() - began < 40  # a second or two; a minute where Gradio tries on


@pytest.mark.slow
def test_ctrl_c_ends_it_with_an_answer_open_on_the_page_and_one_of_a_program(
    server: Served,
) -> None:
    with httpx2.Client(base_url=server.url, timeout=240) as client, ExitStack() as stack:
        pictures = page_asks(client, "一", stack)
        asked = ASKED | {"model": "endless", "stream": True}
        program = stack.enter_context(client.stream("POST", CHAT, json=asked)).iter_lines()
        assert any(f"{ANSWER}\\n" in line for line in pictures)
        assert any(ANSWER[0] in line for line in program)
        status, seconds, told = server.stop()
    assert (status, told) == (0, "")
    assert seconds < 30  # under 4 on a quiet machine; the answers would take minutes
