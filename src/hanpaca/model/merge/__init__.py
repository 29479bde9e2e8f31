"""Fold LoRA adapters into their base: plan from headers, carry out in a bounded memory, check.

The result appears under its name when it is whole. One that was stopped lies beside it in
`NAME.partial`, and the same merge goes on from there, file by file.
"""

import hashlib
import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from hanpaca.errors import ArtifactError, ResourceError
from hanpaca.model import meta
from hanpaca.model.checkpoint import MAX_SHARD_BYTES, write_index
from hanpaca.model.fingerprint import model_fingerprint
from hanpaca.model.merge import shards as files
from hanpaca.model.merge import side
from hanpaca.model.merge.adapters import Adapter, read_adapter
from hanpaca.model.merge.bases import Base, read_base
from hanpaca.model.merge.execute import PARTIAL, write_shards
from hanpaca.model.merge.fold import Addition, Overlay
from hanpaca.model.merge.plan import OutputTensor, Rounded, plan_tensors
from hanpaca.model.stored import Stored

__all__ = [
    "PARTIAL",
    "Adapter",
    "MergeOptions",
    "MergePlan",
    "MergeSummary",
    "merge_adapters",
    "plan_merge",
    "read_adapter",
    "run_merge",
]
DTYPES: Mapping[str, torch.dtype | None] = {
    "as-base": None,
    "f16": torch.float16,
    "bf16": torch.bfloat16,
    "f32": torch.float32,
}
CHAT_TEMPLATE = "chat_template.jinja"
_NUM_THREADS = 2
"""Disk and memory are the limit: more threads bring little."""
_JOURNAL = "merge.json"


@dataclass(frozen=True)
class MergeOptions:
    """What the merged model is to look like."""

    format: Literal["hf", "pth"] = "hf"
    dtype: Literal["as-base", "f16", "bf16", "f32"] = "as-base"
    rounding: Rounded = "once"
    """`per-adapter` gives the numbers of the Chinese-LLaMA-Alpaca scripts of 2023."""
    max_shard_bytes: int = MAX_SHARD_BYTES
    num_files: int | None = None
    """Of format pth; None: as many as Meta has for the size."""
    alpha: float | None = None
    """For adapters without a configuration."""


@dataclass(frozen=True)
class MergePlan:
    """A merge before a byte of it is written."""

    base: Base
    adapters: Sequence[Adapter]
    options: MergeOptions
    tensors: Sequence[OutputTensor]
    shards: files.Shards
    config: Mapping[str, Any]
    tokenizer: Path | None
    warnings: Sequence[str]

    @property
    def num_bytes(self) -> int:
        """To be written."""
        return sum(part.num_bytes for shard in self.shards.values() for part in shard)

    @property
    def num_read_bytes(self) -> int:
        """To be read, if every tensor goes to one file."""
        return sum(extent.num_bytes for stored in self._read() for extent in stored.extents)

    @property
    def num_changed(self) -> int:
        """Tensors in which an adapter has a say."""
        return sum(tensor.changed for tensor in self.tensors)

    def _read(self) -> list[Stored]:
        found = []
        for tensor in self.tensors:
            for step in tensor.steps:
                match step:
                    case Overlay(stored):
                        found.append(stored)
                    case Addition(update):
                        found += [update.a, update.b]
        return found


@dataclass(frozen=True)
class MergeSummary:
    """What the merge changed."""

    num_tensors: int
    num_changed: int
    num_bytes: int
    largest_change: Mapping[str, float]
    """Largest absolute change of an element, for each changed matrix, where it was measured."""


def plan_merge(base: Path, adapters: Sequence[Path], options: MergeOptions) -> MergePlan:
    """Read headers and decide what every byte of the merged model is made of.

    Args:
        base: What the first adapter was trained on: Hugging Face safetensors or `.bin`, or Meta's
            `.pth`.
        adapters: In order; each was trained on the result of those before it.
        options: Format, type and rounding.

    Raises:
        ArtifactError: Something is missing, damaged or does not fit; names file and tensor.
    """
    model = read_base(base)
    read = [read_adapter(folder, alpha=options.alpha) for folder in adapters]
    warnings = _check_fingerprints(base, read)
    tensors = plan_tensors(model, read, dtype=DTYPES[options.dtype], rounding=options.rounding)
    config = side.merged_config(model, tensors)
    by_name = {tensor.name: tensor for tensor in tensors}
    tokenizer = None
    if meta.EMBEDDING in by_name:
        rows = by_name[meta.EMBEDDING].shape[0]
        tokenizer = side.tokenizer_folder(model, read, num_rows=rows)
    return MergePlan(
        model,
        read,
        options,
        tensors,
        _shards(tensors, config, options),
        config,
        tokenizer,
        warnings,
    )


def merge_adapters(
    base: Path,
    adapters: Sequence[Path],
    output: Path,
    *,
    options: MergeOptions | None = None,
    measure: bool = False,
    on_bytes: Callable[[int, int], None] = lambda done, total: None,
) -> MergeSummary:
    """Write base plus adapters as a model folder; see `plan_merge` and `run_merge`."""
    plan = plan_merge(base, adapters, options or MergeOptions())
    return run_merge(plan, output, measure=measure, on_bytes=on_bytes)


def run_merge(
    plan: MergePlan,
    output: Path,
    *,
    measure: bool = False,
    on_bytes: Callable[[int, int], None] = lambda done, total: None,
) -> MergeSummary:
    """Carry a plan out, or go on with it where it was stopped.

    Args:
        plan: From `plan_merge`.
        output: Must not exist; it appears only when it is whole.
        measure: Find the largest changes (format hf only); of a merge that goes on, only those of
            the files written now.
        on_bytes: Called with the bytes written so far and in all.

    Raises:
        ArtifactError: The output exists, or the data is damaged or not finite.
        ResourceError: The disk is full, or a file cannot be written.
    """
    if output.exists():
        raise ArtifactError(f"{output}: already exists; remove it or give another output folder")
    working = output.with_name(output.name + PARTIAL)
    done = 0

    def count(num_bytes: int) -> None:
        nonlocal done
        done += num_bytes
        on_bytes(done, plan.num_bytes)

    try:
        _open_journal(plan, working)
        is_pth = plan.options.format == "pth"
        largest = write_shards(
            plan.shards,
            working,
            prepare=files.prepare_torch if is_pth else files.prepare_safetensors,
            measure=measure and not is_pth,
            num_threads=_NUM_THREADS,
            on_bytes=count,
        )
        _write_side(plan, working)
        _check_result(plan, working)
        (working / _JOURNAL).unlink()
        working.rename(output)
    except OSError as error:
        shutil.rmtree(working, ignore_errors=True)
        told = f"{error.strerror or error}"
        raise ResourceError(f"{error.filename or output}: {told}; nothing was kept") from error
    except (ArtifactError, ResourceError):
        shutil.rmtree(working, ignore_errors=True)
        raise
    return MergeSummary(len(plan.tensors), plan.num_changed, plan.num_bytes, largest)


def _check_fingerprints(base: Path, adapters: Sequence[Adapter]) -> list[str]:
    """What cannot be checked, in words."""
    warnings = []
    for number, adapter in enumerate(adapters):
        expected = adapter.metadata.get("hanpaca.base.fingerprint")
        if not expected:
            warnings.append(
                f"{adapter.folder}: does not say which model it was trained on; only names and "
                "shapes were checked"
            )
        elif number > 0:
            warnings.append(
                f"{adapter.folder}: was trained on {expected[:12]}…; whether that is the result of "
                "the adapters before it was not checked"
            )
        elif expected != model_fingerprint(base):
            raise ArtifactError(
                f"{adapter.file}: this adapter was trained on another model than {base} "
                f"(fingerprint {expected[:12]}…); give the model it was trained on"
            )
    return warnings


def _shards(
    tensors: Sequence[OutputTensor], config: Mapping[str, Any], options: MergeOptions
) -> files.Shards:
    if options.format == "hf":
        return files.hugging_face_shards(tensors, options.max_shard_bytes)
    meta.params_of(config)
    num_files = options.num_files or meta.default_num_files(config)
    return files.meta_shards(_with_head(tensors), config, num_files)


def _with_head(tensors: Sequence[OutputTensor]) -> list[OutputTensor]:
    """Meta's format has no tied head: it gets the embedding a second time."""
    by_name = {tensor.name: tensor for tensor in tensors}
    if meta.HEAD in by_name or meta.EMBEDDING not in by_name:
        return list(tensors)
    embedding = by_name[meta.EMBEDDING]
    head = OutputTensor(
        meta.HEAD, embedding.shape, embedding.dtype, embedding.steps, embedding.changed
    )
    return [*tensors, head]


def _open_journal(plan: MergePlan, working: Path) -> None:
    """Keep what an earlier try of the same merge finished; clear away anything else."""
    journal = working / _JOURNAL
    key = _key(plan)
    if not journal.is_file() or journal.read_text(encoding="utf-8") != key:
        shutil.rmtree(working, ignore_errors=True)
        working.mkdir(parents=True)
        journal.write_text(key, encoding="utf-8")
    there = sum(file.stat().st_size for file in working.iterdir())
    free = shutil.disk_usage(working).free
    if plan.num_bytes - there > free:
        raise ResourceError(
            f"{working.parent}: {free / 1e9:.1f} GB free, the merged model needs "
            f"{plan.num_bytes / 1e9:.1f} GB"
        )


def _key(plan: MergePlan) -> str:
    """Of the inputs as they are now, and of this start of the machine.

    What was written before a power cut may never have reached the disk.
    """
    read = {adapter.config.file for adapter in plan.adapters}
    for tensor in plan.tensors:
        read |= {
            e.file
            for step in tensor.steps
            if isinstance(step, Overlay)
            for e in step.stored.extents
        }
    read |= {adapter.file for adapter in plan.adapters}
    inputs = [
        [str(file.resolve()), file.stat().st_size, file.stat().st_mtime_ns]
        for file in sorted(read)
        if file.is_file()
    ]
    order = [str(adapter.folder) for adapter in plan.adapters]
    boot = Path("/proc/sys/kernel/random/boot_id")
    started = boot.read_text(encoding="utf-8") if boot.is_file() else ""
    text = json.dumps([1, inputs, order, asdict(plan.options), started])
    return hashlib.sha256(text.encode()).hexdigest()


def _write_side(plan: MergePlan, folder: Path) -> None:
    is_pth = plan.options.format == "pth"
    write = side.write_meta_side if is_pth else side.write_hugging_face_side
    write(folder, base=plan.base, config=plan.config, tokenizer=plan.tokenizer)
    for adapter in plan.adapters:  # who was taught to answer last says how to ask
        if (adapter.folder / CHAT_TEMPLATE).is_file() and not is_pth:
            shutil.copyfile(adapter.folder / CHAT_TEMPLATE, folder / CHAT_TEMPLATE)
    if not is_pth and len(plan.shards) > 1:
        write_index(folder, plan.shards)


def _check_result(plan: MergePlan, folder: Path) -> None:
    """Read the headers back: names, shapes and types are those of the plan.

    Raises:
        ArtifactError: They are not.
    """
    found = {name: (s.shape, s.dtype) for name, s in read_base(folder).tensors.items()}
    tensors = plan.tensors if plan.options.format == "hf" else _with_head(plan.tensors)
    planned = {tensor.name: (tensor.shape, tensor.dtype) for tensor in tensors}
    if found != planned:
        name = sorted(found.keys() ^ planned.keys() or planned.keys())[0]
        raise ArtifactError(f"{folder}: {name} was not written as planned; run the merge again")
