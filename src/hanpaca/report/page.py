"""The one page style: every page of hanpaca is these blocks in this template, and one file."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Literal

from jinja2 import Environment, PackageLoader

from hanpaca.report.charts import can_draw
from hanpaca.report.wording import ENGLISH, words_of

Cell = str | Sequence[str]
"""Text, or pieces that are set apart from each other."""


@dataclass(frozen=True)
class Line:
    """A paragraph under the heading."""

    text: str
    bad: bool = False


@dataclass(frozen=True)
class Block:
    """One thing of a section: see the functions below, which make them."""

    kind: Literal["text", "chart", "items", "codes", "table"]
    text: str = ""
    svg: str = ""
    header: Sequence[str] = ()
    rows: Sequence[Sequence[Cell]] | Sequence[str] = ()
    numbers: frozenset[int] = field(default_factory=frozenset)


@dataclass(frozen=True)
class PageSection:
    """A heading with what stands under it; one without blocks is left out."""

    title: str
    blocks: Sequence[Block]


def text(words: str) -> Block:
    """A paragraph."""
    return Block("text", text=words)


def chart(svg: str | None) -> list[Block]:
    """A drawing, if there is one."""
    return [Block("chart", svg=svg)] if svg else []


def table(
    header: Sequence[str], rows: Sequence[Sequence[Cell]], *, numbers: Sequence[int] = ()
) -> Block:
    """A table; the columns in `numbers` are aligned right, as their headers are."""
    return Block("table", header=header, rows=rows, numbers=frozenset(numbers))


def items(rows: Sequence[tuple[str, str]]) -> Block:
    """A list of marks (`met`, `missed` or none) and texts."""
    return Block("items", rows=rows)


def codes(words: str, pieces: Sequence[str]) -> Block:
    """Pieces of text in their exact spelling, after some words."""
    return Block("codes", text=words, rows=pieces)


def render(
    title: str, sections: Sequence[PageSection], *, lead: Sequence[Line] = (), lang: str = ENGLISH
) -> str:
    """Put a page together: no script, no outside file."""
    word, lines = words_of(lang), list(lead)
    if not can_draw():
        note = "Tables only: the charts need matplotlib (pip install 'hanpaca[report]')."
        lines.append(Line(word(note)))
    today = f"{datetime.now(UTC):%Y-%m-%d}"
    footer = word(f"Written on {today} by hanpaca {version('hanpaca')}.")
    environment = Environment(
        loader=PackageLoader("hanpaca.report"), autoescape=True, trim_blocks=True
    )
    return environment.get_template("page.html").render(
        title=title,
        lang=lang,
        lead=lines,
        sections=[section for section in sections if section.blocks],
        footer=footer,
    )
