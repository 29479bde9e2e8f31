"""One reading of all rows: what each is like, and why it would go.

Of each row some 150 bytes stay in memory, whatever its length: signature, digest, line, lengths and
verdict.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
import numpy.typing as npt

from hanpaca.data.cleaning.duplicates import NONE, exact_duplicates, near_duplicates
from hanpaca.data.cleaning.judging import KEPT, VERDICTS, CountTokens, JudgedRows
from hanpaca.data.cleaning.leaks import Grams
from hanpaca.data.cleaning.minhash import Banding, Signatures
from hanpaca.data.cleaning.rows import Row, Source, read_source
from hanpaca.data.cleaning.settings import CleanSettings
from hanpaca.errors import DataError
from hanpaca.progress import Progress, Tell, silent

_BATCH_ROWS = 512
_BATCH_CHARACTERS = 1 << 17
_EXACT, _NEAR = VERDICTS.index("exact duplicate"), VERDICTS.index("near duplicate")


@dataclass(frozen=True)
class Survey:
    """What is known of all rows after one reading; arrays have one entry a row."""

    sources: tuple[Source, ...]
    num_rows: tuple[int, ...]
    """Rows of each source."""
    numbers: npt.NDArray[np.uint32]
    """Line or row in its file."""
    verdicts: npt.NDArray[np.uint8]
    """Places in `VERDICTS`."""
    originals: npt.NDArray[np.int32]
    """Of a duplicate the row that it repeats; else `NONE`."""
    characters: npt.NDArray[np.uint32]
    """Lengths; 0 of a row that cannot be read."""
    tokens: npt.NDArray[np.uint32]
    """Lengths in tokens; empty where they are not counted."""
    script_letters: npt.NDArray[np.int64]
    """See `JudgedRows`."""
    main_scripts: npt.NDArray[np.int64]
    """See `JudgedRows`."""
    faults: tuple[tuple[int, str], ...]
    """The first rows that cannot be read, and why."""
    broken: tuple[str, ...]
    """Files that cannot be read to their end: the place and what was found there."""

    def place(self, row: int) -> str:
        """`file:line` of a row."""
        ends = np.cumsum(self.num_rows)
        source = self.sources[int(np.searchsorted(ends, row, side="right"))]
        return f"{source.path}:{self.numbers[row]}"


def survey(
    sources: Sequence[Source],
    settings: CleanSettings,
    *,
    text_field: str = "text",
    grams: Grams | None = None,
    count_tokens: CountTokens | None = None,
    tell: Tell = silent,
) -> Survey:
    """Read all rows once and judge them.

    Args:
        sources: The files; their order decides which of two duplicates stays.
        settings: The rules.
        text_field: Where a line or row keeps its text.
        grams: Evaluation texts to look for.
        count_tokens: Gives lengths in tokens, of some hundred texts at a time.
        tell: Called with signs of life.

    Raises:
        RecipeError: A script is unknown.
        ResourceError: A file needs a package that is not installed.
    """
    found = JudgedRows(settings, grams, count_tokens)
    total = sum(source.file.num_bytes for source in sources)
    num_rows, broken, done = [], [], 0
    for source in sources:
        before = found.num_rows

        def count(position: int, done: int = done) -> None:
            tell(Progress(done + position, total, "bytes", "reading rows"))

        try:
            for batch in _batches(read_source(source, text_field=text_field, tell=count)):
                found.add(batch)
        except DataError as error:
            broken.append(error.message)
        count(source.file.num_bytes)
        done += source.file.num_bytes
        num_rows.append(found.num_rows - before)
    return _judged(found, sources, num_rows, broken=broken, tell=tell)


def rows_again(found: Survey, *, text_field: str = "text") -> Iterator[tuple[int, Row]]:
    """Read all rows a second time, with their numbers in the survey.

    Raises:
        DataError: A file has changed since, or cannot be read to its end.
    """
    first = 0
    for source, num_rows in zip(found.sources, found.num_rows, strict=True):
        row = first
        for one in read_source(source, text_field=text_field):
            if row - first >= num_rows or (one.number, len(one.text)) != (
                found.numbers[row],
                found.characters[row],
            ):
                raise _changed(source)
            yield row, one
            row += 1
        first += num_rows
        if row < first:
            raise _changed(source)


def _changed(source: Source) -> DataError:
    return DataError(f"{source.path}: was changed while it was read; start again")


def _batches(rows: Iterable[Row]) -> Iterator[list[Row]]:
    """Some rows at a time; where a file breaks off, those before the fault come first."""
    batch: list[Row] = []
    size = 0
    try:
        for row in rows:
            batch.append(row)
            size += len(row.text)
            if len(batch) == _BATCH_ROWS or size > _BATCH_CHARACTERS:
                yield batch
                batch, size = [], 0
    except DataError:
        yield batch
        raise
    if batch:
        yield batch


def _judged(
    found: JudgedRows,
    sources: Sequence[Source],
    num_rows: Sequence[int],
    *,
    broken: Sequence[str],
    tell: Tell,
) -> Survey:
    verdicts = found.verdicts.array().astype(np.uint8)
    originals = np.full(len(verdicts), NONE, np.int32)
    compared = np.flatnonzero(verdicts == KEPT)
    exact, near = _duplicates(found, len(compared), tell)
    for firsts, verdict in ((near, _NEAR), (exact, _EXACT)):
        repeated = firsts != NONE
        verdicts[compared[repeated]] = verdict
        originals[compared[repeated]] = compared[firsts[repeated]]
    return Survey(
        tuple(sources),
        tuple(num_rows),
        cast("npt.NDArray[np.uint32]", found.numbers.array()),
        verdicts,
        originals,
        cast("npt.NDArray[np.uint32]", found.characters.array()),
        cast("npt.NDArray[np.uint32]", found.tokens.array()),
        found.script_letters,
        found.main_scripts,
        tuple(found.faults),
        tuple(broken),
    )


def _duplicates(
    found: JudgedRows, num_compared: int, tell: Tell
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]]:
    """Exact and near ones among the rows that no other rule lets go."""
    exact = near = np.full(num_compared, NONE, np.int32)
    if found.settings.exact_duplicates:
        exact = exact_duplicates(cast("npt.NDArray[np.uint64]", found.digests.array()))
    if found.settings.near_duplicates:
        signatures = cast("Signatures", found.signature_table)
        banding = Banding.of(found.settings.near_duplicates)
        near = near_duplicates(signatures, banding, passed=exact != NONE, tell=tell)
    return exact, near
