"""Commands on whole runs: init, run, plan, status, verify."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Literal

import typer

from hanpaca.cli.display import StageDisplay, megabytes, minutes, print_table
from hanpaca.cli.words import word
from hanpaca.errors import ArtifactError, RecipeError
from hanpaca.files import write_atomically
from hanpaca.runs.folder import status_of, verify_run
from hanpaca.runs.recipe import load_recipe, parse_recipe
from hanpaca.runs.recipe_pages import EDIT, recipe_template, settings_of

RecipePath = Annotated[
    Path,
    typer.Argument(metavar="RECIPE", help="A YAML file, or a recipe of the package: quickstart."),
]
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
    budget: Annotated[
        Literal["quickstart", "evening", "gpu"] | None,
        typer.Option(
            help="Settings for ten minutes or two hours of two cores, or for an hour of a GPU."
        ),
    ] = None,
    language: Annotated[
        str | None, typer.Option(help="The new language, as a BCP 47 tag, such as th.")
    ] = None,
    stage: Annotated[
        list[str] | None,
        typer.Option(
            help="tokenizer, pretrain, sft or dpo, repeatable; the first three when not given."
        ),
    ] = None,
) -> None:
    """Write a commented recipe for your own base, text and instructions."""
    if path.exists():
        raise RecipeError(f"{path}: already exists; give another name")
    values = settings_of(load_recipe(budget), language) if budget else {}
    values |= {"language": language} if language else {}
    text = recipe_template(values, **({"sections": stage} if stage else {}))
    parse_recipe(text, str(path))
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, text)
    places = [str(place) for place, line in enumerate(text.splitlines(), 1) if EDIT in line]
    marked = ", ".join(places)
    print(
        word(f"{path} written; edit the lines marked {EDIT} ({marked}), then: hanpaca plan {path}")
    )


def run(recipe: RecipePath, overrides: Overrides = None, run: RunOption = None) -> None:
    """Run every stage of a recipe; what is done is skipped, what was interrupted resumed."""
    settings = load_recipe(recipe, overrides or [])
    folder = run or Path("runs") / settings.name
    from hanpaca.runs.plan import estimate_seconds

    with StageDisplay(estimate_seconds(settings)) as display:
        from hanpaca.runs.run import run_recipe

        run_recipe(settings, folder, tell=display.tell)
    _show_results(folder)


def plan(recipe: RecipePath, overrides: Overrides = None, as_json: AsJson = False) -> None:
    """Show what would run: stages, time, memory and disk."""
    from hanpaca.runs.plan import GPU_FLOPS, estimate

    settings = load_recipe(recipe, overrides or [])
    found = estimate(settings)
    if as_json:
        print(json.dumps(asdict(found), indent=2))
        return
    print_table(
        ("stage", "time", "disk MB"),
        [
            (name, minutes(found.seconds[name]), megabytes(found.disk_bytes[name]))
            for name in found.seconds
        ],
    )
    in_all = (
        f"In all about {minutes(sum(found.seconds.values()))} on {found.num_cores} cores, "
        f"{found.memory_bytes / 1e9:.1f} GB of memory, "
        f"{sum(found.disk_bytes.values()) / 1e9:.1f} GB of disk."
    )
    print(word(in_all))
    for name, size in found.trainings.items():
        gpu, host = size.gpu_bytes / 1e9, size.host_bytes / 1e9
        print(
            f"{name} trains {size.num_trained:,} of {size.num_weights:,} weights: {size.share:.2%}."
            f" On a GPU it takes {gpu:.1f} GB, {host:.1f} GB beside it and about "
            f"{minutes(size.gpu_seconds)} at {GPU_FLOPS / 1e12:.0f} TFLOP/s."
        )
    for note in found.notes:
        print(word(note))


def status(run: RunPath, as_json: AsJson = False) -> None:
    """Show where each stage of a run stands."""
    from hanpaca.runs.plan import STAGE_NAMES

    if not run.is_dir():
        raise ArtifactError(f"{run}: no such folder; give the folder of a run")
    found = status_of(run, STAGE_NAMES)
    if as_json:
        print(json.dumps([asdict(one) for one in found], indent=2))
        return
    rows = []
    for one in found:
        told = one.progress
        doing = (
            f"{one.state}, step {told['done']}/{told['total']}"
            if told and "done" in told
            else one.state
        )
        seconds = minutes(one.seconds) if one.seconds is not None else "–"
        size = f"{one.num_bytes / 1e6:.0f}" if one.num_bytes is not None else "–"
        rows.append((one.stage, word(doing), seconds, size))
    print_table(("stage", "state", "time", "MB"), rows)


def verify(
    run: Annotated[
        Path, typer.Argument(metavar="RUN", help="A run, or a model that merge or combine wrote.")
    ],
) -> None:
    """Hash every file of a run again and check the chain from stage to stage."""
    checked = verify_run(run)
    size = megabytes(sum(artifact.num_bytes for artifact in checked))
    print(word(f"{run}: {len(checked)} files, {size} MB: unchanged, and the chain holds."))


def _show_results(folder: Path) -> None:
    from hanpaca.report.run_page import goal_sentence
    from hanpaca.report.table import result_rows
    from hanpaca.runs.layout import EVAL, REPORT
    from hanpaca.runs.run import Run

    result = Run(folder).results
    print_table(*result_rows(result))
    for goal in result.goals:
        met = word("met") if goal.met else word("missed").upper()
        print(f"{met:6} {word(goal_sentence(goal))}")
    print(
        f"\n{word('Next:')}\n  hanpaca chat {folder}\n  open {folder / EVAL / REPORT}\n"
        f"  hanpaca verify {folder}"
    )
