"""What every stage is given, and what it tells while it works."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from hanpaca.recipe import Recipe


@dataclass(frozen=True)
class Update:
    """A sign of life from a stage."""

    stage: str
    message: str
    fraction: float | None = None
    """Share of the stage that is done, where it is known."""
    seconds_left: float | None = None
    """Of this stage."""
    sample: str | None = None
    """Something the model in training has just written."""


@dataclass(frozen=True)
class Job:
    """One run of one recipe."""

    recipe: Recipe
    run: Path
    """The run folder."""
    base: Path
    """The base model as a Hugging Face folder."""
    tell: Callable[[Update], None]

    def stage(self, name: str) -> Path:
        """The folder of a finished stage."""
        return self.run / name
