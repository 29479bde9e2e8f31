"""An endpoint that many threads ask at once, and what its server may reply."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import httpx2
import pytest

from hanpaca.errors import ArtifactError, RecipeError
from hanpaca.inference import endpoint
from hanpaca.inference.endpoint import Endpoint

NUM_THREADS = 8


class SlowToOpen:
    """A client whose making takes as long as all threads need to ask for one."""

    made: list["SlowToOpen"]

    def __init__(self, timeout: float) -> None:
        self.closed = False
        SlowToOpen.made.append(self)
        threading.Event().wait(0.05)

    def close(self) -> None:
        self.closed = True


def test_threads_that_ask_at_once_share_one_client_and_it_is_closed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    SlowToOpen.made = []

    class Package:
        Client = SlowToOpen

    monkeypatch.setattr(endpoint, "_httpx2", Package)
    asked = Endpoint("http://127.0.0.1:9/v1", "m")
    together = threading.Barrier(NUM_THREADS)

    def client(_: int) -> Any:
        together.wait()
        return asked._client

    with ThreadPoolExecutor(NUM_THREADS) as threads:
        found = list(threads.map(client, range(NUM_THREADS)))
    assert len(SlowToOpen.made) == 1
    assert all(one is SlowToOpen.made[0] for one in found)
    asked.close()
    assert SlowToOpen.made[0].closed
    asked.close()  # again is no fault


@contextmanager
def replying(*replies: httpx2.Response) -> Iterator[Endpoint]:
    """An endpoint whose server gives these replies, one after the other."""
    left = iter(replies)
    asked = Endpoint("http://127.0.0.1:9/v1", "m", num_tries=len(replies))
    transport = httpx2.MockTransport(lambda request: next(left))
    asked.__dict__["_opened"] = httpx2.Client(transport=transport)
    yield asked
    asked.close()


def reply(content: object) -> httpx2.Response:
    return httpx2.Response(200, json={"choices": [{"message": {"content": content}}]})


@pytest.mark.parametrize(
    ("header", "seconds"), [("2", 2.0), ("1.5", 1.5), ("²", 0.5), ("Fri, 1 Jan", 0.5)]
)
def test_a_busy_server_says_in_seconds_when_to_come_again(header: str, seconds: float) -> None:
    busy = httpx2.Response(429, headers=[(b"retry-after", header.encode("latin-1"))])
    slept: list[float] = []
    with replying(busy, reply("yes")) as asked:
        assert asked.complete({}, sleep=slept.append).text == "yes"
    assert seconds <= slept[0] <= 1.25 * seconds


def test_half_a_character_is_replaced_and_what_is_no_text_refused() -> None:
    with replying(
        httpx2.Response(200, content=b'{"choices": [{"text": "\\u6c34 \\ud83d"}]}')
    ) as one:
        assert one.complete({}).text == "水 \ufffd"
    with replying(reply([{"text": "x"}])) as one, pytest.raises(ArtifactError, match="a list"):
        one.complete({})


@pytest.mark.parametrize("url", ["http://[::1/v1", "http://\0/v1"])
def test_an_address_that_is_none_is_told(url: str) -> None:
    with pytest.raises(RecipeError, match="is no address of a server"):
        Endpoint(url, "m").complete({})
