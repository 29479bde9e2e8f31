"""Tables that are wider than the terminal can be read: nothing short is folded, nothing is lost."""

import re
import sys
from collections.abc import Sequence

import pytest
from rich.cells import cell_len
from rich.console import Console

from hanpaca.cli import display
from hanpaca.cli.display import print_table
from hanpaca.cli.words import speak, word
from hanpaca.evals.choice.tally import Picked, baselines, tally
from hanpaca.evals.results import (
    BITS,
    SPEED,
    TOKEN_SPEED,
    TOKENS,
    Measured,
    ModelResult,
    RunResult,
    TaskResult,
)
from hanpaca.report.table import result_rows, task_rows

Rows = tuple[Sequence[str], Sequence[Sequence[str]]]
NAMES = ("SmolLM2-135M-Instruct.q8_0", "chat", "我的 模型")


def measured_rows(*, one_size: bool = False) -> Rows:
    """All ten columns of texts in two languages."""
    models = [
        ModelResult(
            name=name,
            how="",
            file_bytes=145_000_000 if one_size else 145_000_000 * number,
            measured={
                tag: {
                    BITS.name: Measured(4.25 * number, 4.125 * number, 4.5 * number),
                    TOKENS.name: Measured(1.5 / number),
                    SPEED.name: Measured(20.5 * number),
                    TOKEN_SPEED.name: Measured(30.25),
                }
                for tag in ("zh", "en")
            },
            memory_bytes=300_000_000 if one_size else 300_000_000 * number,
        )
        for number, name in enumerate(NAMES, 1)
    ]
    return result_rows(RunResult("", ("zh", "en"), tuple(models)), intervals=True)


def asked_rows() -> Rows:
    """C-Eval's columns, and what knowing nothing would reach."""
    groups = {"a": "STEM", "b": "Social Science", "c": "Humanity", "d": "Other"}
    picked = [Picked("abcd"[n % 4], n % 3, 4, n * n % 4) for n in range(1346)]
    models = tuple(tally(name, picked, groups, how="", notes=()) for name in NAMES)
    return task_rows(TaskResult("", "", "", "% right", baselines(picked), models))


def shown(
    table: Rows, width: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> list[str]:
    """What a terminal of this width shows."""
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setattr(
        display, "results", Console(width=width, color_system=None, highlight=False)
    )
    print_table(*table)
    return capsys.readouterr().out.splitlines()


def cells_in(lines: Sequence[str]) -> list[str]:
    return [cell.strip() for line in lines for cell in re.split("[│┃]", line)[1:-1]]


@pytest.mark.parametrize("lang", ["en", "zh"])
@pytest.mark.parametrize("width", [80, 100, 120])
@pytest.mark.parametrize("table", [measured_rows(), measured_rows(one_size=True), asked_rows()])
def test_ten_columns_are_whole_at_every_width(
    table: Rows,
    width: int,
    lang: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    header, rows = table
    speak(lang)
    lines = shown(table, width, monkeypatch, capsys)
    assert (
        max(cell_len(line) for line in lines if "各行" not in line and "every row" not in line)
        <= width
    )
    found = [*cells_in(lines), *re.split(r"[,：:] | (?=[\d–])", lines[-1])]
    for title in map(word, header):
        assert title in found or any(line.endswith(title) for line in found), title
    for cell in (cell for row in rows for cell in row):
        assert cell in found or cell in lines[-1], cell
    num_tables = sum(line.startswith("┏") for line in lines)
    assert num_tables <= (3 if width == 80 else 2)


def test_what_is_the_same_in_every_row_is_told_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = shown(measured_rows(one_size=True), 120, monkeypatch, capsys)
    assert lines[-1] == "The same in every row: zh tokens/s 30.2, MB 145, memory MB 300"
    speak("zh")
    lines = shown(measured_rows(one_size=True), 120, monkeypatch, capsys)
    assert lines[-1] == "各行相同：中文 词元/秒 30.2, MB 145, 内存 MB 300"


def test_a_number_stands_beside_its_interval_and_an_empty_row_is_not_said_again(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = shown(measured_rows(), 80, monkeypatch, capsys)
    heads = [line for line in lines if "model" in line]
    assert len(heads) > 1
    assert all(line.count("95 %") == line.count("bits/char") for line in heads)
    lines = shown(asked_rows(), 80, monkeypatch, capsys)
    assert sum("chance" in line for line in lines) == 1
    assert sum(NAMES[0] in line for line in lines) > 1


def test_a_long_text_is_folded_and_a_table_that_fits_is_left_alone(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    told = "a sentence that goes on " * 8
    lines = shown(
        (("what", "found", "rows"), [("a", told, "12"), ("b", "no", "12")]), 80, monkeypatch, capsys
    )
    assert sum(line.startswith("┏") for line in lines) == 1
    assert cells_in(lines).count("12") == 2
    assert " ".join(" ".join(cells_in(lines)).split()).count("a sentence") >= 7
