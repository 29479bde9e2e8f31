"""Several processes as one: the first does the work, and the others help where it asks them to.

`torchrun` and `accelerate launch` start a command in many processes. Here only the first (rank 0)
carries it out, and so it alone reads texts, writes files and says anything; the others wait for the
work that it shares (`everyone`) and end when it ends.
"""

import atexit
import functools
import os
import pickle
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, ParamSpec, TypeVar, cast

from hanpaca.errors import HanpacaError

Given = ParamSpec("Given")
Result = TypeVar("Result")
_FOR_EVER = timedelta(days=3650)
_LAST_WORD = timedelta(seconds=60)
"""How long a helper whose work failed waits for the first process to say that so did its own."""
_A_WAIT, _MOST_WAITS = timedelta(seconds=1), 600
"""For helpers, after the first process is through with a work."""


def num_processes() -> int:
    """How many processes share the work; 1 where nothing started more."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def leads() -> bool:
    """Whether this is the process that carries the command out."""
    return num_processes() == 1 or os.environ.get("RANK", "0") == "0"


_FAREWELL = timedelta(seconds=5)


@dataclass(frozen=True)
class Ending:
    """What came of the first process' work, as its helpers learn it."""

    result: Any = None
    error: BaseException | None = None

    @property
    def status(self) -> int:
        """To leave a helping process with."""
        if isinstance(self.error, SystemExit):
            return self.error.code if isinstance(self.error.code, int) else 0
        return getattr(self.error, "exit_code", 1) if self.error else 0


@dataclass
class _Wire:
    """What the first process says to all others, in order."""

    store: Any
    """A torch.distributed.Store."""
    number: int = 0
    busy: bool = False
    """Whether the first process carries something out already."""

    def say(self, message: object) -> None:
        self.store.set(f"{self.number}", pickle.dumps(message))
        self.number += 1

    def end_together(self) -> None:
        """Stay until the helpers are through with a work, too: they may still be reading.

        One that was killed takes nothing with it that this process has not.
        """
        from torch.distributed import DistError

        through = [_through(rank, self.number) for rank in range(1, num_processes())]
        for _ in range(_MOST_WAITS):  # so that Ctrl-C is heard
            with suppress(DistError):
                self.store.wait(through, _A_WAIT)
                return

    def part(self) -> None:
        """Stay until the helpers have heard the last word: the store may end with this process."""
        from torch.distributed import DistError

        left = [_left(rank, self.number) for rank in range(1, num_processes())]
        with suppress(DistError):  # one that died, or waits for a share of this process
            self.store.wait(left, _FAREWELL)

    def hear(self, within: timedelta = _FOR_EVER) -> object:
        self.store.wait([f"{self.number}"], within)
        message = pickle.loads(self.store.get(f"{self.number}"))
        self.number += 1
        if isinstance(message, Ending):
            self.store.set(_left(int(os.environ["RANK"]), self.number), b"")
        return message


@dataclass(frozen=True)
class _Work:
    """Something all processes do at the same time."""

    file: Path
    """Holds it pickled: it may be larger than a store takes."""


def together(verb: Callable[Given, Result]) -> Callable[Given, Result]:
    """Let a verb, called in every process, be carried out by the first; all get its result.

    Args:
        verb: May share work by `everyone`.

    Returns:
        The verb; alone in its process, or within another, it is as it was.
    """

    @functools.wraps(verb)
    def shared(*args: Given.args, **kwargs: Given.kwargs) -> Result:
        if num_processes() == 1:
            return verb(*args, **kwargs)
        if leads():
            return _lead(functools.partial(verb, *args, **kwargs))
        ending = follow()
        if ending.error:
            raise ending.error
        return cast(Result, ending.result)

    return shared


def follow() -> Ending:
    """Do every work that the first process shares, until it is done with what it carries out."""
    wire = _wire()
    message = wire.hear()
    while isinstance(message, _Work):
        message = _helped(message, wire)
    return cast(Ending, message)


def everyone(work: Callable[..., Result], file: Path, **own: Any) -> Result:
    """Let all processes do something at the same time; the first goes on when all are through.

    Args:
        work: What each does; may hold whatever can be pickled.
        file: Where it can be left for the others to read; they must see the same file.
        own: Keywords for this process alone.

    Returns:
        What this process gets.
    """
    if num_processes() == 1:
        return work(**own)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(pickle.dumps(work))
    _wire().say(_Work(file.absolute()))
    result = work(**own)
    _wire().end_together()
    return result


def _lead(verb: Callable[[], Result]) -> Result:
    wire = _wire()
    if wire.busy:
        return verb()
    wire.busy = True
    ending = Ending(error=HanpacaError("the first process ended"))
    try:
        result = verb()
        ending = Ending(result)
    except (HanpacaError, SystemExit) as error:
        ending = Ending(error=error)
        raise
    finally:
        wire.busy = False
        wire.say(ending)
        wire.part()
    return result


def _helped(work: _Work, wire: _Wire) -> object:
    """Do a work that was shared; what the first process says next."""
    from torch.distributed import DistError

    failed: Exception | None = None
    try:
        pickle.loads(work.file.read_bytes())()
    except (HanpacaError, RuntimeError) as error:
        # A loss that is no number fails everywhere, and a death elsewhere breaks the connection.
        failed = error
    finally:
        with suppress(DistError):
            wire.store.set(_through(int(os.environ["RANK"]), wire.number), b"")
    try:
        return wire.hear(_LAST_WORD if failed else _FOR_EVER)
    except DistError:
        if failed:
            raise failed from None
        raise


def _left(rank: int, number: int) -> str:
    return f"{rank} heard {number}"


def _through(rank: int, number: int) -> str:
    return f"{rank} is through with {number}"


def _end_group() -> None:
    """At the end of the program: threads of a group that stays behind can abort the process."""
    from torch import distributed

    if distributed.is_initialized():
        distributed.destroy_process_group()


@functools.cache
def _wire() -> _Wire:
    from torch.distributed.distributed_c10d import PrefixStore
    from torch.distributed.rendezvous import rendezvous

    store, _, _ = next(rendezvous("env://"))
    atexit.register(_end_group)
    return _Wire(PrefixStore("hanpaca", store))
