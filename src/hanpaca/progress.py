"""One sign of life for all that takes long."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Progress:
    """How far something has come: the command line draws it, a run keeps it."""

    done: float
    total: float | None = None
    """None where it is not known."""
    unit: str = ""
    """Of `done` and `total`: `bytes`, `steps`, `layers`, `tokens`, …"""
    note: str = ""
    """What is being done, or what came of it so far."""
    seconds_left: float | None = None
    """Where whoever works knows better than the pace so far."""
    sample: str = ""
    """Something a model in training has just written."""
    stage: str = ""
    """Of a run, where it is one that works."""

    @property
    def fraction(self) -> float | None:
        """Share that is done, where the total is known."""
        return self.done / self.total if self.total else None


Tell = Callable[[Progress], object]
"""What is called with signs of life."""


def silent(progress: Progress) -> None:
    """Tell nobody."""
