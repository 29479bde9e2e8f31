"""What a person sees while something runs: one live line, or plain lines when not at a terminal."""

import sys
import time
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Protocol, Self

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskID, TextColumn
from rich.table import Table
from rich.text import Text

errors = Console(stderr=True, highlight=False)
results = Console(highlight=False)
_PLAIN_SECONDS = 10.0


class Sign(Protocol):
    """What a stage tells; see `hanpaca.pipeline.Update`."""

    @property
    def stage(self) -> str:
        """Which stage."""

    @property
    def message(self) -> str:
        """What it does."""

    @property
    def fraction(self) -> float | None:
        """How much of it is done."""

    @property
    def seconds_left(self) -> float | None:
        """Of the stage."""

    @property
    def sample(self) -> str | None:
        """What the model wrote."""


class StageDisplay:
    """Shows stages, their rates, the time left of the stage and of the whole, and samples."""

    def __init__(self, estimates: dict[str, float]) -> None:
        self.estimates = estimates
        self.live = errors.is_terminal
        self.last_plain = 0.0
        self.last_stage = ""
        self.progress = Progress(
            TextColumn("{task.description:14}", markup=False),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[message]}", markup=False),
            console=errors,
            transient=True,
        )
        self.task: TaskID | None = None

    def __enter__(self) -> Self:
        if self.live:
            self.progress.start()
            self.task = self.progress.add_task("", total=1.0, message="")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.live:
            self.progress.stop()

    def tell(self, update: Sign) -> None:
        """Show a sign of life."""
        line = update.message + self._time_left(update)
        if update.sample:
            errors.print(f"  {update.stage} writes: {update.sample!r}", markup=False)
        whole = update.fraction == 1.0 or update.stage != self.last_stage
        due = time.monotonic() - self.last_plain > _PLAIN_SECONDS
        if self.live and self.task is not None:
            self.progress.update(
                self.task,
                description=update.stage,
                completed=update.fraction or 0.0,
                message=line,
            )
            if update.message in ("done", "already done"):
                errors.print(f"{update.stage:14} {update.message}", markup=False)
        elif whole or due:
            errors.print(f"{update.stage:14} {line}", markup=False)
            self.last_plain = time.monotonic()
        self.last_stage = update.stage

    def _time_left(self, update: Sign) -> str:
        later = [seconds for stage, seconds in self.estimates.items() if stage > update.stage]
        stage_left = update.seconds_left
        if stage_left is None:
            share = 1.0 - (update.fraction or 0.0)
            stage_left = share * self.estimates.get(update.stage, 0.0)
        if not stage_left and not later:
            return ""
        return f" · {minutes(stage_left)} left here, {minutes(stage_left + sum(later))} in all"


def minutes(seconds: float) -> str:
    """Write a duration as m:ss.

    >>> minutes(95)
    '1:35'
    """
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"


def print_table(header: Sequence[str], rows: Sequence[Sequence[str | Text]]) -> None:
    """Print a table on stdout; numbers to the right, coloured text to the left."""
    table = Table(*header)
    for number in range(1, len(header)):
        coloured = any(isinstance(row[number], Text) for row in rows)
        table.columns[number].justify = "left" if coloured else "right"
    for row in rows:
        table.add_row(*(escape(cell) if isinstance(cell, str) else cell for cell in row))
    console = results if sys.stdout.isatty() else Console(width=120, highlight=False)
    console.print(table)


def byte_counter(doing: str, *, every_seconds: float = 2.0) -> Callable[[int, int], None]:
    """A progress line for reading or writing files, on stderr; nothing where it is soon done."""

    def line(done: int, total: int, rate: float) -> str:
        return f"{done / 1e6:.0f} of {total / 1e6:.0f} MB, {rate / 1e6:.1f} MB/s"

    return _counter(doing, line, every_seconds)


def counter(what: str, *, every_seconds: float = 2.0) -> Callable[[int, int], None]:
    """A progress line for things done one after the other; nothing where it is soon done."""
    return _counter(what, lambda done, total, rate: f"{done} of {total}", every_seconds)


def _counter(
    what: str, line: Callable[[int, int, float], str], every_seconds: float
) -> Callable[[int, int], None]:
    """Print a line, made of what is done, what is to do and the rate, with the time left."""
    begun = last = time.monotonic()

    def tell(done: int, total: int) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last < every_seconds or not done:
            return
        last, rate = now, done / (now - begun)
        errors.print(
            f"{what}: {line(done, total, rate)}, {minutes((total - done) / rate)} left",
            markup=False,
            end="\r" if errors.is_terminal and done < total else "\n",
        )

    return tell
