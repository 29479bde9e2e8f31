"""An endpoint that many threads ask at once."""

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

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
