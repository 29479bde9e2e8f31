"""`hanpaca data generate`: instructions made with another model."""

import json
import signal
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from hanpaca import GenerateSettings
from hanpaca.cli.chat import leave
from hanpaca.cli.display import counter, errors, print_table
from hanpaca.cli.options import AsJson
from hanpaca.cli.sections import with_options_of
from hanpaca.errors import RecipeError
from hanpaca.progress import Progress

Material = Annotated[
    list[Path] | None,
    typer.Option(help="Documents for from_text, instructions for evolve; repeatable."),
]
Evaluation = Annotated[
    list[Path] | None,
    typer.Option(help="Evaluation file whose texts must not be in the rows; repeatable."),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what it can cost, and ask nobody.")]


@with_options_of(GenerateSettings)
def generate(
    *,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Folder to write; must not exist.")
    ] = None,
    url: Annotated[
        str | None, typer.Option(help="Endpoint that speaks OpenAI's API, up to /v1.")
    ] = None,
    model: Annotated[str | None, typer.Option(help="Name of the model there.")] = None,
    key_from: Annotated[
        str | None, typer.Option(help="Environment variable that holds the key.")
    ] = None,
    material: Material = None,
    evaluation: Evaluation = None,
    dry_run: DryRun = False,
    as_json: AsJson = False,
    settings: GenerateSettings,
) -> None:
    """Make instructions with answers by asking a model; goes on after an interruption."""
    from hanpaca.steps.generate_data import estimate_data, generate_data

    count = counter("rows")

    def tell(progress: Progress) -> None:
        if progress.unit:
            count(int(progress.done), int(progress.total or 0))
        else:
            errors.print(progress.note, markup=False, soft_wrap=True)

    signal.signal(signal.SIGTERM, leave)
    if dry_run:
        _show(asdict(estimate_data(settings, materials=material or (), tell=tell)), as_json)
        return
    if output is None or url is None or model is None:
        raise RecipeError("--output, --url and --model are needed; only --dry-run goes without")
    report = generate_data(
        output,
        url=url,
        model=model,
        key_from=key_from,
        settings=settings,
        materials=material or (),
        evaluation=evaluation or (),
        tell=tell,
    )
    _show(asdict(report), as_json)


def _show(tree: dict[str, Any], as_json: bool) -> None:
    """A row for each number; reasons and counts of a report below each other."""
    if as_json:
        print(json.dumps(tree, ensure_ascii=False))
        return
    rows: dict[str, float] = {}
    for name, value in tree.items():
        match value:
            case dict():
                rows |= value
            case (read, written):
                rows |= {"tokens read": read, "tokens written": written}
            case number:
                rows[name.removeprefix("num_").replace("_", " ")] = number
    print_table(
        ("what", "number"),
        [(name, f"{n:,.4f}" if isinstance(n, float) else f"{n:,}") for name, n in rows.items()],
    )
