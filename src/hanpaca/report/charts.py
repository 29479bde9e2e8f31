"""Charts as SVG, drawn by matplotlib: part of a page, or files of their own.

In a page, text and axes take the colour of the page's text, so that one drawing fits light and
dark. A file of its own has a white ground.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from html import escape
from importlib.util import find_spec
from io import StringIO
from typing import TYPE_CHECKING, Any
from unicodedata import east_asian_width
from warnings import catch_warnings, filterwarnings

from hanpaca.errors import DataError, ResourceError
from hanpaca.report.fonts import fonts_for, readable

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#b8860b", "#56b4e9", "#7f7f7f", "#8c564b")
"""First Okabe and Ito's, which colour-blind readers can tell apart; a marker goes with each."""
_MARKERS = "osD^vPX*"
_DASHES = ("-", "--", "-.")
_INK = "#010203"  # stands for the page's text colour until the drawing is done
_WIDTH, _FONT_SIZE = 6.0, 10.5  # inches and points: still read where a phone makes it small
_LEGEND_LETTERS, _LEGEND_MARK = 64, 9  # in a row of a legend; the place of a mark, in letters
_LEGEND_ROW = 0.24  # inches

Bar = tuple[str, float, tuple[float, float] | None]
"""Label, value, and its interval."""
Line = tuple[str, Sequence[tuple[float, float]]]


def can_draw() -> bool:
    """Whether the library that draws is there."""
    return find_spec("matplotlib") is not None


def bar_chart(title: str, bars: Sequence[Bar], *, digits: int = 2, x_name: str = "") -> str:
    """Horizontal bars from zero, each with its value and, where known, its interval.

    Raises:
        DataError: There is no bar.
        ResourceError: matplotlib is missing.
    """
    _check(title, bars)
    names = [label for label, _, _ in bars]
    with _figure(title, 0.6 + 0.34 * len(bars), (*names, x_name)) as (figure, axes, shown):
        for place, (_, value, interval) in enumerate(bars):
            axes.barh(place, value, height=0.66, color=COLOURS[0])
            end = value
            if interval:
                low, high = interval
                axes.errorbar(
                    value, place, xerr=[[value - low], [high - value]], color=_INK, capsize=3
                )
                end = max(end, high)
            axes.annotate(
                f"{value:,.{digits}f}",
                (end, place),
                (5, 0),
                textcoords="offset points",
                va="center",
            )
        _bar_axes(axes, list(map(shown, names)), x_name)
        return _drawn(figure, title)


def pair_chart(
    title: str, rows: Sequence[tuple[str, float, float]], names: tuple[str, str], *, x_name: str
) -> str:
    """Two bars a row, such as before and after, told apart by a legend.

    Raises:
        DataError: There is no row.
        ResourceError: matplotlib is missing.
    """
    _check(title, rows)
    labels = [row[0] for row in rows]
    height = 0.8 + 0.5 * len(rows)
    with _figure(title, height, (*labels, *names, x_name)) as (figure, axes, shown):
        for number, name in enumerate(map(shown, names)):
            places = [place + 0.38 * number - 0.19 for place in range(len(rows))]
            bars = axes.barh(
                places,
                [row[1 + number] for row in rows],
                height=0.36,
                label=name,
                color=COLOURS[number],
            )
            axes.bar_label(bars, fmt="%.3f", padding=4)
        _bar_axes(axes, list(map(shown, labels)), x_name)
        _legend(figure, axes)
        return _drawn(figure, title)


def line_chart(
    title: str, lines: Sequence[Line], *, x_name: str, y_name: str, alone: bool = False
) -> str:
    """Lines over common axes, told apart by colour and marker in a legend.

    Args:
        title: Read by those who cannot see it.
        lines: Names and points.
        x_name: What is along the lower axis.
        y_name: The same of the other.
        alone: For a file of its own.

    Raises:
        DataError: There is no line.
        ResourceError: matplotlib is missing.
    """
    _check(title, lines)
    letters = (*(name for name, _ in lines), x_name, y_name)
    with _figure(title, 3.3, letters, alone=alone) as (figure, axes, shown):
        for number, (name, points) in enumerate(lines):
            axes.plot(
                [x for x, _ in points],
                [y for _, y in points],
                label=shown(name),
                markersize=4,
                **_look(number),  # type: ignore[arg-type]
            )
        axes.set(xlabel=x_name, ylabel=y_name)
        axes.grid(alpha=0.25)
        _plain_numbers(axes.xaxis)
        _legend(figure, axes)
        return _drawn(figure, title, alone=alone)


def scatter_chart(
    title: str,
    points: Sequence[tuple[str, float, float]],
    *,
    x_name: str,
    y_name: str,
    alone: bool = False,
) -> str:
    """Points named in a legend; y is on a scale of powers of ten and must be above zero.

    Raises:
        DataError: There is no point.
        ResourceError: matplotlib is missing.
    """
    _check(title, points)
    letters = (*(name for name, _, _ in points), x_name, y_name)
    with _figure(title, 3.3, letters, alone=alone) as (figure, axes, shown):
        for number, (name, x, y) in enumerate(points):
            look = _look(number) | {"linestyle": "none"}
            axes.plot([x], [y], label=shown(name), markersize=8, **look)  # type: ignore[arg-type]
        axes.set_yscale("log")
        axes.set(xlabel=x_name, ylabel=y_name)
        axes.grid(alpha=0.25)
        _plain_numbers(axes.xaxis)
        _legend(figure, axes)
        return _drawn(figure, title, alone=alone)


def _check(title: str, drawn: Sequence[object]) -> None:
    if not drawn:
        raise DataError(f"{title}: there is nothing to draw")
    if not can_draw():
        raise ResourceError("charts need matplotlib: pip install 'hanpaca[report]'")


def _look(number: int) -> dict[str, str]:
    """Of the line of this number: no two of the first 24 look the same."""
    turn, place = divmod(number, len(COLOURS))
    return {
        "color": COLOURS[place],
        "marker": _MARKERS[(place + turn) % len(_MARKERS)],
        "linestyle": _DASHES[turn % len(_DASHES)],
    }


def _bar_axes(axes: "Axes", labels: Sequence[str], x_name: str) -> None:
    axes.set_yticks(range(len(labels)), labels)
    axes.invert_yaxis()
    axes.margins(x=0.14)
    axes.set_xlim(left=0)
    _plain_numbers(axes.xaxis)
    axes.set_xlabel(x_name)
    axes.tick_params(axis="y", length=0)


def _plain_numbers(axis: "Axis") -> None:
    """Few numbers, with commas between thousands, so that they stay apart."""
    from matplotlib.ticker import MaxNLocator, StrMethodFormatter

    axis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))
    axis.set_major_formatter(StrMethodFormatter("{x:,g}"))


def _legend(figure: "Figure", axes: "Axes") -> None:
    """Above the drawing, where it covers nothing and takes none of its width."""
    entries = list(zip(*axes.get_legend_handles_labels(), strict=True))
    widest = max(_columns_of(name) for _, name in entries) + _LEGEND_MARK
    columns = max(1, min(len(entries), _LEGEND_LETTERS // widest))
    # It is filled column by column, and read row by row.
    by_rows = [entry for column in range(columns) for entry in entries[column::columns]]
    handles, names = zip(*by_rows, strict=True)
    rows = -(-len(entries) // columns)
    figure.set_figheight(figure.get_figheight() + _LEGEND_ROW * rows)
    figure.legend(handles, names, loc="outside upper left", ncols=columns, frameon=False)


def _columns_of(name: str) -> int:
    return sum(2 if east_asian_width(letter) in "WF" else 1 for letter in name)


@contextmanager
def _figure(
    title: str, height: float, texts: Sequence[str], *, alone: bool = False
) -> Iterator[tuple["Figure", "Axes", Callable[[str], str]]]:
    """A figure in the style of the page; the settings hold until the end of the block.

    Args:
        title: Names the drawing.
        height: In inches, without the legend.
        texts: All that is written in it.
        alone: For a file of its own.

    Yields:
        Figure, axes, and what makes a label readable with the fonts of this machine.
    """
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    families, missing = fonts_for(texts)
    ink = "black" if alone else _INK
    names = ("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color")
    style: dict[Any, Any] = {
        **dict.fromkeys(names, ink),
        "font.family": families,
        "axes.facecolor": "white" if alone else "none",
        "font.size": _FONT_SIZE,
        # As drawn here if fonts have the letters; else the reader's fonts write the axes' names.
        "svg.fonttype": "none" if missing else "path",
        "svg.hashsalt": title,
        "axes.spines.top": False,
        "axes.spines.right": False,
    }
    with rc_context(style), catch_warnings():
        filterwarnings("ignore", message="Glyph .* missing from")
        figure = Figure(figsize=(_WIDTH, height), layout="constrained")
        yield figure, figure.subplots(), partial(readable, missing=missing)


def _drawn(figure: "Figure", title: str, *, alone: bool = False) -> str:
    stream = StringIO()
    ground = "white" if alone else "none"
    figure.savefig(stream, format="svg", facecolor=ground, metadata={"Date": None})
    svg = stream.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'<g id="[\w.]+_\d+">', "<g>", svg)  # two drawings of a page share no name
    if not alone:
        svg = svg.replace(_INK, "currentColor")
    start, end = svg.split(">", 1)
    return f'{start} role="img"><title>{escape(title)}</title>{end}'
