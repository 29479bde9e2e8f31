"""Carry a merge out under a name that does not look finished, or go on where one was stopped."""

import hashlib
import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from hanpaca.errors import ArtifactError, ResourceError
from hanpaca.model.bases import read_base
from hanpaca.model.checkpoint import write_index
from hanpaca.model.merge import shards as files
from hanpaca.model.merge import side
from hanpaca.model.merge.execute import PARTIAL, write_shards
from hanpaca.model.merge.fold import Overlay, Share, stored_of
from hanpaca.model.merge.prepare import MergePlan, with_head

CHAT_TEMPLATE = "chat_template.jinja"
_NUM_THREADS = 2
"""Disk and memory are the limit: more threads bring little."""
_JOURNAL = "merge.json"


@dataclass(frozen=True)
class MergeSummary:
    """What the merge changed."""

    num_tensors: int
    num_changed: int
    num_bytes: int
    largest_change: Mapping[str, float]
    """Largest absolute change of an element, for each changed matrix, where it was measured."""


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
            seal=files.seal_torch if is_pth else files.seal_safetensors,
            measure=measure and not is_pth,
            num_threads=_NUM_THREADS,
            on_bytes=count,
        )
        write_side(plan, working)
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
    read |= {adapter.file for adapter in plan.adapters}
    steps = [step for tensor in plan.tensors for step in tensor.steps]
    read |= {extent.file for step in steps for one in stored_of(step) for extent in one.extents}
    shares = [step.weight for step in steps if isinstance(step, Overlay | Share)]
    inputs = [
        [str(file.resolve()), file.stat().st_size, file.stat().st_mtime_ns]
        for file in sorted(read)
        if file.is_file()
    ]
    order = [str(adapter.folder) for adapter in plan.adapters]
    boot = Path("/proc/sys/kernel/random/boot_id")
    started = boot.read_text(encoding="utf-8") if boot.is_file() else ""
    text = json.dumps([1, inputs, order, shares, asdict(plan.options), started])
    return hashlib.sha256(text.encode()).hexdigest()


def write_side(plan: MergePlan, folder: Path) -> None:
    """Write all of the merged model but its weights."""
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
    tensors = plan.tensors if plan.options.format == "hf" else with_head(plan.tensors)
    planned = {tensor.name: (tensor.shape, tensor.dtype) for tensor in tensors}
    if found != planned:
        name = sorted(found.keys() ^ planned.keys() or planned.keys())[0]
        raise ArtifactError(f"{folder}: {name} was not written as planned; run the merge again")
