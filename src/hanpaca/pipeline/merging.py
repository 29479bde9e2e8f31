"""A merge by itself, outside a run: its manifest, which says of what and how it was made."""

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from hanpaca.model.merge import JOURNAL, MergePlan, MergeSummary, run_merge
from hanpaca.runs import ALONE, Manifest, describe_file, environment, stage_key, write_manifest

_VERSION = 1


def merge_alone(
    plan: MergePlan,
    output: Path,
    *,
    hash_content: bool,
    made_of: Mapping[str, Any] | None = None,
    on_bytes: Callable[[int, int], None] = lambda done, total: None,
) -> MergeSummary:
    """Carry a plan out and write a manifest into the result.

    Args:
        plan: From `plan_merge`.
        output: See `run_merge`.
        hash_content: Write the manifest, for which everything read and written is hashed.
        made_of: What else than options and adapters decides the result, for the manifest.
        on_bytes: See `run_merge`.

    Raises:
        ArtifactError: See `run_merge`.
        ResourceError: See `run_merge`.
    """
    started = datetime.now(UTC)

    def finish(folder: Path) -> None:
        if hash_content:
            write_manifest(folder, _manifest(plan, folder, started, made_of or {}))

    return run_merge(plan, output, on_bytes=on_bytes, finish=finish)


def _manifest(
    plan: MergePlan, folder: Path, started: datetime, made_of: Mapping[str, Any]
) -> Manifest:
    own = plan.tokenizer is not None and plan.tokenizer != plan.base.side  # else in the GGUF file
    tokenizer = list(plan.tokenizer.glob("tokenizer*")) if plan.tokenizer and own else []
    given = {str(file): file for file in [*plan.files, *tokenizer] if file.is_file()}
    made = {file.name: file for file in folder.iterdir() if file.name != JOURNAL}
    with ThreadPoolExecutor(2) as pool:
        inputs = tuple(pool.map(lambda name: describe_file(given[name], name=name), sorted(given)))
        outputs = tuple(pool.map(lambda name: describe_file(made[name], name=name), sorted(made)))
    adapters = [str(one.folder) for one in plan.adapters]
    config = {**asdict(plan.options), "adapters": adapters, **made_of}
    return Manifest(
        stage=ALONE,
        stage_version=_VERSION,
        key=stage_key(ALONE, _VERSION, config, inputs),
        config=config,
        inputs=inputs,
        outputs=outputs,
        metrics={"num_tensors": len(plan.tensors), "num_changed": plan.num_changed},
        environment=environment(),
        started=started.isoformat(timespec="seconds"),
        seconds=round((datetime.now(UTC) - started).total_seconds(), 2),
    )
