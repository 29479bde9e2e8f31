"""Run folders: where a stage writes, and the proof of what it wrote.

A stage works in `<run>/<stage>.partial`. The folder gets its name only once its manifest is
written, so a folder without `.partial` is always whole. A manifest names every file the stage
read and wrote with its hash, and ends with a hash of itself: one changed byte anywhere in the run
folder is found and its stage named.
"""

import json
import re
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from hanpaca.errors import ArtifactError
from hanpaca.files import (
    CHECKPOINTS,
    KEY,
    LOCK,
    PARTIAL,
    Artifact,
    describe_file,
    is_locked,
    locked,
    parse_json,
    remove,
    write_atomically,
)
from hanpaca.manifests import (
    ALONE,
    GROWN,
    MANIFEST,
    PRUNED,
    Manifest,
    environment,
    read_manifest,
    stage_folders,
    stage_key,
    write_manifest,
)

STAGE_LIST = "stages.json"
"""In a run folder: the stages of its recipe, for `status_of`."""
PROGRESS = "progress.json"
"""In the folder of a stage at work: how far it has come, for `status_of`."""
_LEFTOVERS = (CHECKPOINTS, PROGRESS, KEY, LOCK)
_STAGE = re.compile(r"\d\d-\w+")


@dataclass(frozen=True, slots=True)
class StageStatus:
    """Where one stage of a run stands."""

    stage: str
    state: str
    """`done`, `running`, `interrupted` or `absent`."""
    seconds: float | None = None
    num_bytes: int | None = None
    progress: Mapping[str, Any] | None = None
    """What the interrupted or running stage last told."""


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
    partial = folder.with_name(folder.name + PARTIAL)
    with locked(partial):
        _keep_only_of(partial, key)
        started, clock = datetime.now(UTC), time.perf_counter()
        metrics = work(partial)
        manifest = Manifest(
            stage=folder.name,
            stage_version=version,
            key=key,
            config=config,
            inputs=tuple(inputs),
            outputs=tuple(_outputs(folder.name, partial)),
            metrics=metrics,
            environment=environment(),
            started=started.isoformat(timespec="seconds"),
            seconds=round(time.perf_counter() - clock, 2),
        )
        write_manifest(partial, manifest)
        # Only now: a kill before this line must find what the work can be taken up from.
        for leftover in _LEFTOVERS:
            remove(partial / leftover)
            remove(partial / (leftover + PARTIAL))
        shutil.rmtree(folder, ignore_errors=True)  # whole or not, its key is another
        partial.rename(folder)
    return manifest, False


def verify_run(run: Path) -> list[Artifact]:
    """Hash every file of a run again and check that each stage read what the earlier ones wrote.

    Args:
        run: Folder of a run, or of a result that belongs to none (stage `ALONE`,
            `GROWN` or `PRUNED`).

    Returns:
        Every file checked.

    Raises:
        ArtifactError: A file was changed, removed or added, or the chain is broken: names the
            file and its stage.
    """
    if (run / MANIFEST).exists():
        if _STAGE.fullmatch(run.absolute().name) and (run.absolute().parent / LOCK).exists():
            raise ArtifactError(f"{run}: one stage of a run; give the folder of the run")
        manifest = read_manifest(run, _step_of(run))
        _verify_outputs(run, run, manifest)
        return list(manifest.outputs)
    manifests = {folder: read_manifest(folder) for folder in _stages_in(run)}
    written = {file.path: file for manifest in manifests.values() for file in manifest.outputs}
    names = {manifest.stage for manifest in manifests.values()}
    for folder, manifest in manifests.items():
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
    """Say where each stage of a run stands.

    Args:
        run: Its folder, which lists the stages of its recipe.
        stages: Those of a folder without such a list.
    """
    try:
        listed = json.loads((run / STAGE_LIST).read_bytes())
    except (OSError, ValueError, RecursionError):
        listed = None
    if not isinstance(listed, list) or not all(_is_stage(one) for one in listed):
        listed = list(stages)
    return [_status(run / stage) for stage in listed]


def _is_stage(name: object) -> bool:
    return isinstance(name, str) and _STAGE.fullmatch(name) is not None


def write_stage_list(run: Path, stages: Sequence[str]) -> None:
    """Keep which stages a run has, for `status_of`."""
    write_atomically(run / STAGE_LIST, json.dumps(list(stages)))


def _keep_only_of(partial: Path, key: str) -> None:
    """Clear a folder of what other work left in it."""
    mark = partial / KEY
    if mark.exists() and mark.read_text(encoding="utf-8") == key:
        return
    for path in partial.iterdir():
        if path.name != LOCK:
            remove(path)
    write_atomically(mark, key)


def _outputs(stage: str, partial: Path) -> list[Artifact]:
    left = {*_LEFTOVERS, MANIFEST}
    return [
        describe_file(path, name=f"{stage}/{path.relative_to(partial).as_posix()}")
        for path in _files(partial)
        if path.relative_to(partial).parts[0].removesuffix(PARTIAL) not in left
    ]


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


def _step_of(folder: Path) -> str:
    """The step that made a result outside any run."""
    try:
        stage = parse_json((folder / MANIFEST).read_bytes(), MANIFEST).get("stage")
    except (OSError, ArtifactError):
        return ALONE
    return stage if stage in (GROWN, PRUNED) else ALONE


def _stages_in(run: Path) -> list[Path]:
    """Every folder of a stage, its manifest there or not; nothing else may lie between them.

    Raises:
        ArtifactError: There is none.
    """
    folders = [path for path in sorted(run.glob("*/")) if not path.name.endswith(PARTIAL)]
    if not stage_folders(run) and not any(_STAGE.fullmatch(path.name) for path in folders):
        raise ArtifactError(
            f"{run}: no finished stage here and no {MANIFEST}; give the folder of a run"
        )
    return folders


def _status(folder: Path) -> StageStatus:
    partial = folder.with_name(folder.name + PARTIAL)
    running = is_locked(partial)
    if not running and (folder / MANIFEST).exists():
        manifest = read_manifest(folder)
        num_bytes = sum(file.num_bytes for file in manifest.outputs)
        return StageStatus(folder.name, "done", manifest.seconds, num_bytes)
    if not partial.is_dir():
        return StageStatus(folder.name, "absent")
    state = "running" if running else "interrupted"
    return StageStatus(folder.name, state, progress=_progress(partial / PROGRESS))


def _progress(file: Path) -> Mapping[str, Any] | None:
    """What was told last; None before the first word, and where a new one just takes its place."""
    try:
        return parse_json(file.read_bytes(), str(file))
    except (OSError, ArtifactError):
        return None


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())
