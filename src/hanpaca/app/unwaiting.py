"""Steps that may be long in coming, for a server that must be able to end them at any moment.

Gradio closes the generator of a tab that was left, of a person who pressed Stop, of one who changed
the model. While the generator waits for something (its turn at a model, the first token after a
long prompt) it cannot be closed: Gradio tries again for a minute, and holds a lock meanwhile that
every other tab needs.
"""

from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import suppress
from typing import Any, TypeVar, cast

StepT = TypeVar("StepT")
_SECONDS = 0.25
"""The longest that one waits here."""


def unwaiting(steps: Generator[StepT, Any, Any]) -> Generator[StepT | None, None, None]:
    """Give the steps, and None again and again while none comes.

    Each step is made when it is asked for, in a thread. Closing this generator returns at once, and
    the other is closed there as soon as it waits no more. What it raises is raised here.

    Args:
        steps: A generator that nobody else uses.
    """
    pool, end = ThreadPoolExecutor(1), object()
    try:
        while True:
            coming = pool.submit(next, steps, end)
            while not wait([coming], _SECONDS).done:
                yield None
            if (step := coming.result()) is end:
                return
            yield cast("StepT", step)
    finally:
        with suppress(RuntimeError):  # the interpreter ends, and everything with it
            pool.submit(steps.close)
        pool.shutdown(wait=False)
