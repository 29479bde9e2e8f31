"""Ctrl-C while many questions are answered, as in an evaluation: it ends at once."""

import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from hanpaca.errors import DataError
from hanpaca.inference.engine import ChatModel
from hanpaca.inference.sampling import Sampling
from hanpaca.steps.answer_suite import SuiteAsking, answer_suite
from tests.support.scripted import ANSWER, scripted_model


@pytest.fixture(scope="module")
def endless(pico_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("endless") / "endless"
    return scripted_model(pico_base, folder, last="\n")


@pytest.fixture
def ctrl_c() -> Iterator[None]:
    """As in a terminal: what a shell starts in the background ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("ctrl_c")
def test_answers_without_end_are_not_waited_for(endless: Path) -> None:
    main = threading.main_thread().ident
    assert main is not None
    question = [{"role": "user", "content": "问"}]
    with ChatModel(endless, context_tokens=4096, num_parallel=4, num_threads=1) as model:
        timer = threading.Timer(1, signal.pthread_kill, (main, signal.SIGINT))
        timer.start()
        with pytest.raises(KeyboardInterrupt):
            model.answer_many([question] * 400, max_tokens=4000)
        interrupted = time.monotonic()
        after = model.answer_many([question], max_tokens=9)
    assert time.monotonic() - interrupted < 30
    assert after[0].text.startswith(ANSWER)


def test_ctrl_c_while_questions_are_still_handed_out_ends_at_once(endless: Path) -> None:
    question = [{"role": "user", "content": "问"}]

    class Interrupting(list[list[dict[str, str]]]):
        def __iter__(self) -> Iterator[list[dict[str, str]]]:
            yield from [question] * 100
            raise KeyboardInterrupt

    with ChatModel(endless, context_tokens=4096, num_parallel=4, num_threads=1) as model:
        begun = time.monotonic()
        with pytest.raises(KeyboardInterrupt):
            model.answer_many(Interrupting(), max_tokens=4000)
        assert time.monotonic() - begun < 30


@pytest.mark.slow
@pytest.mark.usefixtures("ctrl_c")
def test_a_suite_of_answers_without_end_is_not_waited_for(endless: Path) -> None:
    main = threading.main_thread().ident
    assert main is not None
    asking = SuiteAsking(Sampling(max_tokens=100_000), context_tokens=100_000, threads=1)
    threading.Timer(3, signal.pthread_kill, (main, signal.SIGINT)).start()
    begun = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        answer_suite([endless], asking=asking)
    assert time.monotonic() - begun < 60


def test_a_question_that_is_refused_ends_the_others_too(endless: Path) -> None:
    question, broken = ([{"role": "user", "content": text}] for text in ("问", "\ud800"))
    with (
        ChatModel(endless, context_tokens=2048, num_parallel=2, num_threads=1) as model,
        pytest.raises(DataError, match="surrogate"),
    ):
        model.answer_many([broken, *[question] * 4000], max_tokens=2000)
