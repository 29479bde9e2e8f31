"""40-merged: the pretraining adapter folded into its base."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hanpaca.model.merge import PARTIAL, MergeSummary, merge_adapters
from hanpaca.pipeline import base, pretrain, stages
from hanpaca.pipeline.job import Job
from hanpaca.pipeline.progress import bytes_progress

NAME = stages.MERGED


def work(job: Job, folder: Path) -> Mapping[str, Any]:
    """Merge the model of 20-base with the adapter of 30-pretrain."""
    return merge_into(job, NAME, job.stage(base.NAME), job.stage(pretrain.NAME), folder)


def merge_into(job: Job, stage: str, model: Path, adapter: Path, folder: Path) -> dict[str, Any]:
    """Merge into an existing stage folder."""
    output = folder / "merging"
    for left in (output, output.with_name(f"{output.name}{PARTIAL}")):
        shutil.rmtree(left, ignore_errors=True)
    summary = merge_adapters(
        model, [adapter], output, measure=True, on_bytes=bytes_progress(job, stage, "merging")
    )
    for file in output.iterdir():
        file.rename(folder / file.name)
    output.rmdir()
    return merge_metrics(summary)


def merge_metrics(summary: MergeSummary) -> dict[str, Any]:
    """What of a merge is worth keeping."""
    return {
        "num_tensors": summary.num_tensors,
        "num_changed": summary.num_changed,
        "largest_change": {name: round(value, 6) for name, value in summary.largest_change.items()},
    }
