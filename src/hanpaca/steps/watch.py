"""See how a training goes, while it goes."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hanpaca.errors import ArtifactError
from hanpaca.files import PARTIAL, is_locked

_METRICS = "metrics.jsonl"
_OF_A_STEP = {"step", "loss", "tokens", "seconds"}
_BITS = "heldout_bits_per_character"
_REPLAY_BITS = f"replay_{_BITS}"
_RECENT = 20


@dataclass(frozen=True)
class Watched:
    """Where a training stands, of what it has written down."""

    name: str
    """Of its folder."""
    running: bool
    """Whether a process works in the folder."""
    step: int
    num_steps: int | None
    losses: tuple[float, ...]
    """Nats a label, of every step so far."""
    bits: tuple[float, ...]
    """Bits per character of what is held out, each time it was measured."""
    replay_bits: tuple[float, ...]
    """The same of the old language."""
    tokens_per_second: float | None
    """Of the last steps."""
    seconds_left: float | None
    sample: str
    """What the model wrote last."""


def watch(folder: Path | str) -> Watched:
    """Read where the newest training of a run stands, or one that stands alone.

    Args:
        folder: Of a run, or what a training writes.

    Raises:
        ArtifactError: No training has begun there.

    Examples:
        >>> found = watch(folder / "adapter")
        >>> found.step, found.num_steps, found.running
        (4, 4, False)
    """
    place = Path(folder)
    file = max(_files(place), key=lambda one: one.stat().st_mtime, default=None)
    if file is None:
        raise ArtifactError(f"{place}: no training has begun here; give the folder of a run")
    rows = list(_rows(file))
    steps = [row for row in rows if row.get("step") and row.keys() >= _OF_A_STEP]
    last = steps[-1] if steps else {}
    speed = _speed(steps)
    left = None
    if "num_steps" in last and speed:
        left = (last["num_steps"] - last["step"]) * last["tokens"] / last["step"] / speed
    return Watched(
        name=file.parent.name.removesuffix(PARTIAL),
        running=is_locked(file.parent),
        step=last.get("step", 0),
        num_steps=last.get("num_steps"),
        losses=tuple(row["loss"] for row in steps),
        bits=tuple(row[_BITS] for row in rows if _BITS in row),
        replay_bits=tuple(row[_REPLAY_BITS] for row in rows if _REPLAY_BITS in row),
        tokens_per_second=speed,
        seconds_left=left,
        sample=next((str(row["sample"]) for row in reversed(rows) if "sample" in row), ""),
    )


def _files(place: Path) -> list[Path]:
    folders = [place, place.with_name(place.name + PARTIAL), *sorted(place.glob("*/"))]
    return [one / _METRICS for one in folders if (one / _METRICS).is_file()]


def _rows(file: Path) -> Iterator[Mapping[str, Any]]:
    """Lines that are whole; the last may just be written."""
    for line in file.read_text(encoding="utf-8", errors="replace").split("\n"):
        try:
            row = json.loads(line)
        except json.JSONDecodeError:
            continue
        if isinstance(row, dict):
            yield row


def _speed(steps: list[Mapping[str, Any]]) -> float | None:
    """Tokens a second over the last steps, or since the start where there are few."""
    if not steps:
        return None
    last = steps[-1]
    before = steps[-_RECENT] if len(steps) > _RECENT else {"tokens": 0, "seconds": 0.0}
    seconds = last["seconds"] - before["seconds"]
    return float(last["tokens"] - before["tokens"]) / seconds if seconds > 0 else None
