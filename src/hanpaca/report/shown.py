"""Results where there is no page: a table in a notebook, and one of plain letters elsewhere."""

from collections.abc import Sequence
from html import escape
from unicodedata import east_asian_width

Table = tuple[Sequence[str], Sequence[Sequence[str]]]
"""Header and rows; all but the first column are numbers."""


def notebook_table(tables: Sequence[Table], *, lead: str = "") -> str:
    """Tables as HTML without a style of their own, which would change the notebook around them."""
    words = f"<p>{escape(lead)}</p>" if lead else ""
    return f"<div>{words}{''.join(_html(header, rows) for header, rows in tables)}</div>"


def plain_table(table: Table) -> str:
    r"""A table with its columns under each other, in letters of one width.

    >>> print(plain_table((("model", "bits"), [("base", "4.25"), ("말", "12.00")])))
    model   bits
    base    4.25
    말     12.00
    """
    header, rows = table
    lines = [header, *rows]
    widths = [max(map(_width, column)) for column in zip(*lines, strict=True)]
    return "\n".join(_line(line, widths) for line in lines)


def _html(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    body = "".join(_row(row, "td") for row in rows)
    return f"<table><thead>{_row(header, 'th')}</thead><tbody>{body}</tbody></table>"


def _row(cells: Sequence[str], tag: str) -> str:
    sides = ["left", *("right" for _ in cells[1:])]
    marked = (
        f'<{tag} style="text-align: {side}">{escape(cell)}</{tag}>'
        for side, cell in zip(sides, cells, strict=True)
    )
    return f"<tr>{''.join(marked)}</tr>"


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    gaps = [" " * (width - _width(cell)) for cell, width in zip(cells, widths, strict=True)]
    numbers = [gap + cell for gap, cell in zip(gaps, cells, strict=True)][1:]
    return "  ".join([cells[0] + gaps[0], *numbers])


def _width(text: str) -> int:
    """Columns of a terminal that a text takes."""
    return sum(2 if east_asian_width(letter) in "WF" else 1 for letter in text)
