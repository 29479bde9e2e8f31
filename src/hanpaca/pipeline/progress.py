"""From training progress to what the command line and `status` show."""

import json
from collections.abc import Callable
from pathlib import Path

from hanpaca.pipeline.job import Job, Update
from hanpaca.runs import PROGRESS, write_atomically
from hanpaca.training.journal import Progress


def training_progress(job: Job, stage: str, folder: Path) -> Callable[[Progress, str | None], None]:
    """Tell each step, and keep the last one where `hanpaca status` finds it."""

    def tell(progress: Progress, sample: str | None) -> None:
        row = {
            "step": progress.step,
            "num_steps": progress.num_steps,
            "tokens_per_second": round(progress.tokens_per_second, 1),
            "seconds_left": round(progress.seconds_left),
        }
        write_atomically(folder / PROGRESS, json.dumps(row))
        job.tell(
            Update(
                stage,
                f"step {progress.step}/{progress.num_steps}, loss {progress.loss:.2f}, "
                f"{progress.tokens_per_second:.0f} tokens/s",
                fraction=progress.step / progress.num_steps,
                seconds_left=progress.seconds_left,
                sample=sample,
            )
        )

    return tell


def bytes_progress(job: Job, stage: str, doing: str) -> Callable[[int, int], None]:
    """Tell how much of a file is written."""

    def tell(done: int, total: int) -> None:
        job.tell(Update(stage, f"{doing}: {done / 1e6:.0f} of {total / 1e6:.0f} MB", done / total))

    return tell
