"""Tables that are wider than the terminal: what a person can still read.

Columns that say the same in every row go into a line below, and what is still too wide becomes
several tables with the same first column. Only long texts are folded, never a number or a header.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from rich.cells import cell_len
from rich.text import Text

Cell = str | Text
ABSENT, INTERVAL = "–", "95 %"
"""What stands where nothing was measured, and above a column that belongs to the one before it."""
_FOLDED = 24
"""Columns of the terminal; a cell that takes more is text, and may be folded."""
_FRAME, _GAP = 1, 3
"""Of a table, and of each of its columns."""


@dataclass(frozen=True)
class ShownColumn:
    """A header and what stands under it."""

    title: str
    cells: Sequence[Cell]

    @property
    def natural(self) -> int:
        """Its width with no cell folded."""
        return max(map(_width, (self.title, *self.cells)))

    @property
    def least(self) -> int:
        """The width below which it is not to be read."""
        return min(self.natural, max(_FOLDED, _width(self.title)))

    @property
    def same(self) -> str | None:
        """What stands in every one of several rows."""
        first, *others = self.cells
        whole = isinstance(first, str) and others and all(one == first for one in others)
        return str(first) if whole else None


@dataclass(frozen=True)
class Fitted:
    """A table as it fits."""

    parts: Sequence[Sequence[ShownColumn]]
    """Tables, one under the other."""
    same: Sequence[ShownColumn]
    """Columns that are told in a line, as they say the same in every row."""


def fitted(columns: Sequence[ShownColumn], width: int) -> Fitted:
    """Put columns into as few tables as are not wider than a terminal.

    >>> one, two = (ShownColumn(name, ["x" * 20, "y" * 20]) for name in ("one", "two"))
    >>> found = fitted([ShownColumn("model", ["a", "b"]), one, two], 40)
    >>> [[column.title for column in part] for part in found.parts]
    [['model', 'one'], ['model', 'two']]
    """
    if fits(columns, width) or not columns[0].cells:
        return Fitted([columns], ())
    first, *others = columns
    groups = _groups(others)
    same = [one for one in groups if all(column.same is not None for column in one)]
    differing = [one for one in groups if one not in same]
    parts: list[list[ShownColumn]] = [[first]]
    for group in differing:
        if len(parts[-1]) > 1 and not fits([*parts[-1], *group], width):
            parts.append([first])
        parts[-1] += group
    known = [parts[0], *map(_without_empty_rows, parts[1:])]
    return Fitted(known, [column for group in same for column in group])


def fits(columns: Sequence[ShownColumn], width: int) -> bool:
    """Whether columns can stand side by side with no number and no header folded."""
    first, *others = columns
    least = min(first.natural, max(_FOLDED, width // 3)) + sum(one.least for one in others)
    return least + _FRAME + _GAP * len(columns) <= width


def _groups(columns: Sequence[ShownColumn]) -> list[list[ShownColumn]]:
    """Each number with its interval."""
    groups: list[list[ShownColumn]] = []
    for column in columns:
        if column.title == INTERVAL and groups:
            groups[-1].append(column)
        else:
            groups.append([column])
    return groups


def _without_empty_rows(part: Sequence[ShownColumn]) -> list[ShownColumn]:
    """A further table without the rows of which it says nothing, unless it has no others."""
    told = [
        any(cell != ABSENT for cell in row)
        for row in zip(*(one.cells for one in part[1:]), strict=True)
    ]
    kept = told if any(told) else [True] * len(told)
    return [
        ShownColumn(one.title, [cell for cell, keep in zip(one.cells, kept, strict=True) if keep])
        for one in part
    ]


def _width(cell: Cell) -> int:
    return cell.cell_len if isinstance(cell, Text) else max(map(cell_len, cell.split("\n")))
