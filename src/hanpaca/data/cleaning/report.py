"""What a survey found, as numbers for people and scripts."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from hanpaca.data.cleaning.characters import OTHER, SCRIPTS
from hanpaca.data.cleaning.duplicates import NONE
from hanpaca.data.cleaning.judging import KEPT, VERDICTS
from hanpaca.data.cleaning.survey import Survey

_PERCENTILES = (0, 5, 25, 50, 75, 95, 99, 100)
_NAMED = 20
_SHOWN_SHARE = 0.0005


@dataclass(frozen=True)
class CheckedFile:
    """A file that was read."""

    path: str
    kind: str
    """`text` or `instructions`."""
    encoding: str
    """Of its text, as found or given; with what else its bytes show: a mark, `\\r\\n`."""
    num_bytes: int
    num_rows: int
    """Documents or conversations, those that cannot be read too."""


@dataclass(frozen=True)
class Lengths:
    """How long rows are; those that cannot be read do not count."""

    num_rows: int
    total: int
    percentiles: Mapping[str, int]
    """By `p0` (shortest), `p5`, `p25`, `p50`, `p75`, `p95`, `p99`, `p100` (longest)."""


@dataclass(frozen=True)
class ScriptShare:
    """How much is written in one script."""

    name: str
    letters: float
    """Share of all letters."""
    num_rows: int
    """Rows that have more letters of it than of any other."""


@dataclass(frozen=True)
class Evaluation:
    """What was looked for in the rows."""

    num_texts: int
    """Texts of the evaluation files."""
    num_short: int
    """Of them, those too short to be looked for."""


@dataclass(frozen=True)
class DataReport:
    """What is in files of text or instructions, and what cleaning lets go."""

    files: tuple[CheckedFile, ...]
    num_rows: int
    num_kept: int
    """Rows that no rule lets go."""
    dropped: Mapping[str, int]
    """Rows that go, by reason; the first that fits a row counts."""
    characters: Lengths
    tokens: Lengths | None
    """None without a tokenizer."""
    block_tokens: int | None
    """The size of a training sequence, where it was given."""
    num_over_block: int | None
    """Rows of more tokens than that."""
    scripts: tuple[ScriptShare, ...]
    """Most letters first."""
    num_without_letters: int
    evaluation: Evaluation | None
    """None without evaluation files."""
    unreadable: tuple[str, ...]
    """The first rows that cannot be read: `file:row: reason`."""
    broken: tuple[str, ...]
    """Files that cannot be read to their end: `file:line: reason`."""
    repeated: tuple[str, ...]
    """The first duplicates: `file:row repeats file:row`."""
    output: str | None = None
    """The cleaned file, where one was written."""

    def rows(self) -> list[tuple[str, str]]:
        """What was found, in words and numbers, for a table."""
        found = [("rows", f"{self.num_rows:,}")]
        found += [(f"  {name}", f"{n:,}") for name, n in self.dropped.items()]
        found.append(("  kept", f"{self.num_kept:,} ({_share(self.num_kept, self.num_rows)})"))
        found += _length_rows("characters", self.characters)
        if self.tokens:
            found += _length_rows("tokens", self.tokens)
        if self.block_tokens is not None and self.num_over_block is not None and self.tokens:
            share = _share(self.num_over_block, self.tokens.num_rows)
            found.append(
                (f"  over a block of {self.block_tokens:,}", f"{self.num_over_block:,} ({share})")
            )
        found += [
            (f"{one.name} letters", f"{one.letters:.1%}, first in {one.num_rows:,} rows")
            for one in self.scripts
            if one.letters >= _SHOWN_SHARE
        ]
        if self.num_without_letters:
            found.append(("rows without letters", f"{self.num_without_letters:,}"))
        if self.evaluation:
            looked = self.evaluation.num_texts - self.evaluation.num_short
            found.append(
                ("evaluation texts looked for", f"{looked:,} of {self.evaluation.num_texts:,}")
            )
        return found

    def tree(self) -> dict[str, Any]:
        """All of it, JSON-safe."""
        return asdict(self)

    def _repr_html_(self) -> str:
        files = [
            (one.path, one.kind, one.encoding, f"{one.num_bytes:,}", f"{one.num_rows:,}")
            for one in self.files
        ]
        faults = [(line,) for line in (*self.broken, *self.unreadable, *self.repeated)]
        return "".join(_html_table(rows) for rows in (files, self.rows(), faults) if rows)


def report_of(
    found: Survey,
    *,
    block_tokens: int | None = None,
    evaluation: Evaluation | None = None,
    output: Path | None = None,
) -> DataReport:
    """Sum up a survey."""
    counts = np.bincount(found.verdicts, minlength=len(VERDICTS))
    is_read = found.characters > 0
    tokens = found.tokens[is_read] if len(found.tokens) else None
    over = None if block_tokens is None or tokens is None else int((tokens > block_tokens).sum())
    return DataReport(
        files=tuple(
            CheckedFile(str(one.path), one.kind, str(one.encoding), one.file.num_bytes, num_rows)
            for one, num_rows in zip(found.sources, found.num_rows, strict=True)
        ),
        num_rows=len(found.verdicts),
        num_kept=int(counts[KEPT]),
        dropped={
            name: int(count)
            for name, count in zip(VERDICTS, counts, strict=True)
            if count and name != "kept"
        },
        characters=_lengths(found.characters[is_read]),
        tokens=None if tokens is None else _lengths(tokens),
        block_tokens=block_tokens,
        num_over_block=over,
        scripts=_scripts(found),
        num_without_letters=int(found.main_scripts[-1]),
        evaluation=evaluation,
        unreadable=tuple(f"{found.place(row)}: {why}" for row, why in found.faults[:_NAMED]),
        broken=found.broken,
        repeated=_repeated(found),
        output=None if output is None else str(output),
    )


def _lengths(lengths: npt.NDArray[np.uint32]) -> Lengths:
    # Of what is there, none between two: a length that some row has.
    found = (
        np.percentile(lengths, _PERCENTILES, method="inverted_cdf")
        if len(lengths)
        else np.zeros(len(_PERCENTILES))
    )
    names = (f"p{one}" for one in _PERCENTILES)
    total = int(lengths.sum(dtype=np.int64))
    return Lengths(len(lengths), total, dict(zip(names, map(int, found), strict=True)))


def _scripts(found: Survey) -> tuple[ScriptShare, ...]:
    total = int(found.script_letters.sum())
    shares = [
        ScriptShare(name, int(letters) / total, int(rows))
        for name, letters, rows in zip(
            (*SCRIPTS, OTHER), found.script_letters, found.main_scripts, strict=False
        )
        if letters
    ]
    return tuple(sorted(shares, key=lambda one: -one.letters))


def _repeated(found: Survey) -> tuple[str, ...]:
    repeats = np.flatnonzero(found.originals != NONE)[:_NAMED].tolist()
    return tuple(
        f"{found.place(row)} repeats {found.place(int(found.originals[row]))}" for row in repeats
    )


def _length_rows(name: str, lengths: Lengths) -> list[tuple[str, str]]:
    shown = lengths.percentiles
    spread = f"{shown['p5']:,} / {shown['p50']:,} / {shown['p95']:,} / {shown['p100']:,}"
    return [(name, f"{lengths.total:,}"), ("  a row: 5 %, half, 95 %, longest", spread)]


def _share(part: int, whole: int) -> str:
    return f"{part / whole:.1%}" if whole else "0 %"


def _html_table(rows: Sequence[Sequence[str]]) -> str:
    cells = ("".join(f"<td>{escape(cell)}</td>" for cell in row) for row in rows)
    return f"<table>{''.join(f'<tr>{one}</tr>' for one in cells)}</table>"
