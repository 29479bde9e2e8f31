"""Commands on whole runs: init, run, plan, status, verify."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from hanpaca.cli.display import StageDisplay, minutes, print_table
from hanpaca.errors import ArtifactError, RecipeError
from hanpaca.recipe import load_recipe, recipe_template
from hanpaca.runs import status_of, verify_run, write_atomically

RecipePath = Annotated[Path, typer.Argument(metavar="RECIPE", help="The recipe, a YAML file.")]
RunPath = Annotated[Path, typer.Argument(metavar="RUN", help="The folder of a run.")]
Overrides = Annotated[
    list[str] | None, typer.Argument(help="Overrides, such as sft.num_tokens=100000.")
]
RunOption = Annotated[
    Path | None, typer.Option("--run", help="Run folder; runs/NAME when not given.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")]


def init(
    path: Annotated[Path, typer.Argument(help="Where to write the recipe.")] = Path("recipe.yaml"),
) -> None:
    """Write a commented recipe for your own base, text and instructions."""
    if path.exists():
        raise RecipeError(f"{path}: already exists; give another name")
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, recipe_template())
    print(f"{path} written; edit it, then: hanpaca plan {path}")


def run(recipe: RecipePath, overrides: Overrides = None, run: RunOption = None) -> None:
    """Run every stage of a recipe; what is done is skipped, what was interrupted resumed."""
    settings = load_recipe(recipe, overrides or [])
    folder = run or Path("runs") / settings.name
    from hanpaca.pipeline.plan import estimate_seconds

    with StageDisplay(estimate_seconds(settings)) as display:
        from hanpaca.pipeline.run import run_recipe

        run_recipe(settings, folder, tell=display.tell)
    _show_results(folder)


def plan(recipe: RecipePath, overrides: Overrides = None, as_json: AsJson = False) -> None:
    """Show what would run: stages, time, memory and disk."""
    from hanpaca.pipeline.plan import estimate

    settings = load_recipe(recipe, overrides or [])
    found = estimate(settings)
    if as_json:
        print(json.dumps(asdict(found), indent=2))
        return
    print_table(
        ("stage", "time", "disk MB"),
        [
            (name, minutes(found.seconds[name]), f"{found.disk_bytes[name] / 1e6:.0f}")
            for name in found.seconds
        ],
    )
    print(
        f"In all about {minutes(sum(found.seconds.values()))} min on {found.num_cores} cores, "
        f"{found.memory_bytes / 1e9:.1f} GB of memory, "
        f"{sum(found.disk_bytes.values()) / 1e9:.1f} GB of disk."
    )
    for note in found.notes:
        print(note)


def status(run: RunPath, as_json: AsJson = False) -> None:
    """Show where each stage of a run stands."""
    from hanpaca.pipeline.plan import STAGE_NAMES

    if not run.is_dir():
        raise ArtifactError(f"{run}: no such folder; give the folder of a run")
    found = status_of(run, STAGE_NAMES)
    if as_json:
        print(json.dumps([asdict(one) for one in found], indent=2))
        return
    rows = []
    for one in found:
        progress = one.progress or {}
        doing = (
            f"step {progress['step']}/{progress['num_steps']}" if "step" in progress else one.state
        )
        seconds = minutes(one.seconds) if one.seconds is not None else "–"
        size = f"{one.num_bytes / 1e6:.0f}" if one.num_bytes is not None else "–"
        rows.append((one.stage, doing, seconds, size))
    print_table(("stage", "state", "time", "MB"), rows)


def verify(run: RunPath) -> None:
    """Hash every file of a run again and check the chain from stage to stage."""
    checked = verify_run(run)
    num_bytes = sum(artifact.num_bytes for artifact in checked)
    print(f"{run}: {len(checked)} files, {num_bytes / 1e6:.0f} MB: unchanged, and the chain holds.")


def _show_results(folder: Path) -> None:
    from hanpaca.evals.results import read_results
    from hanpaca.evals.table import result_rows

    evaluation = folder / "80-eval"
    result = read_results(evaluation / "results.json")
    print_table(*result_rows(result))
    for goal in result.goals:
        mark = "met   " if goal.met else "MISSED"
        print(
            f"{mark} {goal.name} {goal.measured:.2f}{goal.unit} "
            f"({goal.comparison} {goal.bound:g}{goal.unit})"
        )
    print(
        f"\nNext:\n  hanpaca chat {folder}\n  open {evaluation / 'report.html'}\n"
        f"  hanpaca verify {folder}"
    )
