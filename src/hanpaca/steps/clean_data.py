"""Write the rows of text or instruction files that are worth training on."""

import json
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Unpack

from hanpaca.data.cleaning.duplicates import NONE
from hanpaca.data.cleaning.judging import KEPT, VERDICTS
from hanpaca.data.cleaning.report import DataReport, report_of
from hanpaca.data.cleaning.rows import Row
from hanpaca.data.cleaning.settings import CleanSettings
from hanpaca.data.cleaning.survey import Survey, rows_again
from hanpaca.errors import DataError, RecipeError
from hanpaca.files import whole
from hanpaca.progress import Progress, Tell, silent
from hanpaca.steps.check_data import DataReading, judge

_TOLD_ROWS = 5_000


def clean_data(
    paths: Sequence[Path | str],
    output: Path | str,
    *,
    settings: CleanSettings | None = None,
    dropped: Path | str | None = None,
    tell: Tell = silent,
    **reading: Unpack[DataReading],
) -> DataReport:
    """Write one `.jsonl` file of the rows that no rule lets go, in their order, as they are.

    The files are read twice: once to judge all rows, once to write. Cleaning what was cleaned
    changes nothing.

    >>> clean_data([TEXT], OUTPUT).dropped
    {'exact duplicate': 1}

    Args:
        paths: As in `check_data`.
        output: File to write, ending in .jsonl, which must not exist.
        settings: The rules; the usual ones where none are given.
        dropped: File to write with one line for each row that goes: its place, the reason, what was
            found, and the row; must not exist.
        tell: Called with signs of life.
        reading: See `DataReading`.

    Raises:
        DataError: A path is missing, a file cannot be read to its end, or no row is left.
        RecipeError: The output has another suffix, or as `check_data`.
        ArtifactError: An output exists.
        ResourceError: It cannot be written there, or a file needs a package.
    """
    output = Path(output)
    if output.suffix != ".jsonl":
        raise RecipeError(
            f"{output}: what is kept is written one row a line", "end {output} in .jsonl"
        )
    found, evaluation = judge(paths, settings, tell=tell, **reading)
    _check_writable(found)
    with ExitStack() as files:
        kept, gone = _opened(files, output), _opened(files, dropped)
        for number, row in _told(found, reading.get("text_field", "text"), tell):
            if found.verdicts[number] == KEPT:
                _write(kept, row.written)
            else:
                _write(gone, _account(found, number, row))
    return report_of(found, evaluation=evaluation, output=output)


def _check_writable(found: Survey) -> None:
    if found.broken:
        raise DataError(f"{found.broken[0]}; cleaning would lose what follows", "mend the file")
    if not (found.verdicts == KEPT).any():
        paths = ", ".join(str(source.path) for source in found.sources)
        raise DataError(
            f"{paths}: no row is left of {len(found.verdicts):,}", "see why with {check_data()}"
        )


def _told(found: Survey, text_field: str, tell: Tell) -> Iterator[tuple[int, Row]]:
    total = len(found.verdicts)
    for number, row in rows_again(found, text_field=text_field):
        if number % _TOLD_ROWS == 0:
            tell(Progress(number, total, "rows", "writing rows"))
        yield number, row


def _opened(files: ExitStack, path: Path | str | None) -> IO[str] | None:
    """A file that is there when `files` is left without an error, and not before."""
    if path is None:
        return None
    partial = files.enter_context(whole(Path(path)))
    return files.enter_context(partial.open("w", encoding="utf-8", newline="\n"))


def _write(stream: IO[str] | None, line: str) -> None:
    if stream:
        stream.write(line + "\n")


def _account(found: Survey, number: int, row: Row) -> str:
    original = int(found.originals[number])
    detail = row.detail if original == NONE else f"repeats {found.place(original)}"
    account = {
        "place": found.place(number),
        "reason": VERDICTS[found.verdicts[number]],
        "detail": detail,
        "row": row.written,
    }
    return json.dumps(account, ensure_ascii=False)
