"""A tensor of the merged model, and the steps it is made of, in order."""

from dataclasses import dataclass
from math import prod
from typing import Literal

import torch

from hanpaca.checkpoints.tensors import Stored, matrix_shape

Rounded = Literal["once", "per-adapter"]
"""When a result is rounded to the type it is stored in."""
_CHUNK_ELEMENTS = 1 << 18
"""Computed at a time: 1 MiB in float32. Twice as much does not stay in a core's own cache with its
buffers, half as much spends more on calls than it saves."""


@dataclass(frozen=True)
class Overlay:
    """Take the rows of `stored`, times the weight, over whatever was there."""

    stored: Stored
    weight: float = 1.0


@dataclass(frozen=True)
class Share:
    """Add `weight * (plus - minus)` to the rows that `plus` has."""

    plus: Stored
    weight: float
    minus: Stored | None = None
    """Has the same rows."""


@dataclass(frozen=True)
class Addition:
    """Add a low-rank update: `scaling * B A`; with magnitudes the rows are then given these."""

    a: Stored
    """(rank, in)"""
    b: Stored
    """(out, rank)"""
    scaling: float
    transposed: bool
    """The matrix is (in, out)."""
    magnitude: Stored | None
    """(out,)"""
    origin: str
    """Which tensor of which adapter: for messages."""


@dataclass(frozen=True)
class Rounding:
    """Round to a type that the result of one adapter would be stored in."""

    dtype: torch.dtype


Step = Overlay | Share | Addition | Rounding


def stored_of(step: Step) -> tuple[Stored, ...]:
    """The tensors a step reads."""
    match step:
        case Overlay(stored):
            return (stored,)
        case Share(plus, _, minus):
            return (plus, minus) if minus else (plus,)
        case Addition(a, b):
            return (a, b)
        case Rounding():
            return ()


@dataclass(frozen=True)
class OutputTensor:
    """A tensor of the merged model, under its Hugging Face name."""

    name: str
    shape: tuple[int, ...]
    dtype: torch.dtype
    steps: tuple[Step, ...]
    changed: bool
    """Whether an adapter has a say in it."""

    @property
    def num_bytes(self) -> int:
        """Size of the data."""
        return prod(self.shape) * self.dtype.itemsize


def chunk_rows(tensor: OutputTensor, head_rows: int = 0) -> int:
    """How many rows are computed at a time: whole heads where heads are reordered."""
    heads = [stored.head_rows for step in tensor.steps for stored in stored_of(step)]
    unit = max(1, head_rows, *heads)
    columns = max(1, matrix_shape(tensor.shape)[1])
    return max(1, _CHUNK_ELEMENTS // columns // unit) * unit
