"""Run a recipe: every stage in order, resuming what was interrupted."""

import html
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from hanpaca.errors import ArtifactError, HanpacaError, ResourceError
from hanpaca.evals.results import RunResult, read_results
from hanpaca.files import Artifact, locked
from hanpaca.manifests import MANIFEST, Manifest, read_manifest
from hanpaca.progress import Progress, Tell, silent
from hanpaca.runs import layout
from hanpaca.runs.base import resolve_base
from hanpaca.runs.folder import (
    StageStatus,
    run_stage,
    status_of,
    verify_run,
    write_stage_list,
)
from hanpaca.runs.layout import TOKENIZER, Job
from hanpaca.runs.materials import (
    external_inputs,
    preference_inputs,
    rows_inputs,
    tokenizer_inputs,
)
from hanpaca.runs.plan import estimate
from hanpaca.runs.recipe import load_recipe
from hanpaca.runs.recipe_keys import all_keys
from hanpaca.runs.stages import STAGES, Stage, stages_of
from hanpaca.settings import Recipe
from hanpaca.together import together


@dataclass(frozen=True)
class Run:
    """A run folder; in a notebook it shows its results, or how far it has come."""

    folder: Path

    @property
    def stages(self) -> list[StageStatus]:
        """Where each stage stands."""
        return status_of(self.folder, [stage.name for stage in STAGES])

    @property
    def results(self) -> RunResult:
        """What the evaluation measured.

        Raises:
            ArtifactError: It was not done yet, or its file is damaged.
        """
        return read_results(self.folder / layout.EVAL / layout.RESULTS)

    def verify(self) -> list[Artifact]:
        """Hash every file again and check the chain from stage to stage.

        Returns:
            Every file checked.

        Raises:
            ArtifactError: A file was changed, removed or added; names it and its stage.
        """
        return verify_run(self.folder)

    def _repr_html_(self) -> str:
        report = self.folder / layout.EVAL / layout.REPORT
        if report.is_file():
            return report.read_text(encoding="utf-8")
        rows = "".join(
            f"<tr><td>{html.escape(one.stage)}</td><td>{html.escape(one.state)}</td></tr>"
            for one in self.stages
        )
        return f"<table>{rows}</table>"


@together
def run(
    recipe: Recipe | Path | str,
    folder: Path | str | None = None,
    *,
    overrides: Sequence[str] = (),
    tell: Tell = silent,
) -> Run:
    """Run a recipe from text to report; what is done is skipped, what was interrupted resumed.

    ```python
    found = run("recipe.yaml", overrides=["pretrain.num_tokens=1_000_000"], tell=print)
    found.results, found.verify()
    ```

    Args:
        recipe: A recipe, or the YAML file of one.
        folder: The run folder; `runs/NAME` of the recipe's name where None.
        overrides: `section.key=value` texts, for a recipe that is read here.
        tell: Called with signs of life.

    Raises:
        RecipeError: The recipe is wrong: every fault is told at once.
        HanpacaError: Any deliberate error of a stage; running again goes on from there.
    """
    read = recipe if isinstance(recipe, Recipe) else load_recipe(Path(recipe), overrides)
    place = Path("runs") / read.name if folder is None else Path(folder)
    run_recipe(read, place, tell=tell)
    return Run(place)


def run_recipe(recipe: Recipe, run: Path, *, tell: Tell = silent) -> list[tuple[Manifest, bool]]:
    """Run every stage of a recipe that has not been run with these very inputs and settings.

    Args:
        recipe: The choices.
        run: The run folder; made if it is not there.
        tell: Called with signs of life.

    Returns:
        Each stage's manifest, and whether it was skipped.

    Raises:
        ArtifactError: The folder holds a stage that the recipe leaves out; nothing is begun.
        ResourceError: The disk is too small for what is left to do; nothing is begun.
        HanpacaError: Any deliberate error of a stage; what was done so far is kept, and running
            again goes on from there.
    """
    with locked(run):
        _check_stages(recipe, run)
        _check_disk(recipe, run)
        write_stage_list(run, [stage.name for stage in stages_of(recipe)])
        folder, base_inputs = resolve_base(
            recipe, lambda text: tell(Progress(0, note=text, stage="base"))
        )
        job = Job(recipe, run, folder, tell)
        return [_run(stage, job, base_inputs) for stage in stages_of(recipe)]


def _run(stage: Stage, job: Job, base_inputs: Sequence[Artifact]) -> tuple[Manifest, bool]:
    def tell(progress: Progress) -> None:
        job.tell(replace(progress, stage=stage.name))

    tell(Progress(0, 1, note="starting"))
    try:
        manifest, skipped = run_stage(
            job.stage(stage.name),
            version=stage.version,
            config=stage.config(job.recipe),
            inputs=_inputs(job, stage, base_inputs),
            work=partial(stage.work, replace(job, tell=tell)),
        )
    except HanpacaError as error:
        if not error.advice:
            raise
        raise error.naming(partial(recipe_key, section=stage.section)) from error
    tell(Progress(1, 1, note="already done" if skipped else "done"))
    return manifest, skipped


def recipe_key(setting: str, *, section: str) -> str:
    """What a recipe calls a setting: in the section of the stage, or the one section that has it.

    >>> recipe_key("rank", section="sft"), recipe_key("encoding", section="sft")
    ('sft.lora.rank', 'data.encoding')
    >>> recipe_key("output", section="sft"), recipe_key("cores", section="sft")
    ('rows.output', '{cores}')
    """
    paths = [key.path for key in all_keys() if key.name == setting and key.section is None]
    own = [path for path in paths if path.startswith(f"{section}.")]
    found = own or paths
    return found[0] if len(found) == 1 else f"{{{setting}}}"


def _check_stages(recipe: Recipe, run: Path) -> None:
    for name in layout.EVERY:
        if not layout.in_recipe(name, recipe) and (run / name).exists():
            raise ArtifactError(
                f"{run / name}: the recipe leaves this stage out, but it was run here",
                "give another {run}, or remove this folder",
            )


def _check_disk(recipe: Recipe, run: Path) -> None:
    sizes = estimate(recipe).disk_bytes
    needed = sum(size for name, size in sizes.items() if not (run / name / MANIFEST).exists())
    free = shutil.disk_usage(run).free
    if needed > free:
        raise ResourceError(
            f"{run}: about {needed / 1e9:.2f} GB of disk are needed, {free / 1e9:.2f} GB are free",
            "make room, or give a {run} on another disk",
        )


def _inputs(job: Job, stage: Stage, base_inputs: Sequence[Artifact]) -> list[Artifact]:
    if not stage.reads:
        return external_inputs(job.recipe)
    earlier = [
        artifact
        for name in layout.read_in(job.recipe, stage.reads)
        for artifact in read_manifest(job.stage(name)).outputs
    ]
    own = {
        TOKENIZER: tokenizer_inputs,
        layout.BASE: rows_inputs,
        layout.DPO: preference_inputs,
    }.get(stage.name)
    return [*base_inputs, *earlier, *(own(job.recipe) if own else [])]
