"""What a person sees while something runs: one live line, or plain lines when not at a terminal."""

import sys
import time
from collections.abc import Callable, Iterable, Sequence
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, TaskID, TextColumn
from rich.progress import Progress as Bars
from rich.table import Table
from rich.text import Text

from hanpaca.cli.columns import ShownColumn, fits, fitted
from hanpaca.cli.words import word
from hanpaca.progress import Progress, Tell

errors = Console(stderr=True, highlight=False)
results = Console(highlight=False)
_PLAIN_SECONDS = 10.0
_DAY = 86_400.0
_DAYS_FROM = 2 * _DAY


class StageDisplay:
    """Shows stages, their rates, the time left of the stage and of the whole, and samples."""

    def __init__(self, estimates: dict[str, float]) -> None:
        self.estimates = estimates
        self.live = errors.is_terminal
        self.last_plain = 0.0
        self.last_stage = ""
        self.bars = Bars(
            TextColumn("{task.description:14}", markup=False),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[message]}", markup=False),
            console=errors,
            transient=True,
        )
        self.task: TaskID | None = None

    def __enter__(self) -> Self:
        if self.live:
            self.bars.start()
            self.task = self.bars.add_task("", total=1.0, message="")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.live:
            self.bars.stop()

    def tell(self, update: Progress) -> None:
        """Show a sign of life."""
        line = worded(update) + self._time_left(update)
        if update.sample:
            errors.print(
                f"  {update.stage} writes: {update.sample!r}", markup=False, soft_wrap=True
            )
        whole = update.fraction == 1.0 or update.stage != self.last_stage
        due = time.monotonic() - self.last_plain > _PLAIN_SECONDS
        if self.live and self.task is not None:
            self.bars.update(
                self.task,
                description=update.stage,
                completed=update.fraction or 0.0,
                message=line,
            )
            if update.note in ("done", "already done"):
                errors.print(f"{update.stage:14} {word(update.note)}", markup=False, soft_wrap=True)
        elif whole or due:
            errors.print(f"{update.stage:14} {line}", markup=False, soft_wrap=True)
            self.last_plain = time.monotonic()
        self.last_stage = update.stage

    def _time_left(self, update: Progress) -> str:
        later = [seconds for stage, seconds in self.estimates.items() if stage > update.stage]
        stage_left = update.seconds_left
        if stage_left is None:
            share = 1.0 - (update.fraction or 0.0)
            stage_left = share * self.estimates.get(update.stage, 0.0)
        if not stage_left and not later:
            return ""
        in_all = minutes(stage_left + sum(later))
        return " · " + word(f"{minutes(stage_left)} left here, {in_all} in all")


def worded(progress: Progress) -> str:
    """What is being done, and how much of it is.

    >>> worded(Progress(3, 9, "steps", "loss 2.13"))
    'step 3/9, loss 2.13'
    >>> worded(Progress(2e6, 9e6, "bytes", "merging"))
    'merging: 2.0 of 9.0 MB'
    >>> worded(Progress(0, note="reading"))
    'reading'
    """
    done, total, note = progress.done, progress.total, progress.note
    if total is None or not progress.unit:
        return word(note)
    if progress.unit == "steps":
        return word(f"step {done:.0f}/{total:.0f}, {note}")
    if progress.unit == "bytes":
        return word(f"{note}: {megabytes(done)} of {megabytes(total)} MB")
    return word(f"{note} ({done:.0f} of {total:.0f} {progress.unit})")


def steps_shown() -> Tell:
    """A line for every step of a training, and what the model writes, on stderr."""

    def tell(progress: Progress) -> None:
        if progress.sample:
            errors.print(f"  the model writes: {progress.sample!r}", markup=False, soft_wrap=True)
        left = progress.seconds_left
        ending = f", {minutes(left)} left" if left is not None else ""
        errors.print(worded(progress) + ending, markup=False, soft_wrap=True)

    return tell


def minutes(seconds: float) -> str:
    """Write a duration as m:ss, with hours as h:mm:ss, and from two days on in days.

    >>> minutes(95), minutes(18_598), minutes(2_000_000)
    ('1:35', '5:09:58', '23 d')
    """
    if seconds >= _DAYS_FROM:
        return f"{seconds / _DAY:,.0f} d"
    whole, rest = divmod(int(seconds), 60)
    hours, left = divmod(whole, 60)
    return f"{hours}:{left:02d}:{rest:02d}" if hours else f"{left}:{rest:02d}"


def megabytes(num_bytes: float) -> str:
    """Write a size in MB, with as many decimals as small ones need.

    >>> megabytes(269_060_552), megabytes(5_200_000), megabytes(31_000)
    ('269', '5.2', '0.03')
    """
    size = num_bytes / 1e6
    return f"{size:,.0f}" if size >= 9.95 else f"{size:.1f}" if size >= 0.095 else f"{size:.2f}"


def print_table(header: Sequence[str], rows: Sequence[Sequence[str | Text]]) -> None:
    """Print a table on stdout; numbers to the right, coloured text to the left.

    Its header is said in the language that the user reads. One that is wider than the terminal
    becomes several; see `hanpaca.cli.columns`.
    """
    console = results if sys.stdout.isatty() else Console(width=120, highlight=False)
    cells = list(zip(*rows, strict=True)) or [()] * len(header)
    columns = [ShownColumn(word(title), each) for title, each in zip(header, cells, strict=True)]
    found = fitted(columns, console.width)
    for part in found.parts:
        console.print(_drawn(part, console.width))
    if found.same:
        told = ", ".join(f"{one.title} {one.same}" for one in found.same)
        console.print(word(f"The same in every row: {told}"), markup=False, soft_wrap=True)


def _drawn(columns: Sequence[ShownColumn], width: int) -> Table:
    table = Table()
    whole = fits(columns, width)
    for number, column in enumerate(columns):
        coloured = any(isinstance(cell, Text) for cell in column.cells)
        table.add_column(
            column.title,
            justify="left" if coloured or not number else "right",
            overflow="fold",
            no_wrap=whole and number > 0 and column.natural == column.least,
        )
    for row in zip(*(column.cells for column in columns), strict=True):
        table.add_row(*(escape(cell) if isinstance(cell, str) else cell for cell in row))
    return table


def print_notes(notes: Iterable[str]) -> None:
    """Print on stderr what there is to be told about a result, each once."""
    for note in dict.fromkeys(notes):
        errors.print(f"Note: {note}", markup=False, soft_wrap=True)


def byte_counter(doing: str, *, every_seconds: float = 2.0) -> Callable[[int, int], None]:
    """A progress line for reading or writing files, on stderr; nothing where it is soon done."""

    def line(done: int, total: int, rate: float) -> str:
        return f"{megabytes(done)} of {megabytes(total)} MB, {megabytes(rate)} MB/s"

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
