"""What every tensor of the merged model is made of, decided from headers alone."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch

from hanpaca.checkpoints.adapter import AdapterFiles
from hanpaca.checkpoints.adapter_changes import AdapterTensor, Change, Update
from hanpaca.checkpoints.dtypes import DTYPES
from hanpaca.checkpoints.meta import EMBEDDING, HEAD
from hanpaca.checkpoints.model import ModelFiles
from hanpaca.checkpoints.tensors import Extent, Stored, matrix_shape
from hanpaca.errors import ArtifactError
from hanpaca.merging.outputs import Addition, OutputTensor, Overlay, Rounded, Rounding, Step


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
    base: ModelFiles,
    adapters: Sequence[AdapterFiles],
    *,
    dtype: torch.dtype | None,
    rounding: Rounded,
    weights: Sequence[float] = (),
) -> tuple[list[OutputTensor], list[ArtifactError]]:
    """Put the changes of all adapters, in order, on top of the base.

    Args:
        base: What the first adapter was trained on.
        adapters: Each was trained on the result of those before it.
        dtype: Of every tensor; None keeps each tensor's own.
        rounding: Whether the result of each adapter is rounded, as if it were stored.
        weights: Share of each adapter's updates that counts; empty: all of it.

    Returns:
        The tensors, and what of an adapter does not fit what it is put on.
    """
    drafts = {
        name: _Draft(stored.shape, dtype or DTYPES[stored.dtype], [Overlay(stored)])
        for name, stored in base.tensors.items()
    }
    faults: list[ArtifactError] = []
    for number, adapter in enumerate(adapters):
        fitting = _Fitting(adapter, drafts, rounding, weights[number] if weights else 1.0)
        faults += fitting.faults()
    tensors = [
        OutputTensor(name, draft.shape, draft.dtype, tuple(draft.steps), draft.changed)
        for name, draft in drafts.items()
    ]
    return tensors, faults


class _Fitting:
    """One adapter on its way into the tensors that those before it have left."""

    def __init__(
        self, adapter: AdapterFiles, drafts: dict[str, _Draft], rounding: Rounded, weight: float
    ) -> None:
        self.adapter, self.drafts = adapter, drafts
        self.rounding, self.weight = rounding, weight
        self.foreign: list[str] = []
        """What the base has no place for."""
        self.found: list[ArtifactError] = []

    def faults(self) -> list[ArtifactError]:
        """Apply every change, and tell what does not fit."""
        wanted, size = self.adapter.hidden_sizes, self._hidden_size()
        if wanted and size and size not in wanted:
            self._wrong(
                f"made for a model of hidden size {wanted[0]}, the base has {size}: it belongs to "
                "another model; give the base of the adapter's size"
            )
            return self.found
        before = self._vocabulary()
        for name, change in _untied(self.drafts, self.adapter).items():
            draft = self.drafts.get(name)
            if draft is None:
                whole = change.replacement
                size_told = f" {list(whole.shape)}" if whole else ""
                self.foreign.append(f"{name}{size_told} is not in the base")
                continue
            if self.rounding == "per-adapter" and not draft.changed:
                draft.steps.append(Rounding(draft.dtype))
            self._apply(name, change, draft)
            if self.rounding == "per-adapter":
                draft.steps.append(Rounding(draft.dtype))
        if self.foreign:
            self._wrong(
                f"{self.foreign[0]} ({len(self.foreign)} such matrices): the adapter belongs to "
                "another model; give the one it was trained on"
            )
        self._check_halves(before)
        return self.found

    def _wrong(self, told: str) -> None:
        self.found.append(ArtifactError(f"{self.adapter.file}: {told}"))

    def _hidden_size(self) -> int | None:
        embedding = self.drafts.get(EMBEDDING)
        return embedding.shape[1] if embedding and len(embedding.shape) == 2 else None

    def _vocabulary(self) -> set[int]:
        return {self.drafts[name].shape[0] for name in (EMBEDDING, HEAD) if name in self.drafts}

    def _apply(self, name: str, change: Change, draft: _Draft) -> None:
        draft.changed = True
        sets = change.replacement or change.rows or (change.update and change.update.magnitude)
        if self.weight != 1.0 and sets:
            self._wrong(
                f"{name} is set by this adapter, not added to, so it cannot count by "
                f"{self.weight:g}: leave the weight out"
            )
        if change.replacement is not None:
            self._replace(name, change.replacement, draft)
        if change.update is not None:
            self._add(name, change.update, draft)
        if change.rows is not None:
            self._lay_rows(name, change.row_ids, change.rows, draft)

    def _add(self, name: str, update: Update, draft: _Draft) -> None:
        if update.shape != draft.shape:
            self._foreign_shape(name, draft.shape, update.shape)
            return
        magnitude = update.magnitude
        draft.steps.append(
            Addition(
                update.a.stored,
                update.b.stored,
                update.scaling * self.weight,
                update.transposed,
                magnitude.stored if magnitude else None,
                f"{self.adapter.file}: the update of {name}",
            )
        )

    def _foreign_shape(self, name: str, there: Sequence[int], wanted: Sequence[int]) -> None:
        self.foreign.append(f"{name} is {list(there)} in the base, {list(wanted)} in the adapter")

    def _replace(self, name: str, whole: AdapterTensor, draft: _Draft) -> None:
        may_grow = name in (EMBEDDING, HEAD) and len(whole.shape) == 2
        wanted = (whole.shape[0], *draft.shape[1:]) if may_grow else draft.shape
        if whole.shape != wanted:
            self._foreign_shape(name, draft.shape, whole.shape)
            return
        if whole.shape[:1] < draft.shape[:1]:
            self._wrong(
                f"its {name} has {whole.shape[0]:,} rows, what comes before it "
                f"{draft.shape[0]:,}: wrong order of adapters, or a base that is already extended; "
                "pass the adapter with the smaller vocabulary first, or give its own base"
            )
            return
        draft.shape, draft.steps = whole.shape, [Overlay(whole.stored)]

    def _lay_rows(self, name: str, ids: Sequence[int], rows: AdapterTensor, draft: _Draft) -> None:
        num_rows, num_columns = matrix_shape(draft.shape)
        end = max([num_rows - 1, *ids]) + 1
        may_grow = name in (EMBEDDING, HEAD) and sum(i >= num_rows for i in ids) == end - num_rows
        if end > num_rows and not may_grow:
            self._wrong(
                f"new rows of {name} go up to {end - 1:,}, but the base has only {num_rows:,} and "
                "the rows between are nowhere; give the grown base it was trained on"
            )
            return
        if rows.shape[1] != num_columns:
            self._foreign_shape(name, draft.shape, rows.shape)
            return
        draft.shape = (end, *draft.shape[1:])
        (extent,) = rows.stored.extents
        draft.steps.append(Overlay(Stored(draft.shape, _runs(ids, extent))))

    def _check_halves(self, before: set[int]) -> None:
        if self.found or len(self._vocabulary()) < 2:
            return
        name = EMBEDDING if {self.drafts[EMBEDDING].shape[0]} != before else HEAD
        self._wrong(
            f"it brings {name} for another vocabulary than {max(before):,}, but not the other "
            "matrix of the vocabulary; save both with it"
        )


def _untied(drafts: dict[str, _Draft], adapter: AdapterFiles) -> Mapping[str, Change]:
    """Give a tied model a head of its own where the adapter was trained as if it had one.

    In peft, a replaced embedding or a LoRA on embedding or head acts on that side alone, while
    rows of `trainable_token_indices` act on both. With `ensure_weight_tying` the two sides are
    one, and both are in the file with the same content; but each update has its own alpha, and
    rows of the head alone stay its own.
    """
    changes = dict(adapter.changes)
    if HEAD in drafts or EMBEDDING not in drafts:
        return changes
    embedding, head = changes.get(EMBEDDING), changes.get(HEAD)
    ties = adapter.settings.ties_weights
    if ties and head is not None and not _parted(embedding, head):
        changes.setdefault(EMBEDDING, changes.pop(HEAD))
        return changes
    one_sided = embedding is not None and (embedding.replacement or embedding.update)
    if head is not None or (one_sided and not ties):
        drafts[HEAD] = drafts[EMBEDDING].copy()
    return changes


def _parted(embedding: Change | None, head: Change) -> bool:
    """Whether tied sides come out different."""
    if embedding is None:
        return head.rows is not None
    sides = (embedding.update, head.update)
    return all(sides) and len({one.scaling for one in sides if one}) > 1


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
