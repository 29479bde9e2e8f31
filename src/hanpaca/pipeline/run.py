"""Run a recipe: every stage in order, resuming what was interrupted."""

import shutil
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from hanpaca.errors import ResourceError
from hanpaca.pipeline import data
from hanpaca.pipeline.job import Job, Update
from hanpaca.pipeline.plan import estimate
from hanpaca.pipeline.source import resolve_base
from hanpaca.pipeline.stages import STAGES, Stage
from hanpaca.recipe import Recipe
from hanpaca.runs import MANIFEST, Artifact, Manifest, only_one, read_manifest, run_stage


def run_recipe(
    recipe: Recipe, run: Path, *, tell: Callable[[Update], None]
) -> list[tuple[Manifest, bool]]:
    """Run every stage that has not been run with these very inputs and settings.

    Args:
        recipe: The choices.
        run: The run folder; made if it is not there.
        tell: Called with signs of life.

    Returns:
        Each stage's manifest, and whether it was skipped.

    Raises:
        ResourceError: The disk is too small for what is left to do; nothing is begun.
        HanpacaError: Any deliberate error of a stage; what was done so far is kept, and running
            again goes on from there.
    """
    with only_one(run):
        _check_disk(recipe, run)
        folder, base_inputs = resolve_base(recipe, lambda text: tell(Update("base", text)))
        job = Job(recipe, run, folder, tell)
        outcomes = []
        for stage in STAGES:
            tell(Update(stage.name, "starting", 0.0))
            outcome = run_stage(
                run / stage.name,
                version=stage.version,
                config=stage.section(recipe),
                inputs=_inputs(job, stage, base_inputs),
                work=partial(stage.work, job),
            )
            tell(Update(stage.name, "already done" if outcome[1] else "done", 1.0))
            outcomes.append(outcome)
        return outcomes


def _check_disk(recipe: Recipe, run: Path) -> None:
    sizes = estimate(recipe).disk_bytes
    needed = sum(size for name, size in sizes.items() if not (run / name / MANIFEST).exists())
    free = shutil.disk_usage(run).free
    if needed > free:
        raise ResourceError(
            f"{run}: about {needed / 1e9:.2f} GB of disk are needed and {free / 1e9:.2f} GB are "
            "free; make room, or give a folder on another disk with --run"
        )


def _inputs(job: Job, stage: Stage, base_inputs: Sequence[Artifact]) -> list[Artifact]:
    if not stage.reads:
        return data.external_inputs(job.recipe)
    earlier = [
        artifact for name in stage.reads for artifact in read_manifest(job.stage(name)).outputs
    ]
    return [*base_inputs, *earlier]
