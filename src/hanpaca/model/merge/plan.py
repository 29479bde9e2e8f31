"""What every tensor of the merged model is made of, decided from headers alone."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import prod
from typing import Literal

import torch

from hanpaca.errors import ArtifactError
from hanpaca.model.bases import Base
from hanpaca.model.merge.adapters import Adapter, Change
from hanpaca.model.merge.fold import Addition, Overlay, Rounding, Step
from hanpaca.model.meta import EMBEDDING, HEAD
from hanpaca.model.stored import Extent, Stored, matrix_shape

Rounded = Literal["once", "per-adapter"]


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


@dataclass
class _Draft:
    """A tensor on its way through the adapters."""

    shape: tuple[int, ...]
    dtype: torch.dtype
    steps: list[Step] = field(default_factory=list)
    changed: bool = False

    def copy(self) -> "_Draft":
        return replace(self, steps=list(self.steps))


def plan_tensors(
    base: Base,
    adapters: Sequence[Adapter],
    *,
    dtype: torch.dtype | None,
    rounding: Rounded,
) -> list[OutputTensor]:
    """Put the changes of all adapters, in order, on top of the base.

    Args:
        base: What the first adapter was trained on.
        adapters: Each was trained on the result of those before it.
        dtype: Of every tensor; None keeps each tensor's own.
        rounding: Whether the result of each adapter is rounded, as if it were stored.

    Raises:
        ArtifactError: An adapter does not fit what it is put on; names the tensor.
    """
    drafts = {
        name: _Draft(stored.shape, dtype or stored.dtype, [Overlay(stored)])
        for name, stored in base.tensors.items()
    }
    for adapter in adapters:
        changes = _untie(drafts, adapter)
        for name, change in changes.items():
            if name not in drafts:
                raise ArtifactError(f"{adapter.file}: {name} has no counterpart in {base.folder}")
            draft = drafts[name]
            if rounding == "per-adapter" and not draft.changed:
                draft.steps.append(Rounding(draft.dtype))
            _apply(name, change, draft, adapter)
            if rounding == "per-adapter":
                draft.steps.append(Rounding(draft.dtype))
    _check_vocabulary(drafts, adapters)
    return [
        OutputTensor(name, draft.shape, draft.dtype, tuple(draft.steps), draft.changed)
        for name, draft in drafts.items()
    ]


def _untie(drafts: dict[str, _Draft], adapter: Adapter) -> Mapping[str, Change]:
    """Give a tied model a head of its own where the adapter was trained as if it had one.

    In peft, a replaced embedding or a LoRA on embedding or head acts on that side alone, while
    rows of `trainable_token_indices` act on both.
    """
    changes = dict(adapter.changes)
    if HEAD in drafts or EMBEDDING not in drafts:
        return changes
    embedding, head = changes.get(EMBEDDING), changes.get(HEAD)
    if adapter.config.ties_weights and head is not None:
        # Both sides are in the file, with the same content.
        changes.setdefault(EMBEDDING, changes.pop(HEAD))
        return changes
    one_sided = embedding is not None and (embedding.replacement or embedding.update)
    if head is not None or (one_sided and not adapter.config.ties_weights):
        drafts[HEAD] = drafts[EMBEDDING].copy()
    return changes


def _apply(name: str, change: Change, draft: _Draft, adapter: Adapter) -> None:
    draft.changed = True
    if change.replacement is not None:
        _replace(name, change.replacement, draft, adapter)
    if change.update is not None:
        if change.update.shape != draft.shape:
            raise ArtifactError(
                f"{adapter.file}: the update of {name} is {change.update.shape}, the base's matrix "
                f"{draft.shape}: this adapter belongs to another model"
            )
        draft.steps.append(Addition(change.update, f"{adapter.file}: the update of {name}"))
    if change.rows is not None:
        _lay_rows(name, change.row_ids, change.rows, draft, adapter)


def _replace(name: str, replacement: Stored, draft: _Draft, adapter: Adapter) -> None:
    may_grow = name in (EMBEDDING, HEAD) and len(replacement.shape) == 2
    if may_grow and replacement.shape[0] < draft.shape[0]:
        raise ArtifactError(
            f"{adapter.file}: {name} has {replacement.shape[0]} rows, the model before it "
            f"{draft.shape[0]}: wrong order of adapters, or a base that is already extended"
        )
    wanted = (replacement.shape[0], *draft.shape[1:]) if may_grow else draft.shape
    if replacement.shape != wanted:
        raise ArtifactError(
            f"{adapter.file}: {name} is {replacement.shape}, in the base {draft.shape}: "
            "this adapter belongs to another model"
        )
    draft.shape, draft.steps = replacement.shape, [Overlay(replacement)]


def _lay_rows(name: str, ids: Sequence[int], rows: Stored, draft: _Draft, adapter: Adapter) -> None:
    num_rows, num_columns = matrix_shape(draft.shape)
    end = max([num_rows - 1, *ids]) + 1
    grows = end > num_rows
    if grows and (name not in (EMBEDDING, HEAD) or not set(range(num_rows, end)) <= set(ids)):
        raise ArtifactError(
            f"{adapter.file}: new rows of {name} go up to {end - 1}, but the base has only "
            f"{num_rows}: give the model the adapter was trained on"
        )
    if rows.shape[1] != num_columns:
        raise ArtifactError(
            f"{adapter.file}: new rows of {name} are {rows.shape}, the base's are {draft.shape}: "
            "this adapter belongs to another model"
        )
    draft.shape = (end, *draft.shape[1:])
    draft.steps.append(Overlay(Stored(draft.shape, _runs(ids, rows.extents[0]))))


def _runs(ids: Sequence[int], extent: Extent) -> tuple[Extent, ...]:
    """The rows of an extent under new numbers, one extent for each run of numbers."""
    found: list[Extent] = []
    for place, row in enumerate(ids):
        if found and row == found[-1].rows.stop:
            found[-1] = replace(found[-1], rows=range(found[-1].rows.start, row + 1))
        else:
            offset = extent.offset + place * extent.row_bytes
            found.append(replace(extent, offset=offset, rows=range(row, row + 1)))
    return tuple(found)


def _check_vocabulary(drafts: Mapping[str, _Draft], adapters: Sequence[Adapter]) -> None:
    if EMBEDDING not in drafts or HEAD not in drafts:
        return
    embedding, head = drafts[EMBEDDING].shape[0], drafts[HEAD].shape[0]
    if embedding != head:
        raise ArtifactError(
            f"{adapters[-1].file if adapters else HEAD}: the merged embedding has {embedding} rows "
            f"and the head {head}: the adapter brings only one of the two"
        )
