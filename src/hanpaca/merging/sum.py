"""Sums of whole models: weighted sums, and changes of one model added to another.

T' = round(sum_i w_i T_i + sum_j w_j (tuned_j - base))        in float32, rounded once

Differences of models are the task vectors of Ilharco et al. (arXiv 2212.04089), of which the chat
vector (arXiv 2310.04799) is one; averages of models are soups (arXiv 2203.05482). Where the
vocabularies differ, a row is found by the text of its piece.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from hanpaca.checkpoints.dtypes import DTYPES as TORCH_TYPES
from hanpaca.checkpoints.meta import EMBEDDING, HEAD
from hanpaca.checkpoints.model import ModelFiles
from hanpaca.checkpoints.tensors import Extent, Stored
from hanpaca.errors import ArtifactError, RecipeError
from hanpaca.merging import side
from hanpaca.merging.outputs import OutputTensor, Overlay, Share, Step
from hanpaca.merging.plan import DTYPES, MergeOptions, MergePlan, shards_of

_HEAD_FIELDS = ("num_attention_heads", "num_key_value_heads", "head_dim", "hidden_act")
"""Of models whose tensors may have the same shapes and yet mean something else."""
_ROPE_FIELDS = ("rms_norm_eps", "rope_theta", "rope_scaling", "rope_parameters")


class Weighted(NamedTuple):
    """A model and how much of it is taken."""

    model: ModelFiles
    weight: float


@dataclass(frozen=True)
class Sum:
    """What is added up; every model has the vocabulary that `Vocabularies` says."""

    models: Sequence[Weighted]
    """The first gives the configuration."""
    tuned: Sequence[Weighted] = ()
    """Of each, what was changed since `base` is added."""
    base: ModelFiles | None = None

    @property
    def everything(self) -> list[ModelFiles]:
        """All models that are read."""
        read = [one.model for one in (*self.models, *self.tuned)]
        return [*read, self.base] if self.base else read


@dataclass(frozen=True)
class Vocabularies:
    """Which row is which piece, where the models differ in that."""

    pieces: Sequence[str]
    """Of the result, in order of ids."""
    rows: Mapping[Path, Mapping[str, int]]
    """Of each model's folder: piece to row."""


def plan_sum(
    wanted: Sum,
    options: MergeOptions,
    *,
    vocabularies: Vocabularies | None,
    tokenizer: Path | None,
) -> tuple[MergePlan, list[str]]:
    """Read headers and decide what every byte of the sum is made of; `run_merge` carries it out.

    Args:
        wanted: What is added up.
        options: Format and type; the other options are of adapters.
        vocabularies: None where all models have the same rows.
        tokenizer: Folder whose tokenizer the result gets.

    Returns:
        The plan, and in words from which models the rows of pieces come.

    Raises:
        ArtifactError: The models are not of one architecture and size; names tensor or field.
        RecipeError: The weights of a piece's models add up to nothing.
    """
    first = wanted.models[0].model
    may_differ = (EMBEDDING, HEAD) if vocabularies else ()
    warnings = [
        told for other in wanted.everything[1:] for told in _compare(first, other, may_differ)
    ]
    table = vocabularies and _Table(wanted, vocabularies, _grouped(wanted, vocabularies))
    untied = any(not one.tied for one in wanted.everything)
    tensors = []
    for name in [*first.tensors, *([HEAD] if untied and first.tied else [])]:
        stored = _stored(first, name)
        steps, shape = tuple(_whole(wanted, name)), stored.shape
        if table and name in (EMBEDDING, HEAD):
            steps, shape = tuple(table.steps(name)), (len(table.vocabularies.pieces), shape[1])
        changed = len(steps) > 1 or steps[0] != Overlay(stored)
        dtype = DTYPES[options.dtype] or TORCH_TYPES[stored.dtype]
        tensors.append(OutputTensor(name, shape, dtype, steps, changed))
    config = side.merged_config(first, tensors)
    shards = shards_of(tensors, config, options)
    plan = MergePlan(first, [], options, tensors, shards, config, tokenizer, warnings)
    return plan, table.in_words() if table else []


def _compare(first: ModelFiles, other: ModelFiles, may_differ: Sequence[str]) -> Iterator[str]:
    """Warnings about a pair of models, whose rows may differ in number in some tensors.

    Raises:
        ArtifactError: They do not have the same tensors, or not the same heads.
    """
    names = [{*one.tensors} | {HEAD} for one in (first, other)]
    for name in sorted(names[0] ^ names[1]):
        owner, lacking = (first, other) if name in names[0] else (other, first)
        raise ArtifactError(f"{lacking.folder}: has no {name}, which {owner.folder} has")
    for name in first.tensors:
        shapes = [_stored(one, name).shape for one in (first, other)]
        skipped = 1 if name in may_differ else 0
        if shapes[0][skipped:] != shapes[1][skipped:]:
            raise ArtifactError(
                f"{other.folder}: {name} is {list(shapes[1])}, in {first.folder} {list(shapes[0])}:"
                " only models of one size can be added up"
            )
    for field in (*_HEAD_FIELDS, *_ROPE_FIELDS):
        values = [one.config.get(field) for one in (first, other)]
        if None in values or values[0] == values[1]:
            continue
        told = f"{other.folder}: {field} is {values[1]!r}, in {first.folder} {values[0]!r}"
        if field in _HEAD_FIELDS:
            raise ArtifactError(f"{told}: their weights do not mean the same")
        yield f"{told}; the result has the latter"


def _stored(model: ModelFiles, name: str) -> Stored:
    """A tensor of a model; a tied one's head is its embedding."""
    return model.tensors[EMBEDDING if name == HEAD and model.tied else name]


def _whole(wanted: Sum, name: str) -> Iterator[Step]:
    (first, weight), *others = wanted.models
    yield Overlay(_stored(first, name), weight)
    for model, weight in others:
        yield Share(_stored(model, name), weight)
    for model, weight in wanted.tuned:
        if wanted.base is not None:
            yield Share(_stored(model, name), weight, _stored(wanted.base, name))


@dataclass(frozen=True)
class _Group:
    """Pieces whose rows come from the same models."""

    models: tuple[Weighted, ...]
    """With the weights that their rows get."""
    ids: tuple[int, ...]
    """Of the result."""


def _grouped(wanted: Sum, vocabularies: Vocabularies) -> list[_Group]:
    """Which models have a row for each piece.

    Raises:
        ArtifactError: No model has a row for a piece.
        RecipeError: The weights of the models that have one add up to nothing.
    """
    found: dict[tuple[Weighted, ...], list[int]] = {}
    for number, piece in enumerate(vocabularies.pieces):
        having = tuple(one for one in wanted.models if _has(one.model, piece, vocabularies))
        if not having:  # such as the tokens of a chat's template: their rows as they are
            having = tuple(
                Weighted(one.model, 1.0)
                for one in wanted.tuned
                if _has(one.model, piece, vocabularies)
            )[:1]
        found.setdefault(having, []).append(number)
    if ids := found.get(()):
        raise ArtifactError(
            f"no model has a row for piece {vocabularies.pieces[ids[0]]!r} ({len(ids)} such "
            "pieces): choose the tokenizer of one of the models"
        )
    return [_Group(_scaled(having, wanted), tuple(ids)) for having, ids in found.items()]


def _has(model: ModelFiles, piece: str, vocabularies: Vocabularies) -> bool:
    row = vocabularies.rows[model.folder].get(piece)
    return row is not None and row < model.tensors[EMBEDDING].shape[0]


def _scaled(having: tuple[Weighted, ...], wanted: Sum) -> tuple[Weighted, ...]:
    """The weights of some of the models, with the sum that the weights of all have."""
    if having == tuple(wanted.models) or having[0] not in wanted.models:
        return having
    total = sum(one.weight for one in wanted.models)
    part = sum(one.weight for one in having)
    if part == 0:
        raise RecipeError(
            f"the weight of {having[0].model.folder} is 0, but some pieces are in no other model: "
            "choose a tokenizer without them"
        )
    return tuple(Weighted(model, weight * (total / part)) for model, weight in having)


@dataclass(frozen=True)
class _Table:
    """Embedding or head of a sum of models whose rows are different pieces."""

    wanted: Sum
    vocabularies: Vocabularies
    groups: Sequence[_Group]

    def in_words(self) -> list[str]:
        """A line for each group, such as "2 pieces from '[PAD]' on: 1 x chat"."""
        told = []
        for group in self.groups:
            shares = " + ".join(f"{weight:g} x {model.folder}" for model, weight in group.models)
            first = self.vocabularies.pieces[group.ids[0]]
            told.append(f"{len(group.ids)} pieces from {first!r} on: {shares}")
        for model, weight, ids in self._changed():
            told.append(f"{len(ids)} pieces: + {weight:g} x the change of {model.folder}")
        return told

    def steps(self, name: str) -> Iterator[Step]:
        """What the table is made of."""
        for group in self.groups:
            (first, weight), *others = group.models
            yield Overlay(self._rows(first, name, group.ids), weight)
            for model, weight in others:
                yield Share(self._rows(model, name, group.ids), weight)
        for model, weight, ids in self._changed():
            if self.wanted.base and ids:
                before = self._rows(self.wanted.base, name, ids)
                yield Share(self._rows(model, name, ids), weight, before)

    def _changed(self) -> Iterator[tuple[ModelFiles, float, list[int]]]:
        """The pieces to which a change is added: those that the tuned model and its base have."""
        kept = {one.model.folder for one in self.wanted.models}
        ids = sorted(
            number
            for group in self.groups
            if group.models[0].model.folder in kept
            for number in group.ids
        )
        for model, weight in self.wanted.tuned:
            both = [one for one in (model, self.wanted.base) if one]
            yield model, weight, [i for i in ids if all(self._has(one, i) for one in both)]

    def _has(self, model: ModelFiles, number: int) -> bool:
        return _has(model, self.vocabularies.pieces[number], self.vocabularies)

    def _rows(self, model: ModelFiles, name: str, ids: Sequence[int]) -> Stored:
        """The rows of some pieces, under the numbers they have in the result."""
        stored = _stored(model, name)
        places = self.vocabularies.rows[model.folder]
        moved = [(number, places[self.vocabularies.pieces[number]]) for number in ids]
        shape = (len(self.vocabularies.pieces), *stored.shape[1:])
        return Stored(shape, tuple(_moved(stored, moved)))


def _moved(stored: Stored, places: Sequence[tuple[int, int]]) -> Iterator[Extent]:
    """Rows of a tensor under other numbers: `places` are pairs of new and old number."""
    for target, run in _runs(places):
        for extent in stored.extents:
            start, stop = max(run.start, extent.rows.start), min(run.stop, extent.rows.stop)
            if start < stop:
                offset = extent.offset + (start - extent.rows.start) * extent.row_bytes
                first = target + start - run.start
                rows = range(first, first + stop - start)
                yield replace(extent, offset=offset, rows=rows)


def _runs(places: Sequence[tuple[int, int]]) -> Iterator[tuple[int, range]]:
    """Pairs in which both numbers count up by one, together: first new number, old numbers."""
    begin = 0
    for end in range(1, len(places) + 1):
        if end == len(places) or places[end] != (places[end - 1][0] + 1, places[end - 1][1] + 1):
            yield places[begin][0], range(places[begin][1], places[end - 1][1] + 1)
            begin = end
