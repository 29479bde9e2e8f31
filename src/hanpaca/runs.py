"""Run folders: where a stage writes, and the proof of what it wrote.

A stage works in `<run>/<stage>.partial`. The folder gets its name only once its manifest is
written, so a folder without `.partial` is always whole. A manifest names every file the stage
read and wrote with its hash, and ends with a hash of itself: one changed byte anywhere in the run
folder is found and its stage named.
"""

import fcntl
import hashlib
import importlib.metadata
import json
import os
import platform
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from hanpaca.errors import ArtifactError, ResourceError

MANIFEST = "manifest.json"
SCHEMA_VERSION = 1
ALONE = "merge"
"""Stage of a result that belongs to no run: its manifest names files from its own folder."""
CHECKPOINTS = "checkpoints"
"""Inside a stage folder: what an interrupted stage goes on from; removed when it is done."""
PROGRESS = "progress.json"
_KEY = "key"
_PARTIAL = ".partial"
_LEFTOVERS = (CHECKPOINTS, PROGRESS, _KEY)
_LOCK = ".lock"
_CHUNK_BYTES = 1 << 20
_PACKAGES = ("hanpaca", "torch", "transformers", "peft", "tokenizers", "gguf", "xllamacpp")


@dataclass(frozen=True, slots=True)
class Artifact:
    """A file, by content."""

    path: str
    """Relative to the run folder, or for a file from outside as the recipe names it."""
    sha256: str
    num_bytes: int


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a stage was given, and what it made of it."""

    stage: str
    stage_version: int
    key: str
    config: Mapping[str, Any]
    inputs: tuple[Artifact, ...]
    outputs: tuple[Artifact, ...]
    metrics: Mapping[str, Any]
    environment: Mapping[str, str]
    started: str
    """UTC, ISO 8601."""
    seconds: float
    schema_version: int = SCHEMA_VERSION


@dataclass(frozen=True, slots=True)
class StageStatus:
    """Where one stage of a run stands."""

    stage: str
    state: str
    """`done`, `interrupted` or `absent`."""
    seconds: float | None = None
    num_bytes: int | None = None
    progress: Mapping[str, Any] | None = None
    """What the interrupted or running stage last told."""


def describe_file(path: Path, *, name: str) -> Artifact:
    """Hash one file.

    Raises:
        ArtifactError: It cannot be read.
    """
    digest = hashlib.sha256()
    try:
        with path.open("rb") as stream:
            while chunk := stream.read(_CHUNK_BYTES):
                digest.update(chunk)
        return Artifact(name, digest.hexdigest(), path.stat().st_size)
    except OSError as error:
        raise ArtifactError(f"{path}: cannot be read: {error.strerror}") from error


def stage_key(
    stage: str, version: int, config: Mapping[str, Any], inputs: Sequence[Artifact]
) -> str:
    """Hash all that decides a stage's output: same key, same output, no need to run.

    Args:
        stage: Its name, such as `10-tokenizer`.
        version: Raised when the stage comes to make something else of the same inputs.
        config: Its part of the recipe, JSON-safe.
        inputs: Every file it reads.
    """
    files = sorted((artifact.path, artifact.sha256) for artifact in inputs)
    return _digest([SCHEMA_VERSION, f"{stage}@{version}", config, files])


def run_stage(
    folder: Path,
    *,
    version: int,
    config: Mapping[str, Any],
    inputs: Sequence[Artifact],
    work: Callable[[Path], Mapping[str, Any]],
) -> tuple[Manifest, bool]:
    """Run `work` in a folder of its own, unless the very same work is already there.

    Args:
        folder: Where the outputs end up; its name is the stage's.
        version: See `stage_key`.
        config: See `stage_key`.
        inputs: See `stage_key`.
        work: Writes its outputs into the folder it is given and returns its metrics. If an
            earlier attempt at the same work was interrupted, that folder still holds what it left.

    Returns:
        The manifest, and whether the stage was skipped.
    """
    key = stage_key(folder.name, version, config, inputs)
    if finished := _finished(folder, key):
        return finished, True
    partial = folder.with_name(folder.name + _PARTIAL)
    if not (partial / _KEY).exists() or (partial / _KEY).read_text() != key:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        write_atomically(partial / _KEY, key)
    started, clock = datetime.now(UTC), time.perf_counter()
    metrics = work(partial)
    manifest = Manifest(
        stage=folder.name,
        stage_version=version,
        key=key,
        config=config,
        inputs=tuple(inputs),
        outputs=tuple(
            describe_file(path, name=f"{folder.name}/{path.relative_to(partial).as_posix()}")
            for path in _files(partial)
            if path.relative_to(partial).parts[0] not in (*_LEFTOVERS, MANIFEST)
        ),
        metrics=metrics,
        environment=environment(),
        started=started.isoformat(timespec="seconds"),
        seconds=round(time.perf_counter() - clock, 2),
    )
    write_manifest(partial, manifest)
    # Only now: a kill before this line must find what the work can be taken up from.
    for leftover in _LEFTOVERS:
        _remove(partial / leftover)
    shutil.rmtree(folder, ignore_errors=True)
    partial.rename(folder)
    return manifest, False


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write a manifest into the folder of what it describes, as a whole or not at all."""
    write_atomically(folder / MANIFEST, _render(manifest))


def read_manifest(folder: Path, stage: str | None = None) -> Manifest:
    """Read a stage's manifest and check that it is the one the stage wrote.

    Args:
        folder: Of the stage.
        stage: Its name; None where the folder has it.

    Raises:
        ArtifactError: It is missing, damaged or edited; names the file and the stage.
    """
    path = folder / MANIFEST
    trouble = ArtifactError(
        f"{path}: the manifest of stage {stage or folder.name} is missing, damaged or was edited; "
        f"remove {folder} and run again"
    )
    try:
        text = path.read_text(encoding="utf-8")
        tree = json.loads(text)
        tree.pop("sha256")
        artifacts = {
            side: tuple(Artifact(**item) for item in tree[side]) for side in ("inputs", "outputs")
        }
        manifest = Manifest(**{**tree, **artifacts})
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise trouble from error
    if _render(manifest) != text or manifest.stage != (stage or folder.name):
        raise trouble
    return manifest


def stage_folders(run: Path) -> list[Path]:
    """List the finished stages of a run, in order."""
    if not run.is_dir():
        return []
    return sorted(
        path for path in run.iterdir() if (path / MANIFEST).is_file() and not _is_partial(path)
    )


def verify_run(run: Path) -> list[Artifact]:
    """Hash every file of a run again and check that each stage read what the earlier ones wrote.

    Args:
        run: Folder of a run, or of a result that belongs to none (stage `ALONE`).

    Returns:
        Every file checked.

    Raises:
        ArtifactError: A file was changed, removed or added, or the chain is broken: names the
            file and its stage.
    """
    if _is_alone(run):
        manifest = read_manifest(run, ALONE)
        _verify_outputs(run, run, manifest)
        return list(manifest.outputs)
    folders = stage_folders(run)
    if not folders:
        raise ArtifactError(f"{run}: no finished stage here; give the folder of a run")
    for path in run.iterdir():
        if path.is_dir() and not _is_partial(path) and path not in folders:
            read_manifest(path)
    manifests = [read_manifest(folder) for folder in folders]
    written = {file.path: file for manifest in manifests for file in manifest.outputs}
    names = {manifest.stage for manifest in manifests}
    for folder, manifest in zip(folders, manifests, strict=True):
        _verify_outputs(run, folder, manifest)
        for given in manifest.inputs:
            inside = given.path.split("/", 1)[0] in names
            if inside and written.get(given.path) != given:
                raise ArtifactError(
                    f"{run / given.path}: stage {manifest.stage} was made from another version of "
                    f"this file; run the recipe again"
                )
        key = stage_key(manifest.stage, manifest.stage_version, manifest.config, manifest.inputs)
        if key != manifest.key:
            raise ArtifactError(f"{folder / MANIFEST}: the key of stage {manifest.stage} is wrong")
    return list(written.values())


def status_of(run: Path, stages: Sequence[str]) -> list[StageStatus]:
    """Say where each of `stages` stands in a run folder."""
    return [_status(run / stage) for stage in stages]


def environment() -> dict[str, str]:
    """What made a file: versions only, nothing that tells whose machine it was."""
    versions = {}
    for package in _PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = "absent"
    return {
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
        **versions,
    }


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def write_atomically(path: Path, text: str) -> None:
    """Write a text file so that it is either there as a whole or not at all."""
    partial = path.with_name(path.name + _PARTIAL)
    with partial.open("w", encoding="utf-8") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
    partial.rename(path)


@contextmanager
def only_one(run: Path) -> Iterator[None]:
    """Hold a run folder for this process alone.

    Raises:
        ResourceError: Another process works in it; names its process id.
    """
    run.mkdir(parents=True, exist_ok=True)
    with (run / _LOCK).open("a+", encoding="utf-8") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            lock.seek(0)
            raise ResourceError(
                f"{run}: process {lock.read().strip()} is working in this run folder; wait for it "
                "or give another folder with --run"
            ) from error
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        yield


def _finished(folder: Path, key: str) -> Manifest | None:
    """The manifest of a finished stage if it fits `key` and its files look whole."""
    if not (folder / MANIFEST).exists():
        return None
    manifest = read_manifest(folder)
    whole = all(
        (path := folder.parent / file.path).is_file() and path.stat().st_size == file.num_bytes
        for file in manifest.outputs
    )
    return manifest if whole and manifest.key == key else None


def _verify_outputs(run: Path, folder: Path, manifest: Manifest) -> None:
    listed = {file.path for file in manifest.outputs}
    for path in _files(folder):
        name = path.relative_to(run).as_posix()
        if name not in listed and path != folder / MANIFEST:
            raise ArtifactError(
                f"{path}: stage {manifest.stage} did not write this file; remove it"
            )
    for file in manifest.outputs:
        path = run / file.path
        if not path.is_file():
            raise ArtifactError(f"{path}: missing; stage {manifest.stage} wrote it; run again")
        if describe_file(path, name=file.path) != file:
            raise ArtifactError(
                f"{path}: changed since stage {manifest.stage} wrote it; "
                f"remove {folder} and run again"
            )


def _status(folder: Path) -> StageStatus:
    if (folder / MANIFEST).exists():
        manifest = read_manifest(folder)
        num_bytes = sum(file.num_bytes for file in manifest.outputs)
        return StageStatus(folder.name, "done", manifest.seconds, num_bytes)
    partial = folder.with_name(folder.name + _PARTIAL)
    if not partial.is_dir():
        return StageStatus(folder.name, "absent")
    progress = None
    if (partial / PROGRESS).exists():
        progress = json.loads((partial / PROGRESS).read_text(encoding="utf-8"))
    return StageStatus(folder.name, "interrupted", progress=progress)


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _is_alone(folder: Path) -> bool:
    try:
        tree = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        return bool(tree["stage"] == ALONE)
    except (OSError, ValueError, LookupError, TypeError):
        return False


def _is_partial(path: Path) -> bool:
    return path.name.endswith(_PARTIAL)


def _render(manifest: Manifest) -> str:
    tree = asdict(manifest)
    return json.dumps({**tree, "sha256": _digest(tree)}, indent=2, ensure_ascii=False) + "\n"


def _digest(tree: object) -> str:
    text = json.dumps(tree, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()
