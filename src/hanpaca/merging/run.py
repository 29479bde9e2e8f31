"""Carry a merge out under a name that does not look finished, or go on where one was stopped."""

import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from hanpaca.checkpoints.dtypes import DTYPES
from hanpaca.checkpoints.model import open_model
from hanpaca.checkpoints.safetensors import write_index
from hanpaca.errors import ArtifactError, ResourceError
from hanpaca.merging import shards as files
from hanpaca.merging import side
from hanpaca.merging.execute import PARTIAL, write_shards
from hanpaca.merging.outputs import Overlay, Share
from hanpaca.merging.plan import MergePlan, with_head

CHAT_TEMPLATE = "chat_template.jinja"
NUM_THREADS = 2
"""Disk and memory are the limit: more threads bring little."""
JOURNAL = "merge.json"


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
    finish: Callable[[Path], None] = lambda folder: None,
) -> MergeSummary:
    """Carry a plan out, or go on with it where it was stopped.

    Args:
        plan: From `plan_merge`.
        output: Must not exist; it appears only when it is whole.
        measure: Find the largest changes (format hf only); of a merge that goes on, only those of
            the files written now.
        on_bytes: Called with the bytes written so far and in all.
        finish: Called with the folder once it is whole, before it gets its name.

    Raises:
        ArtifactError: The output exists, or the data is damaged or not finite.
        ResourceError: The disk is full, a file cannot be written, or another process is writing
            the same output.
    """
    _refuse_existing(output)
    working = output.with_name(output.name + PARTIAL)
    with _told(output), _held(working):
        try:
            _refuse_existing(output)
            _open_journal(plan, working)
            largest = _write_weights(plan, working, measure=measure, on_bytes=on_bytes)
            write_side(plan, working)
            _check_result(plan, working)
            finish(working)
            (working / JOURNAL).unlink()
            working.rename(output)
        except (OSError, ArtifactError, ResourceError):
            shutil.rmtree(working, ignore_errors=True)
            raise
    return MergeSummary(len(plan.tensors), plan.num_changed, plan.num_bytes, largest)


def _refuse_existing(output: Path) -> None:
    if output.exists():
        raise ArtifactError(f"{output}: already exists; remove it or give another folder")


def _write_weights(
    plan: MergePlan, working: Path, *, measure: bool, on_bytes: Callable[[int, int], None]
) -> dict[str, float]:
    done = 0

    def count(num_bytes: int) -> None:
        nonlocal done
        done += num_bytes
        on_bytes(done, plan.num_bytes)

    is_pth = plan.options.format == "pth"
    return write_shards(
        plan.shards,
        working,
        prepare=files.prepare_torch if is_pth else files.prepare_safetensors,
        seal=files.seal_torch if is_pth else files.seal_safetensors,
        measure=measure and not is_pth,
        num_threads=NUM_THREADS,
        on_bytes=count,
    )


@contextmanager
def _told(output: Path) -> Iterator[None]:
    """Say in one line what the system refused."""
    try:
        yield
    except OSError as error:
        told = f"{error.strerror or error}"
        raise ResourceError(f"{error.filename or output}: {told}; nothing was kept") from error


@contextmanager
def _held(working: Path) -> Iterator[None]:
    """Hold a folder for this process alone; the system lets go of it however the process ends.

    Raises:
        ResourceError: Another process is writing there.
    """
    while True:
        working.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(working, os.O_RDONLY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # The one before may have finished it, or cleared it away, in between.
            if working.exists() and os.path.samestat(os.fstat(descriptor), working.stat()):
                yield
                return
        except BlockingIOError as error:
            raise ResourceError(
                f"{working}: another merge{_writer(working)} is writing there; wait for it, or "
                "give another output folder"
            ) from error
        finally:
            os.close(descriptor)


def _writer(working: Path) -> str:
    try:
        process = json.loads((working / JOURNAL).read_text(encoding="utf-8"))["process"]
    except (OSError, ValueError, LookupError, TypeError):
        return ""
    return f" (process {process})"


def _open_journal(plan: MergePlan, working: Path) -> None:
    """Keep what an earlier try of the same merge finished; clear away anything else."""
    journal, key = working / JOURNAL, _key(plan)
    try:
        known = json.loads(journal.read_text(encoding="utf-8"))["key"] == key
    except (OSError, ValueError, LookupError, TypeError):
        known = False
    for path in working.iterdir():
        if not known or path.suffix == PARTIAL:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    draft = journal.with_name(journal.name + PARTIAL)
    draft.write_text(json.dumps({"key": key, "process": os.getpid()}), encoding="utf-8")
    draft.rename(journal)
    there = sum(file.stat().st_size for file in working.iterdir())
    free = shutil.disk_usage(working).free
    if plan.num_bytes - there > free:
        raise ResourceError(
            f"{working.parent}: {free / 1e9:.1f} GB free, the merged model needs "
            f"{plan.num_bytes / 1e9:.1f} GB; free some, or give a folder on another disk"
        )


def _key(plan: MergePlan) -> str:
    """Of the inputs as they are now, and of this start of the machine.

    What was written before a power cut may never have reached the disk.
    """
    steps = [step for tensor in plan.tensors for step in tensor.steps]
    shares = [step.weight for step in steps if isinstance(step, Overlay | Share)]
    inputs = [
        [str(file.resolve()), file.stat().st_size, file.stat().st_mtime_ns] for file in plan.files
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
    found = {name: (s.shape, DTYPES[s.dtype]) for name, s in open_model(folder).tensors.items()}
    tensors = plan.tensors if plan.options.format == "hf" else with_head(plan.tensors)
    planned = {tensor.name: (tensor.shape, tensor.dtype) for tensor in tensors}
    if found != planned:
        name = sorted(found.keys() ^ planned.keys() or planned.keys())[0]
        raise ArtifactError(f"{folder}: {name} was not written as planned; run the merge again")
