"""How curves of the benchmarks are drawn."""

from collections.abc import Sequence
from pathlib import Path

from hanpaca.files import write_atomically
from hanpaca.report.charts import Line, line_chart


def draw_bits(axis: str, lines: Sequence[Line], file: Path) -> None:
    """Draw held-out bits per character over an axis of training, such as seconds.

    Args:
        axis: What x counts.
        lines: Name and points of each arm.
        file: The SVG to write.
    """
    svg = line_chart(
        f"Held-out bits per character over {axis}",
        lines,
        x_name=f"{axis} of training",
        y_name="bits per character",
        alone=True,
    )
    write_atomically(file, svg)
