"""The command watch: how a training goes, live in the terminal."""

import json
import time
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Group
from rich.live import Live
from rich.text import Text

from hanpaca.cli.display import minutes, results
from hanpaca.steps.watch import Watched, watch

_BARS = "▁▂▃▄▅▆▇█"
_WIDTH = 60
_SECONDS = 1.0


def watch_run(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A run, or what a training writes.")],
    once: Annotated[bool, typer.Option("--once", help="Show it once and end.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON once, for scripts.")] = False,
) -> None:
    """Show how a training goes: loss, held-out bits per character, rate and time left."""
    found = watch(run)
    if as_json:
        print(json.dumps(asdict(found), ensure_ascii=False))
        return
    if once or not results.is_terminal:
        results.print(drawn(found))
        return
    with Live(drawn(found), console=results, auto_refresh=False) as live:
        while found.running:
            time.sleep(_SECONDS)
            found = watch(run)
            live.update(drawn(found), refresh=True)


def drawn(found: Watched) -> Group:
    """A screen of it."""
    lines = [f"{found.name}: {_where(found)}"]
    if found.losses:
        lines.append(f"loss {found.losses[-1]:.3f}  {curve(found.losses)}")
    for what, bits in (("", found.bits), (" of the old language", found.replay_bits)):
        if bits:
            lines.append(
                f"held-out bits per character{what} {bits[0]:.3f} → {bits[-1]:.3f}  {curve(bits)}"
            )
    if found.sample:
        lines.append(f"the model writes: {found.sample!r}")
    return Group(*(Text(line) for line in lines))


def curve(values: tuple[float, ...]) -> str:
    """Values over time in one line, each column the mean of its share.

    >>> curve((4.0, 3.0, 2.0, 1.0))
    '█▆▃▁'
    """
    number = min(len(values), _WIDTH)
    edges = [round(column * len(values) / number) for column in range(number + 1)]
    means = [sum(values[start:end]) / (end - start) for start, end in pairwise(edges)]
    low, span = min(means), max(means) - min(means)
    return "".join(_BARS[round((mean - low) / (span or 1) * (len(_BARS) - 1))] for mean in means)


def _where(found: Watched) -> str:
    step = f"step {found.step}" + (f"/{found.num_steps}" if found.num_steps else "")
    state = "running" if found.running else "done" if found.step == found.num_steps else "stopped"
    speed = f", {found.tokens_per_second:.0f} tokens/s" if found.tokens_per_second else ""
    left = ""
    if found.seconds_left and found.running:
        left = f", {minutes(found.seconds_left)} left"
    return f"{state}, {step}{speed}{left}"
