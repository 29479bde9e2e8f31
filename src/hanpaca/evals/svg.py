"""Bar and line charts as inline SVG: no library, no script, no outside file."""

from collections.abc import Sequence
from html import escape
from math import ceil, floor, log10

from hanpaca.errors import DataError

_WIDTH, _HEIGHT = 640, 300
_LEFT, _RIGHT, _TOP, _BOTTOM = 56, 120, 16, 44
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7")
"""Okabe and Ito's palette, which colour-blind readers can tell apart."""

Bar = tuple[str, float, tuple[float, float] | None]
"""Label, value, and its interval."""
Line = tuple[str, Sequence[tuple[float, float]]]


def bar_chart(title: str, bars: Sequence[Bar], *, digits: int = 2) -> str:
    """Horizontal bars from zero, each with its value and, where known, its interval."""
    highest = max((interval[1] if interval else value) for _, value, interval in bars) or 1.0
    step, scale = 30, (_WIDTH - 150 - 70) / highest
    height = step * len(bars) + 8
    parts = []
    for number, (label, value, interval) in enumerate(bars):
        y = number * step + 6
        parts.append(f'<text x="140" y="{y + 15}" text-anchor="end">{escape(label)}</text>')
        parts.append(
            f'<rect x="150" y="{y}" width="{value * scale:.1f}" height="20" rx="2" '
            f'fill="{COLOURS[0]}"/>'
        )
        end = 150 + value * scale
        if interval:
            low, high = (150 + bound * scale for bound in interval)
            parts.append(
                f'<path d="M{low:.1f} {y + 10}H{high:.1f}M{low:.1f} {y + 6}v8M{high:.1f} {y + 6}v8"'
                ' stroke="currentColor" fill="none"/>'
            )
            end = max(end, high)
        parts.append(f'<text x="{end + 6:.1f}" y="{y + 15}">{value:.{digits}f}</text>')
    return _svg(title, _WIDTH, height, parts)


def line_chart(title: str, lines: Sequence[Line], *, x_name: str, y_name: str) -> str:
    """Lines over common axes, each named at its end."""
    points = [point for _, line in lines for point in line]
    x_ticks = ticks(0.0, max(x for x, _ in points))
    y_ticks = ticks(min(y for _, y in points), max(y for _, y in points))
    x_scale = (_WIDTH - _LEFT - _RIGHT) / (x_ticks[-1] - x_ticks[0])
    y_scale = (_HEIGHT - _TOP - _BOTTOM) / (y_ticks[-1] - y_ticks[0])

    def at(x: float, y: float) -> tuple[float, float]:
        return _LEFT + (x - x_ticks[0]) * x_scale, _TOP + (y_ticks[-1] - y) * y_scale

    parts = []
    for tick in y_ticks:
        y = at(0, tick)[1]
        parts.append(f'<path d="M{_LEFT} {y:.1f}H{_WIDTH - _RIGHT}" class="grid"/>')
        parts.append(f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{tick:g}</text>')
    for tick in x_ticks:
        x = at(tick, y_ticks[0])[0]
        parts.append(
            f'<text x="{x:.1f}" y="{_HEIGHT - _BOTTOM + 18}" text-anchor="middle">{tick:g}</text>'
        )
    for number, (name, line) in enumerate(lines):
        colour = COLOURS[number % len(COLOURS)]
        path = "L".join(f"{x:.1f} {y:.1f}" for x, y in (at(*point) for point in line))
        parts.append(f'<path d="M{path}" stroke="{colour}" stroke-width="2" fill="none"/>')
        x, y = at(*line[-1])
        parts.append(f'<text x="{x + 6:.1f}" y="{y + 4:.1f}" fill="{colour}">{escape(name)}</text>')
    parts.append(f'<text x="{_LEFT}" y="{_HEIGHT - 6}">{escape(x_name)} →</text>')
    parts.append(f'<text x="{_LEFT + 4}" y="{_TOP - 4}">{escape(y_name)}</text>')
    return _svg(title, _WIDTH, _HEIGHT, parts)


def scatter_chart(
    title: str, points: Sequence[tuple[str, float, float]], *, x_name: str, y_name: str
) -> str:
    """Named points; y is on a scale of powers of ten and must be above zero.

    Raises:
        DataError: There is no point.
    """
    if not points:
        raise DataError(f"{title}: there is nothing to draw")
    x_ticks = ticks(min(x for _, x, _ in points), max(x for _, x, _ in points))
    low, high = (f(log10(edge(y for _, _, y in points))) for f, edge in ((floor, min), (ceil, max)))
    high = max(high, low + 1)
    x_scale = (_WIDTH - _LEFT - _RIGHT) / (x_ticks[-1] - x_ticks[0])
    y_scale = (_HEIGHT - _TOP - _BOTTOM) / (high - low)
    parts = []
    for power in range(low, high + 1):
        y = _TOP + (high - power) * y_scale
        parts.append(f'<path d="M{_LEFT} {y:.1f}H{_WIDTH - _RIGHT}" class="grid"/>')
        label = f"{10.0**power:g}"
        parts.append(f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{label}</text>')
    for tick in x_ticks:
        x = _LEFT + (tick - x_ticks[0]) * x_scale
        parts.append(
            f'<text x="{x:.1f}" y="{_HEIGHT - _BOTTOM + 18}" text-anchor="middle">{tick:g}</text>'
        )
    for name, at_x, at_y in points:
        x = _LEFT + (at_x - x_ticks[0]) * x_scale
        y = _TOP + (high - log10(at_y)) * y_scale
        parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="{COLOURS[0]}"/>')
        parts.append(f'<text x="{x + 7:.1f}" y="{y + 4:.1f}">{escape(name)}</text>')
    parts.append(f'<text x="{_LEFT}" y="{_HEIGHT - 6}">{escape(x_name)} →</text>')
    parts.append(f'<text x="{_LEFT + 4}" y="{_TOP - 4}">{escape(y_name)}</text>')
    return _svg(title, _WIDTH, _HEIGHT, parts)


def ticks(low: float, high: float) -> list[float]:
    """Four to eight round numbers that enclose the range.

    >>> ticks(7.1, 9.9)
    [7.0, 7.5, 8.0, 8.5, 9.0, 9.5, 10.0]
    """
    span = max(high - low, 1e-9)
    raw = span / 5
    magnitude = 10.0 ** floor(log10(raw))
    step = next(factor * magnitude for factor in (1, 2, 5, 10) if factor * magnitude >= raw)
    if span / step < 3:
        step /= 2
    first = floor(low / step)
    return [
        round(number * step, 10) for number in range(first, max(ceil(high / step), first + 1) + 1)
    ]


def _svg(title: str, width: int, height: int, parts: Sequence[str]) -> str:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img">'
        f"<title>{escape(title)}</title>{''.join(parts)}</svg>"
    )
