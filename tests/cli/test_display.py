"""What is shown at a terminal and what is written to a log."""

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from rich.console import Console

from hanpaca.cli import display
from hanpaca.cli.display import StageDisplay, byte_counter, minutes, print_table
from hanpaca.progress import Progress

ESTIMATES = {"05-data": 10.0, "30-pretrain": 100.0, "80-eval": 20.0}


@contextmanager
def console(monkeypatch: pytest.MonkeyPatch, *, terminal: bool) -> Iterator[io.StringIO]:
    screen = io.StringIO()
    made = Console(file=screen, force_terminal=terminal, width=100, highlight=False)
    monkeypatch.setattr(display, "errors", made)
    yield screen


def test_a_log_gets_a_line_when_something_begins_ends_or_is_due(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = [1_000.0]
    monkeypatch.setattr("hanpaca.cli.display.time.monotonic", lambda: now[0])
    with console(monkeypatch, terminal=False) as screen, StageDisplay(ESTIMATES) as shown:
        for seconds, update in (
            (0, Progress(0, 1, note="starting", stage="05-data")),
            (1, Progress(1, 2, note="reading", stage="05-data")),
            (1, Progress(1, 1, note="done", stage="05-data")),
            (0, Progress(1, 9, "steps", "fast", 80, stage="30-pretrain")),
            (5, Progress(2, 9, "steps", "fast", 70, stage="30-pretrain")),
            (6, Progress(3, 9, "steps", "fast", 60, stage="30-pretrain")),
        ):
            now[0] += seconds
            shown.tell(update)
    assert screen.getvalue().splitlines() == [
        "05-data        starting · 0:10 left here, 2:10 in all",
        "05-data        done · 0:00 left here, 2:00 in all",
        "30-pretrain    step 1/9, fast · 1:20 left here, 1:40 in all",
        "30-pretrain    step 3/9, fast · 1:00 left here, 1:20 in all",
    ]


def test_a_terminal_gets_one_line_that_is_drawn_over(monkeypatch: pytest.MonkeyPatch) -> None:
    with console(monkeypatch, terminal=True) as screen:
        with StageDisplay(ESTIMATES) as shown:
            for step in range(50):
                shown.tell(Progress(step, 50, "steps", "fast", stage="30-pretrain"))
            shown.tell(Progress(1, 1, note="done", stage="30-pretrain"))
            shown.tell(Progress(1, 1, note="already done", stage="80-eval"))
        text = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", screen.getvalue())
    kept = [line.strip() for line in text.replace("\r", "\n").splitlines()]
    assert [line for line in kept if re.fullmatch(r"\d\d-\w+ +(already )?done", line)] == [
        "30-pretrain    done",
        "80-eval        already done",
    ]
    assert "\x1b[?25h" in screen.getvalue(), "the cursor is shown again"


@pytest.mark.parametrize("terminal", [True, False])
def test_a_sample_is_shown_as_it_is(terminal: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Square brackets are no markup, and control characters do not reach the terminal."""
    sample = "[bold]山[/nope] \x1b[2J"
    with console(monkeypatch, terminal=terminal) as screen:
        with StageDisplay({}) as shown:
            shown.tell(Progress(1, 2, note="step [1]", sample=sample, stage="30-pretrain"))
        assert f"30-pretrain writes: {sample!r}" in screen.getvalue()
        assert "\x1b[2J" not in screen.getvalue()


@pytest.mark.parametrize("terminal", [True, False])
def test_a_file_name_is_no_markup(terminal: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    with console(monkeypatch, terminal=terminal) as screen:
        with StageDisplay({}) as shown:
            shown.tell(Progress(0, note="Dequantizing [red]a[/b].gguf", stage="base"))
        assert "Dequantizing [red]a[/b].gguf" in screen.getvalue()


def test_the_last_stage_tells_its_own_time_only(monkeypatch: pytest.MonkeyPatch) -> None:
    with console(monkeypatch, terminal=False) as screen, StageDisplay(ESTIMATES) as shown:
        shown.tell(Progress(1, 4, note="measuring", stage="80-eval"))
        shown.tell(Progress(1, 1, note="done", stage="80-eval"))
    assert screen.getvalue().splitlines() == [
        "80-eval        measuring · 0:15 left here, 0:15 in all",
        "80-eval        done",
    ]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0:00"),
        (59.9, "0:59"),
        (60, "1:00"),
        (3_725, "1:02:05"),
        (172_799, "47:59:59"),
        (172_800, "2 d"),
        (1e8, "1,157 d"),
    ],
)
def test_minutes(seconds: float, text: str) -> None:
    assert minutes(seconds) == text


def test_a_table_is_whole_in_a_pipe(capsys: pytest.CaptureFixture[str]) -> None:
    """Without a terminal rich takes 80 columns for granted and cuts the rest."""
    name = "a-very-long-name-" * 5
    print_table(("model", "bits"), [(name, "1.25"), ("[red]a[/b]", "10.5")])
    out = capsys.readouterr().out
    assert name in out
    assert "[red]a[/b]" in out, "a folder's name is no markup"
    assert re.search(r"│ +1\.25 │", out)
    assert re.search(r"│ +10\.5 │", out)


def test_bytes_are_told_every_two_seconds_with_rate_and_time_left(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = [0.0]
    monkeypatch.setattr("hanpaca.cli.display.time.monotonic", lambda: now[0])
    with console(monkeypatch, terminal=False) as screen:
        tell = byte_counter("merging [x]")
        for done in range(1, 11):
            now[0] += 0.5
            tell(done * 1_000_000, 10_000_000)
    assert screen.getvalue().splitlines() == [
        "merging [x]: 4.0 of 10 MB, 2.0 MB/s, 0:03 left",
        "merging [x]: 8.0 of 10 MB, 2.0 MB/s, 0:01 left",
    ]
