"""Get an adapter back from two full models: the best low-rank part of what was changed.

For each matrix the difference D = W' - W is cut to rank r by a truncated singular value
decomposition, which no other matrix of that rank comes nearer to (Eckart and Young 1936). The
decomposition is found by subspace iteration on a random start (Halko, Martinsson and Tropp 2011,
arXiv 0909.4061, algorithm 4.4): a few thin products instead of all singular values. Norms, and a
vocabulary whose old rows changed, have no low rank to cut: they are kept whole. New rows of a grown
vocabulary are kept as rows.
"""

import itertools
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from peft import LoraConfig, TaskType
from torch import Tensor

from hanpaca.checkpoints.dtypes import DTYPES
from hanpaca.checkpoints.fingerprint import base_fingerprint, tokenizer_fingerprint
from hanpaca.checkpoints.meta import EMBEDDING, HEAD
from hanpaca.checkpoints.model import ModelFiles, open_model
from hanpaca.checkpoints.rows import OpenFiles, Workspace, read_all, read_rows
from hanpaca.checkpoints.safetensors import PlannedTensor, write_safetensors
from hanpaca.checkpoints.tensors import Stored, matrix_shape
from hanpaca.errors import ArtifactError, RecipeError
from hanpaca.files import whole
from hanpaca.model.lora import ADAPTER_CONFIG, ADAPTER_WEIGHTS
from hanpaca.tokenizer.folder import copy_tokenizer

_PREFIX = "base_model.model."
_VOCABULARY = (EMBEDDING, HEAD)
_OVERSAMPLING = 10
"""Directions sought beyond the rank; 5 to 10 are the usual choice (Halko et al., section 4.2)."""
_ITERATIONS = 4
_COMPARED_ROWS = 512
_Tensors = Mapping[str, Stored]


@dataclass(frozen=True)
class Extraction:
    """What the adapter holds, and how much of the change it lost."""

    rank: int
    relative_errors: Mapping[str, float]
    """Frobenius norm of what is lost over that of the change, for each changed matrix."""
    whole: tuple[str, ...]
    """Tensors kept whole."""
    num_new_rows: int


@dataclass(frozen=True)
class _Changes:
    matrices: tuple[str, ...]
    """Of every target, changed or not: peft wants factors for all."""
    changed: frozenset[str]
    whole: tuple[str, ...]
    rows: tuple[str, ...]
    """Vocabulary matrices of which only new rows are kept."""
    num_old_rows: int
    num_new_rows: int


def extract_adapter(
    base: Path | ModelFiles,
    tuned: Path | ModelFiles,
    output: Path,
    *,
    rank: int,
    on_tensor: Callable[[int, int], None] = lambda done, total: None,
) -> Extraction:
    """Write the difference of two models as a LoRA adapter in peft's format.

    One matrix is in memory at a time, in float32. `output` appears only when it is whole.

    Args:
        base: The model before: a folder in any format a merge reads, or what `open_model` gives.
        tuned: The model after; its vocabulary may have grown, its head may be tied or not.
        output: Must not exist.
        rank: Of every matrix's update.
        on_tensor: Called with the matrices done so far and in all.

    Raises:
        ArtifactError: The models are not of one shape, or are the same, or `tuned` has NaN.
        RecipeError: The rank is not between 1 and the smaller side of each changed matrix.
        ResourceError: The disk is full, or a file cannot be written.
    """
    old, new = (one if isinstance(one, ModelFiles) else open_model(one) for one in (base, tuned))
    with OpenFiles() as files, whole(output) as folder:
        folder.mkdir()
        before, after = _paired(old, new, files)
        _check_shapes(before, after, old.folder, new.folder)
        changes = _find_changes(before, after, files, parts_ways=old.tied and HEAD in before)
        if not (changes.changed or changes.whole or changes.rows):
            raise ArtifactError(
                f"{new.folder}: no weight differs from {old.folder}: nothing to extract"
            )
        _check_rank(rank, changes, before)
        errors: dict[str, float] = {}
        plan = _plan(changes, _Pair(before, after, new.folder, files), rank=rank, errors=errors)
        _write(folder, plan, len(changes.matrices), on_tensor, metadata=_metadata(old, new))
        _write_config(folder, changes, rank=rank, tied=HEAD not in before)
        copy_tokenizer(new.side_folder, folder)
    return Extraction(rank, errors, changes.whole, changes.num_new_rows)


def low_rank(difference: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """The best factors (out, r) and (r, in) of a matrix (out, in), each with half the scale.

    The start is random but always the same, so the same difference gives the same factors.
    """
    width = min(rank + _OVERSAMPLING, *difference.shape)
    if width == min(difference.shape):
        left, values, right = torch.linalg.svd(difference, full_matrices=False)
    else:
        generator = torch.Generator().manual_seed(0)
        start = torch.randn(difference.shape[1], width, generator=generator)
        basis = torch.linalg.qr(difference @ start).Q
        for _ in range(_ITERATIONS):
            basis = torch.linalg.qr(difference @ torch.linalg.qr(difference.T @ basis).Q).Q
        left, values, right = torch.linalg.svd(basis.T @ difference, full_matrices=False)
        left = basis @ left
    scale = values[:rank].sqrt()
    return left[:, :rank] * scale, scale[:, None] * right[:rank]


def _paired(base: ModelFiles, tuned: ModelFiles, files: OpenFiles) -> tuple[_Tensors, _Tensors]:
    """The tensors of both; where only one model has a head of its own, the other's is its table."""
    before, after = dict(base.tensors), dict(tuned.tensors)
    if HEAD in after and base.tied and EMBEDDING in after:
        if after[HEAD].shape == after[EMBEDDING].shape and not _differ(
            after[HEAD], after[EMBEDDING], files
        ):
            del after[HEAD]
        elif EMBEDDING in before:
            before[HEAD] = before[EMBEDDING]
    elif HEAD in before and tuned.tied and EMBEDDING in after:
        after[HEAD] = after[EMBEDDING]
    return before, after


def _check_shapes(before: _Tensors, after: _Tensors, base: Path, tuned: Path) -> None:
    odd = sorted(before.keys() ^ after.keys())
    if odd:
        owner, other = (base, tuned) if odd[0] in before else (tuned, base)
        raise ArtifactError(
            f"{owner}: {odd[0]} is not in {other} ({len(odd)} such tensors): the models are not of "
            "one architecture"
        )
    for name, info in before.items():
        grown = name in _VOCABULARY and after[name].shape[0] >= info.shape[0]
        skipped = 1 if grown else 0
        if after[name].shape[skipped:] != info.shape[skipped:]:
            raise ArtifactError(
                f"{tuned}: {name} is {list(after[name].shape)}, in {base} {list(info.shape)}: give "
                "the base it was tuned from"
            )
    sizes = {after[name].shape[0] - before[name].shape[0] for name in _VOCABULARY if name in before}
    if len(sizes) > 1:
        raise ArtifactError(f"{tuned}: embedding and head have grown by different numbers of rows")


def _find_changes(
    before: _Tensors, after: _Tensors, files: OpenFiles, *, parts_ways: bool
) -> _Changes:
    """What differs; `parts_ways`: embedding and head were one matrix and no longer are."""
    vocabulary = [name for name in _VOCABULARY if name in before]
    others = [name for name in before if name not in vocabulary]
    changed = {name for name in others if _differ(before[name], after[name], files)}
    num_old, num_new = (
        (before[EMBEDDING].shape[0], after[EMBEDDING].shape[0] - before[EMBEDDING].shape[0])
        if EMBEDDING in before
        else (0, 0)
    )
    rewritten = [name for name in vocabulary if _differ(before[name], after[name], files)]
    if (rewritten or parts_ways) and num_new:
        rewritten = vocabulary
    targets = {_module(name) for name in changed if len(before[name].shape) == 2}
    matrices = [n for n in others if _module(n) in targets and len(before[n].shape) == 2]
    endings = tuple(_module(name) for name in changed if len(before[name].shape) != 2)
    whole = [
        name
        for name in others
        if len(before[name].shape) != 2 and name.removesuffix(".weight").endswith(endings)
    ]  # by the end of the name, as peft finds modules_to_save
    return _Changes(
        matrices=tuple(sorted(matrices)),
        changed=frozenset(changed & set(matrices)),
        whole=(*sorted(rewritten), *sorted(whole if endings else [])),
        rows=tuple(name for name in vocabulary if num_new and name not in rewritten),
        num_old_rows=num_old,
        num_new_rows=num_new,
    )


def _differ(old: Stored, new: Stored, files: OpenFiles) -> bool:
    """Whether any element of the old rows differs; stops at the first piece that does."""
    num_rows, num_columns = matrix_shape(old.shape)
    step = math.lcm(_COMPARED_ROWS, old.head_rows or 1, new.head_rows or 1)
    workspace = Workspace()
    for start in range(0, num_rows, step):
        rows = range(start, min(start + step, num_rows))
        parts = []
        for name, stored in (("old", old), ("new", new)):
            part = workspace.take(name, torch.float32, (len(rows), num_columns))
            read_rows(stored, rows, part, files=files, workspace=workspace)
            parts.append(part)
        if not torch.equal(*parts):
            return True
    return False


def _check_rank(rank: int, changes: _Changes, before: _Tensors) -> None:
    largest = min((min(before[name].shape) for name in changes.matrices), default=rank)
    if not 1 <= rank <= largest:
        raise RecipeError(f"rank {rank}: it must be from 1 to {largest}, the smallest matrix side")


@dataclass(frozen=True)
class _Pair:
    """Two models, to be read tensor by tensor."""

    before: _Tensors
    after: _Tensors
    tuned: Path
    files: OpenFiles

    def difference(self, name: str) -> Tensor:
        """What was added to a matrix, in float32."""
        return self._new(name).sub_(read_all(self.before[name], self.files))

    def whole(self, name: str) -> Tensor:
        """A tensor of the model after."""
        return self._new(name).to(DTYPES[self.after[name].dtype])

    def rows(self, name: str, first: int) -> Tensor:
        """The last rows of a tensor of the model after."""
        return self.whole(name)[first:]

    def _new(self, name: str) -> Tensor:
        found = read_all(self.after[name], self.files)
        if not found.isfinite().all():
            raise ArtifactError(f"{self.tuned}: {name} holds NaN or infinite values; tune it again")
        return found


def _plan(
    changes: _Changes, pair: _Pair, *, rank: int, errors: dict[str, float]
) -> list[PlannedTensor]:
    """The adapter's tensors in order of their names; A of a matrix is made before its B."""
    kept: dict[str, Tensor] = {}

    def make_a(name: str) -> Tensor:
        difference = pair.difference(name)
        kept[name], factor = low_rank(difference, rank)
        norm = difference.norm()
        errors[name] = float(difference.addmm_(kept[name], factor, alpha=-1).norm() / norm)
        return factor

    plan, after = [], pair.after
    for name in changes.matrices:
        rows, columns = after[name].shape
        make = (partial(make_a, name), partial(kept.pop, name))
        if name not in changes.changed:
            make = (partial(torch.zeros, rank, columns), partial(torch.zeros, rows, rank))
        for side, shape, one in zip("AB", ((rank, columns), (rows, rank)), make, strict=True):
            key = f"{_PREFIX}{name.removesuffix('.weight')}.lora_{side}.weight"
            plan.append(PlannedTensor(key, torch.float32, shape, one))
    for name in changes.whole:
        info = after[name]
        plan.append(
            PlannedTensor(_PREFIX + name, DTYPES[info.dtype], info.shape, partial(pair.whole, name))
        )
    for name in changes.rows:
        key = f"{_PREFIX}{name.removesuffix('.weight')}.token_adapter.trainable_tokens_delta"
        shape = (changes.num_new_rows, after[name].shape[1])
        last = partial(pair.rows, name, changes.num_old_rows)
        plan.append(PlannedTensor(key, DTYPES[after[name].dtype], shape, last))
    return plan


def _write(
    folder: Path,
    plan: Sequence[PlannedTensor],
    num_matrices: int,
    on_tensor: Callable[[int, int], None],
    *,
    metadata: Mapping[str, str],
) -> None:
    """Write the weights; the factors, two a matrix, come first."""
    numbers = itertools.count(1)

    def count(num_bytes: int) -> None:
        number = next(numbers)
        if number <= 2 * num_matrices and number % 2 == 0:
            on_tensor(number // 2, num_matrices)

    write_safetensors(folder / ADAPTER_WEIGHTS, plan, metadata=metadata, on_bytes=count)


def _write_config(folder: Path, changes: _Changes, *, rank: int, tied: bool) -> None:
    ids = list(range(changes.num_old_rows, changes.num_old_rows + changes.num_new_rows))
    config = LoraConfig(
        task_type=TaskType.CAUSAL_LM,
        inference_mode=True,
        r=rank,
        lora_alpha=rank,
        lora_dropout=0.0,
        target_modules=sorted({_module(name) for name in changes.matrices}),
        modules_to_save=sorted({_module(name) for name in changes.whole}) or None,
        trainable_token_indices={_module(name): ids for name in changes.rows} or None,
        ensure_weight_tying=tied and EMBEDDING in changes.whole,
    )
    tree = {key: value for key, value in config.to_dict().items() if value is not None}  # type: ignore[no-untyped-call]
    tree["target_modules"] = sorted(tree["target_modules"])
    text = json.dumps(tree, indent=2, sort_keys=True, default=str)
    (folder / ADAPTER_CONFIG).write_text(text, encoding="utf-8")


def _metadata(base: ModelFiles, tuned: ModelFiles) -> dict[str, str]:
    metadata = {"hanpaca.base.fingerprint": base_fingerprint(base)}
    if (tuned.side_folder / "tokenizer.json").is_file():
        metadata["hanpaca.tokenizer.fingerprint"] = tokenizer_fingerprint(tuned.side_folder)
    return metadata


def _module(name: str) -> str:
    return name.removesuffix(".weight").rsplit(".", 1)[-1]
