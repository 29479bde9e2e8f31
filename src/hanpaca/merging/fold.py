"""The arithmetic of a merge, on a few rows of one tensor at a time.

W' = round(W + (alpha / r) B A)        in float32, rounded once
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from hanpaca.checkpoints.rows import OpenFiles, Workspace, read_all, read_rows
from hanpaca.checkpoints.tensors import Stored
from hanpaca.errors import ArtifactError
from hanpaca.merging.outputs import Addition, Overlay, Rounding, Share, Step

_PADDING = 16
"""Floats between the rows of a product. Rows a power of two apart share their places in the cache,
and the product of a rank of 8 takes three times as long."""


@dataclass(frozen=True)
class LoadedAddition:
    """An update's factors in memory: rows of `left_or @ right_ri` are rows of the change."""

    left_or: Tensor
    right_ri: Tensor
    scaling: float
    """What is left to multiply by: powers of two, exact anywhere, are in `left_or` already."""
    magnitude_o: Tensor | None


def load_addition(step: Addition, files: OpenFiles) -> LoadedAddition:
    """Read the factors of an update.

    Raises:
        ArtifactError: They hold NaN or infinite values.
    """
    magnitude = step.magnitude
    parts = [
        read_all(stored, files) for stored in (step.a, step.b, *([magnitude] if magnitude else []))
    ]
    if not all(bool(part.isfinite().all()) for part in parts):
        raise ArtifactError(f"{step.origin} holds NaN or infinite values; train it again")
    a, b = parts[:2]
    left, right = (a.t().contiguous(), b.t().contiguous()) if step.transposed else (b, a)
    scaling = step.scaling
    if math.frexp(scaling)[0] == 0.5:
        left, scaling = left * scaling, 1.0
    return LoadedAddition(left, right, scaling, parts[2].view(-1, 1) if magnitude else None)


def load_additions(steps: Sequence[Step], files: OpenFiles) -> dict[int, LoadedAddition]:
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
    files: OpenFiles,
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
            case Overlay(stored, weight):
                read_rows(stored, rows, result, files=files, workspace=workspace)
                if weight != 1.0:
                    for run in _covered(stored, rows):
                        result[run].mul_(weight)
            case Share():
                _add_share(step, rows, result, files=files, workspace=workspace)
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
            f"{name}: {lowest:g} to {highest:g} is too much for {kind}",
            "choose bf16 or f32 as {dtype}",
        )
    raise ArtifactError(
        f"{name}: NaN or infinite values in the adapter or the base; "
        "train the adapter again or download the base again"
    )


def _add(addition: LoadedAddition, rows: range, result: Tensor, workspace: Workspace) -> None:
    # Product, scaling and sum are rounded one by one, so that the result is that of the formula
    # at any scaling and does not depend on how the rows are cut.
    num_columns = result.shape[1]
    padded = workspace.take("change", torch.float32, (len(rows), num_columns + _PADDING))
    change = padded[:, :num_columns]
    torch.mm(addition.left_or[rows.start : rows.stop], addition.right_ri, out=change)
    if addition.scaling != 1.0:
        change.mul_(addition.scaling)
    result.add_(change)
    if addition.magnitude_o is not None:
        norm = torch.linalg.norm(result, dim=1, keepdim=True)
        result.mul_(addition.magnitude_o[rows.start : rows.stop] / norm)


def _add_share(
    step: Share, rows: range, result: Tensor, *, files: OpenFiles, workspace: Workspace
) -> None:
    runs = _covered(step.plus, rows)
    if not runs:
        return
    shape = (len(rows), result.shape[1])
    share = workspace.take("share", torch.float32, shape)
    read_rows(step.plus, rows, share, files=files, workspace=workspace)
    if step.minus is not None:
        minus = workspace.take("minus", torch.float32, shape)
        read_rows(step.minus, rows, minus, files=files, workspace=workspace)
        share.sub_(minus)
    if step.weight != 1.0:
        share.mul_(step.weight)
    for run in runs:
        result[run].add_(share[run])


def _covered(stored: Stored, rows: range) -> list[slice]:
    """Which of `rows` a tensor has, counted from the first of `rows`."""
    parts = {
        (max(rows.start, extent.rows.start), min(rows.stop, extent.rows.stop))
        for extent in stored.extents
    }
    return [slice(a - rows.start, b - rows.start) for a, b in sorted(parts) if a < b]


@contextmanager
def one_thread_each() -> Iterator[None]:
    """Let each of our threads multiply by itself."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
