"""The arithmetic of a merge, on a few rows of one tensor at a time.

W' = round(W + (alpha / r) B A)        in float32, rounded once
"""

import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from hanpaca.errors import ArtifactError
from hanpaca.model.merge.adapters import Update
from hanpaca.model.stored import Extent, Stored, matrix_shape

Files = Callable[[Path], int]
"""From a path to its open descriptor."""


@dataclass(frozen=True)
class Overlay:
    """Take the rows of `stored`, over whatever was there."""

    stored: Stored


@dataclass(frozen=True)
class Addition:
    """Add a low-rank update."""

    update: Update
    origin: str
    """Which tensor of which adapter: for messages."""


@dataclass(frozen=True)
class Rounding:
    """Round to a type that the result of one adapter would be stored in."""

    dtype: torch.dtype


Step = Overlay | Addition | Rounding


@dataclass(frozen=True)
class LoadedAddition:
    """An update's factors in memory: rows of `left_or @ right_ri` are rows of the change."""

    left_or: Tensor
    right_ri: Tensor
    scaling: float
    """What is left to multiply by: powers of two, exact anywhere, are in `left_or` already."""
    magnitude_o: Tensor | None


class Workspace:
    """The buffers of one thread: they grow to the largest chunk and are used again."""

    def __init__(self) -> None:
        self.buffers: dict[str, Tensor] = {}

    def take(self, use: str, dtype: torch.dtype, shape: tuple[int, int]) -> Tensor:
        """Uninitialised memory; what was taken for the same use before is no longer valid."""
        num_bytes = math.prod(shape) * dtype.itemsize
        if use not in self.buffers or len(self.buffers[use]) < num_bytes:
            self.buffers[use] = torch.empty(num_bytes, dtype=torch.uint8)
        return self.buffers[use][:num_bytes].view(dtype).view(shape)


def load_addition(step: Addition, files: Files) -> LoadedAddition:
    """Read the factors of an update.

    Raises:
        ArtifactError: They hold NaN or infinite values.
    """
    update = step.update
    magnitude = update.magnitude
    parts = [
        read_all(stored, files)
        for stored in (update.a, update.b, *([magnitude] if magnitude else []))
    ]
    if not all(bool(part.isfinite().all()) for part in parts):
        raise ArtifactError(f"{step.origin} holds NaN or infinite values; train it again")
    a, b = parts[:2]
    left, right = (a.t().contiguous(), b.t().contiguous()) if update.transposed else (b, a)
    scaling = update.scaling
    if math.frexp(scaling)[0] == 0.5:
        left, scaling = left * scaling, 1.0
    return LoadedAddition(left, right, scaling, parts[2].view(-1, 1) if magnitude else None)


def load_additions(steps: Sequence[Step], files: Files) -> dict[int, LoadedAddition]:
    """Read the factors of all updates of a tensor, by their place among its steps."""
    return {
        place: load_addition(step, files)
        for place, step in enumerate(steps)
        if isinstance(step, Addition)
    }


def fold_rows(
    steps: Sequence[Step],
    loaded: Mapping[int, LoadedAddition],
    rows: range,
    columns: int,
    *,
    files: Files,
    workspace: Workspace,
) -> Tensor:
    """Compute some rows of a tensor in float32: (rows, columns).

    Args:
        steps: In order; the first gives every row.
        loaded: The factors of each addition, by its place among the steps.
        rows: A multiple of a head's rows where heads are reordered.
        columns: Of the whole tensor.
        files: Opens what is read.
        workspace: Of this thread; holds the result.
    """
    result = workspace.take("result", torch.float32, (len(rows), columns))
    for place, step in enumerate(steps):
        match step:
            case Overlay(stored):
                read_rows(stored, rows, result, files=files, workspace=workspace)
            case Addition():
                _add(loaded[place], rows, result, workspace)
            case Rounding(dtype):
                result.copy_(workspace.take("rounded", dtype, (len(rows), columns)).copy_(result))
    return result


def rounded(result: Tensor, dtype: torch.dtype, name: str, workspace: Workspace) -> Tensor:
    """The bits that are stored.

    Raises:
        ArtifactError: Values are not finite in the type they are stored in; says whether they
            were so before, or another type would do.
    """
    stored = workspace.take("stored", dtype, (result.shape[0], result.shape[1]))
    stored.copy_(result)
    # One value that is not finite makes the sum not finite.
    if not math.isfinite(float(stored.sum(dtype=torch.float32))):
        _check_range(result, dtype, name)
    return stored


def _check_range(result: Tensor, dtype: torch.dtype, name: str) -> None:
    lowest, highest = (float(value) for value in result.aminmax())
    limit = torch.finfo(dtype).max
    if -limit <= lowest and highest <= limit:
        return
    kind = str(dtype).removeprefix("torch.")
    if max(abs(lowest), abs(highest)) <= torch.finfo(torch.float32).max:
        raise ArtifactError(
            f"{name}: {lowest:g} to {highest:g} is too much for {kind}: choose --dtype bf16 or f32"
        )
    raise ArtifactError(
        f"{name}: NaN or infinite values in the adapter or the base; "
        "train the adapter again or download the base again"
    )


def _add(addition: LoadedAddition, rows: range, result: Tensor, workspace: Workspace) -> None:
    # Product, scaling and sum are rounded one by one, so that the result is that of the formula
    # at any scaling and does not depend on how the rows are cut.
    change = workspace.take("change", torch.float32, (len(rows), result.shape[1]))
    torch.mm(addition.left_or[rows.start : rows.stop], addition.right_ri, out=change)
    if addition.scaling != 1.0:
        change.mul_(addition.scaling)
    result.add_(change)
    if addition.magnitude_o is not None:
        norm = torch.linalg.norm(result, dim=1, keepdim=True)
        result.mul_(addition.magnitude_o[rows.start : rows.stop] / norm)


def read_all(stored: Stored, files: Files) -> Tensor:
    """A whole small tensor in float32, in its own shape."""
    num_rows, num_columns = matrix_shape(stored.shape)
    result = torch.empty(num_rows, num_columns)
    read_rows(stored, range(num_rows), result, files=files, workspace=Workspace())
    return result.view(stored.shape)


def read_rows(
    stored: Stored, rows: range, result: Tensor, *, files: Files, workspace: Workspace
) -> None:
    """Write what `stored` has of `rows` into the result, as float32; leave the other rows."""
    for extent in stored.extents:
        start, stop = max(rows.start, extent.rows.start), min(rows.stop, extent.rows.stop)
        if start >= stop or not extent.columns:
            continue
        part = workspace.take("read", extent.dtype, (stop - start, len(extent.columns)))
        read_exactly(files(extent.file), part, extent, start)
        columns = slice(extent.columns.start, extent.columns.stop)
        result[start - rows.start : stop - rows.start, columns].copy_(part)
    if stored.head_rows:
        result.copy_(to_halves(result, stored.head_rows))


def read_exactly(descriptor: int, part: Tensor, extent: Extent, first_row: int) -> None:
    """Fill a tensor from an extent's rows on.

    Raises:
        ArtifactError: The file ends before.
    """
    buffer = part.view(torch.uint8).view(-1).numpy().data
    at = extent.offset + (first_row - extent.rows.start) * extent.row_bytes
    while buffer:
        count = os.preadv(descriptor, [buffer], at)
        if count == 0:
            raise ArtifactError(f"{extent.file}: became shorter while it was read")
        buffer, at = buffer[count:], at + count


def to_halves(rows: Tensor, head_rows: int) -> Tensor:
    """Reorder the rows of each head from Meta's interleaved pairs to two halves."""
    pairs = rows.view(-1, head_rows // 2, 2, rows.shape[1])
    return pairs.transpose(1, 2).reshape(rows.shape)


def to_interleaved(rows: Tensor, head_rows: int) -> Tensor:
    """Undo `to_halves`."""
    halves = rows.view(-1, 2, head_rows // 2, rows.shape[1])
    return halves.transpose(1, 2).reshape(rows.shape)
