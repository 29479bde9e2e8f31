"""The command `combine`: whole models added up."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from hanpaca.cli.display import byte_counter, errors
from hanpaca.cli.merge import print_plan
from hanpaca.cli.values import parse_size, parse_weighted
from hanpaca.errors import RecipeError


def combine(
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Folder or .gguf file; must not exist.")
    ],
    model: Annotated[
        list[str],
        typer.Option(
            metavar="PATH[=WEIGHT]",
            help="Model; repeatable. The first gives the configuration; without weights, the mean.",
        ),
    ],
    add: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PATH[=WEIGHT]",
            help="Model whose change since --base is added (a chat vector); repeatable.",
        ),
    ] = None,
    base: Annotated[
        Path | None, typer.Option(help="What the --add models were tuned from.")
    ] = None,
    tokenizer: Annotated[
        Path | None,
        typer.Option(help="Folder whose tokenizer the result gets; needed where they differ."),
    ] = None,
    format_: Annotated[
        Literal["hf", "pth", "gguf"],
        typer.Option("--format", help="Hugging Face's or Meta's format, or one .gguf file."),
    ] = "hf",
    dtype: Annotated[
        Literal["as-base", "f16", "bf16", "f32"],
        typer.Option(help="Type of the weights; as-base: that of the first model."),
    ] = "as-base",
    max_shard_size: Annotated[
        str, typer.Option(help="Largest file, such as 2GB or 500MB.")
    ] = "5GB",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the plan only.")] = False,
) -> None:
    """Add up whole models: averages, weighted sums, chat vectors; in float32, rounded once."""
    from hanpaca.model.merge import MergeOptions, run_merge
    from hanpaca.pipeline.combine import Combination, plan_combination
    from hanpaca.pipeline.formats import plan_to_file

    models = [parse_weighted(one, "--model") for one in model]
    given = sum(weight is not None for _, weight in models)
    if given not in (0, len(models)):
        raise RecipeError("--model: give a weight to every model or to none")
    changes = [parse_weighted(one, "--add") for one in add or []]
    wanted = Combination(
        [(path, 1 / len(models) if weight is None else weight) for path, weight in models],
        [(path, 1.0 if weight is None else weight) for path, weight in changes],
        base,
        tokenizer,
    )
    options = MergeOptions(
        format="hf" if format_ == "gguf" else format_,
        dtype=dtype,
        max_shard_bytes=parse_size(max_shard_size),
    )
    plan, rows = plan_combination(wanted, options)
    for line in (*(f"warning: {text}" for text in plan.warnings), *rows):
        errors.print(line, markup=False)
    if dry_run:
        print_plan(plan, output, warnings=plan.warnings)
        return
    if format_ == "gguf":
        file = plan_to_file(plan, output, on_bytes=byte_counter("combining"))
        print(f"{output}: {file.num_bytes / 1e6:.0f} MB")
        return
    summary = run_merge(plan, output, on_bytes=byte_counter("combining"))
    print(f"{output}: {summary.num_tensors} tensors, {summary.num_bytes / 1e9:.2f} GB")
