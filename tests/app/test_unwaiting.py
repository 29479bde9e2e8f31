import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("gradio", reason="gradio is not installed (pip install 'hanpaca[web]')")

from hanpaca.app.events import Events
from hanpaca.app.unwaiting import unwaiting
from hanpaca.steps.web import Loading, Models, Offer

DEFAULTS = ("", 30, 0.0, 40, 0.95, 0.05, 1.1, 0)
SOON = 10
"""Seconds: far less than the minute that Gradio tries to close a generator that is at work."""


def test_steps_come_in_order_and_what_is_raised_is_raised_here() -> None:
    def steps() -> Iterator[int]:
        yield 1
        yield 2
        raise ValueError("three")

    taken = unwaiting(steps())  # type: ignore[arg-type]
    assert [next(taken), next(taken)] == [1, 2]
    with pytest.raises(ValueError, match="three"):
        next(taken)


def test_no_step_is_made_before_it_is_asked_for() -> None:
    made = []

    def steps() -> Iterator[int]:
        for number in range(3):
            made.append(number)
            yield number

    taken = unwaiting(steps())  # type: ignore[arg-type]
    assert next(taken) == 0
    time.sleep(0.3)
    assert made == [0]
    assert list(taken) == [1, 2]


def test_what_waits_gives_none_and_is_closed_as_soon_as_it_waits_no_more() -> None:
    goes_on, was_closed = threading.Event(), threading.Event()

    def steps() -> Iterator[int]:
        try:
            goes_on.wait()
            yield 1
        finally:
            was_closed.set()

    taken = unwaiting(steps())  # type: ignore[arg-type]
    assert [next(taken), next(taken)] == [None, None]
    began = time.monotonic()
    taken.close()
    assert time.monotonic() - began < SOON
    assert not was_closed.is_set()
    goes_on.set()
    assert was_closed.wait(SOON)


def test_a_tab_that_waits_for_its_turn_can_be_closed_and_the_next_gets_it(
    scripted_folder: Path,
) -> None:
    offered = [Offer(name, scripted_folder / f"{name}.gguf") for name in ("short", "endless")]
    with Models(offered, loading=Loading(threads=1, context_tokens=512)) as models:
        events = Events(models, ["endless"])
        first = events.ask(None, "一", *DEFAULTS)
        while not next(first)[2][-1]["content"]:
            pass
        waiting = events.ask(None, "二", *DEFAULTS)
        assert next(waiting)[4] == "reading …"
        assert next(waiting)[4] == "reading …"  # the first has the models
        began = time.monotonic()
        waiting.close()  # type: ignore[attr-defined]
        first.close()  # type: ignore[attr-defined]
        last = list(Events(models, ["short"]).ask(None, "三", *DEFAULTS))[-1]
        assert time.monotonic() - began < SOON
        assert last[2][-1]["content"]
