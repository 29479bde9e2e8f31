"""Run folders: where a stage writes, and the proof of what it wrote.

A stage works in `<run>/NN-name.partial`; the folder gets its own name only when its manifest is
written, so a folder without a suffix is always whole. Every path in a manifest is relative: to
the run folder for what stages made, as the recipe writes it for what came from outside.
"""

import contextlib
import fcntl
import hashlib
import importlib.metadata
import json
import logging
import os
import platform
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from hanpaca.errors import ArtifactError, ResourceError

MANIFEST = "manifest.json"
CHECKPOINTS = "checkpoints"
PROGRESS = "progress.json"
LOCK = "run.lock"
SCHEMA_VERSION = 1

_KEY = "stage.key"
_PARTIAL, _OLD = ".partial", ".old"
_DIGEST = "manifest_sha256"
_PACKAGES = (
    "hanpaca torch transformers peft accelerate tokenizers safetensors numpy gguf xllamacpp "
    "pydantic pyyaml"
).split()

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Artifact:
    """A file, by content. `external` says that no stage of the run made it."""

    path: str
    sha256: str
    num_bytes: int
    external: bool = False


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a stage was given, and what it made of it; `seconds` counts its last attempt."""

    schema_version: int
    stage: str
    stage_version: int
    key: str
    config: Mapping[str, Any]
    inputs: Mapping[str, tuple[Artifact, ...]]
    outputs: tuple[Artifact, ...]
    metrics: Mapping[str, Any]
    environment: Mapping[str, Any]
    started: str
    seconds: float


@dataclass(frozen=True, slots=True)
class StageOutcome:
    """What `run_stage` did: `skipped` where the same work was already there."""

    manifest: Manifest
    skipped: bool


@dataclass(frozen=True, slots=True)
class Checked:
    """A file that `verify_run` looked at; only an external input may be `not present`."""

    stage: str
    artifact: Artifact
    state: Literal["unchanged", "not present"]


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a stage is: `rate` in steps a second."""

    step: int
    num_steps: int
    rate: float
    seconds_left: float


@dataclass(frozen=True, slots=True)
class StageStatus:
    """A stage as `hanpaca status` shows it; `started` is UTC, `num_bytes` all its files."""

    stage: str
    state: Literal["done", "partial", "absent"]
    started: str | None = None
    seconds: float | None = None
    num_bytes: int = 0
    progress: Progress | None = None


def describe_file(path: Path, *, name: str) -> Artifact:
    """Hash a file that comes from outside the run.

    Args:
        path: Where it is now.
        name: How the manifest calls it: as the recipe does, never by an absolute path.

    Raises:
        ArtifactError: It cannot be read.
    """
    return Artifact(name, *_hash(path), external=True)


def _hash(path: Path) -> tuple[str, int]:
    try:
        with path.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
            return digest, os.fstat(stream.fileno()).st_size
    except OSError as error:
        raise ArtifactError(f"{path}: cannot be read: {error.strerror}") from error


def stage_key(
    stage: str,
    *,
    version: int,
    config: Mapping[str, Any],
    inputs: Mapping[str, Sequence[Artifact]],
) -> str:
    """Hash all that decides a stage's output: the same key needs no second run.

    Args:
        stage: Name of the stage, `10-tokenizer`.
        version: Raised by whoever changes what the stage makes of the same inputs.
        config: The choices it depends on, JSON-safe.
        inputs: Role -> files; their order counts, their names do not.

    Returns:
        64 hexadecimal digits.
    """
    hashes = {role: [artifact.sha256 for artifact in files] for role, files in inputs.items()}
    text = json.dumps([f"{stage}@{version}", config, hashes], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def run_stage(
    folder: Path,
    *,
    config: Mapping[str, Any],
    inputs: Mapping[str, Sequence[Artifact]],
    version: int,
    work: Callable[[Path], Mapping[str, Any]],
) -> StageOutcome:
    """Run `work` in a folder of its own, unless the very same work is already there.

    Args:
        folder: Where the outputs end up, `<run>/NN-name`.
        config: The stage's choices, JSON-safe.
        inputs: Role -> every file that `work` reads in that role.
        version: See `stage_key`.
        work: Writes into the folder it is given, and returns its metrics, JSON-safe. After an
            interruption it gets the same folder again, with all that it had written. What it
            leaves under `checkpoints/` is deleted when it is done.

    Returns:
        The manifest as it stands in `folder`, and whether the work was skipped.
    """
    key = stage_key(folder.name, version=version, config=config, inputs=inputs)
    partial = _beside(folder, _PARTIAL)
    _put_back(folder)
    if done := _same_work(folder, key):
        return StageOutcome(done, skipped=True)
    if done := _same_work(partial, key):  # it was interrupted just before its last step
        _publish(partial, folder)
        return StageOutcome(done, skipped=True)
    _prepare(partial, key)
    started, clock = datetime.now(UTC), time.monotonic()
    metrics = json.loads(json.dumps(work(partial)))  # not JSON-safe: say so before tidying up
    seconds = round(time.monotonic() - clock, 3)
    manifest = Manifest(
        schema_version=SCHEMA_VERSION,
        stage=folder.name,
        stage_version=version,
        key=key,
        config=config,
        inputs={role: tuple(files) for role, files in inputs.items()},
        outputs=_tidy_and_hash(partial, stage=folder.name),
        metrics=metrics,
        environment=environment(),
        started=started.isoformat(timespec="seconds"),
        seconds=seconds,
    )
    write_atomically(partial / MANIFEST, _render(manifest))
    _publish(partial, folder)
    return StageOutcome(read_manifest(folder), skipped=False)


def _beside(folder: Path, suffix: str) -> Path:
    return folder.with_name(folder.name + suffix)


def _put_back(folder: Path) -> None:
    """Mend what an interruption between the two renames of `_publish` leaves."""
    old = _beside(folder, _OLD)
    if old.exists() and folder.exists():
        shutil.rmtree(old)
    elif old.exists():
        old.rename(folder)


def _same_work(folder: Path, key: str) -> Manifest | None:
    """The manifest, if the folder holds this work, whole. Sizes only: hashing is `verify_run`'s."""
    if not (folder / MANIFEST).exists():
        return None
    try:
        manifest = read_manifest(folder)
    except ArtifactError as error:
        _log.warning("%s; the stage is done again", error)
        return None
    if manifest.key != key:
        return None
    for output in manifest.outputs:
        path = folder / PurePosixPath(output.path).relative_to(manifest.stage)
        if not path.is_file() or path.stat().st_size != output.num_bytes:
            _log.warning("%s: is missing or of another size; the stage is done again", path)
            return None
    return manifest


def _prepare(partial: Path, key: str) -> None:
    mark = partial / _KEY
    if not (mark.is_file() and mark.read_bytes() == key.encode()):
        if partial.exists():
            shutil.rmtree(partial)
        partial.mkdir(parents=True)
        write_atomically(mark, key)


def _tidy_and_hash(partial: Path, *, stage: str) -> tuple[Artifact, ...]:
    if (partial / CHECKPOINTS).exists():
        shutil.rmtree(partial / CHECKPOINTS)
    for name in (PROGRESS, _KEY, MANIFEST):
        (partial / name).unlink(missing_ok=True)
    outputs = []
    for path in _files(partial):
        with path.open("rb") as stream:
            os.fsync(stream.fileno())  # a manifest must never outlive what it lists
        name = PurePosixPath(stage) / path.relative_to(partial).as_posix()
        outputs.append(Artifact(str(name), *_hash(path)))
    return tuple(outputs)


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if not path.is_dir())


def _publish(partial: Path, folder: Path) -> None:
    old = _beside(folder, _OLD)
    if folder.exists():
        folder.rename(old)
    partial.rename(folder)
    _sync_folder(folder.parent)
    if old.exists():
        shutil.rmtree(old)


def write_atomically(path: Path, content: bytes | str) -> None:
    """Write a file so that a reader, or a crash, sees the old content or the new, never a part."""
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        with temporary.open("wb") as stream:
            stream.write(content.encode() if isinstance(content, str) else content)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _render(manifest: Manifest) -> str:
    return _with_digest(asdict(manifest))


def _with_digest(tree: Mapping[str, Any]) -> str:
    rest = {name: value for name, value in tree.items() if name != _DIGEST}
    digest = hashlib.sha256(json.dumps(rest).encode()).hexdigest()
    return json.dumps({**rest, _DIGEST: digest}, indent=2, ensure_ascii=False) + "\n"


def read_manifest(folder: Path) -> Manifest:
    """Read the manifest of a stage, which carries a digest of itself as its last line.

    Raises:
        ArtifactError: It is missing, damaged or edited, of another version, or of another stage.
    """
    path = folder / MANIFEST
    stage = folder.name.removesuffix(_PARTIAL)
    redo = f"delete the folder {folder.name} and run stage {stage} again"
    try:
        content = path.read_bytes()
        tree = json.loads(content)
        # Compared as bytes: a changed space is a change, too.
        whole = isinstance(tree, dict) and _with_digest(tree).encode() == content
    except FileNotFoundError as error:
        raise ArtifactError(f"{path}: is missing, so stage {stage} is not whole; {redo}") from error
    except ValueError:
        whole = False
    if not whole:
        raise ArtifactError(f"{path}: the manifest of stage {stage} was damaged or edited; {redo}")
    if tree.get("schema_version") != SCHEMA_VERSION:
        raise ArtifactError(f"{path}: was written by another version of hanpaca; {redo}")
    manifest = _from_tree(tree)
    key = stage_key(
        stage, version=manifest.stage_version, config=manifest.config, inputs=manifest.inputs
    )
    if manifest.stage != stage or manifest.key != key:
        raise ArtifactError(f"{path}: its key is not that of stage {stage}; {redo}")
    return manifest


def _from_tree(tree: Mapping[str, Any]) -> Manifest:
    rest = {name: value for name, value in tree.items() if name != _DIGEST}
    inputs = {role: tuple(Artifact(**a) for a in files) for role, files in tree["inputs"].items()}
    outputs = tuple(Artifact(**artifact) for artifact in tree["outputs"])
    return Manifest(**{**rest, "inputs": inputs, "outputs": outputs})


def environment() -> dict[str, Any]:
    """Say what the numbers depend on beside recipe and data; nothing that names a machine."""
    packages = {}
    for name in _PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            packages[name] = importlib.metadata.version(name)
    system = f"{platform.system()} {platform.machine()}"
    return {"python": platform.python_version(), "platform": system, "packages": packages}


def stage_folders(run: Path) -> list[Path]:
    """List the finished stages of a run, in order.

    Raises:
        ArtifactError: There is no such run folder.
    """
    if not run.is_dir():
        raise ArtifactError(f"{run}: there is no run folder here")
    folders = (path for path in run.iterdir() if path.is_dir())
    return sorted(path for path in folders if path.suffix not in (_PARTIAL, _OLD))


def artifacts_of(run: Path, stage: str) -> tuple[Artifact, ...]:
    """Give the outputs of a finished stage, to be the inputs of another."""
    return read_manifest(run / stage).outputs


@contextlib.contextmanager
def lock_run(run: Path) -> Iterator[None]:
    """Hold a run folder alone; the lock ends with the process, however it ends.

    Raises:
        ResourceError: Another process is at work in it.
    """
    run.mkdir(parents=True, exist_ok=True)
    with (run / LOCK).open("a+") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            stream.seek(0)
            raise ResourceError(
                f"{run}: process {stream.read()} is at work here; wait until it is done, or stop it"
            ) from error
        stream.truncate(0)
        stream.write(str(os.getpid()))
        stream.flush()
        try:
            yield
        finally:
            stream.truncate(0)
