"""The command `combine`: whole models added up."""

import json
from pathlib import Path
from typing import Annotated, Literal

import typer

from hanpaca.cli.display import errors, print_notes
from hanpaca.cli.merge import byte_teller, print_plan
from hanpaca.cli.options import (
    AsJson,
    DryRun,
    ShardSize,
    WithManifest,
    Written,
    WrittenFormat,
    parse_size,
    parse_weighted,
)
from hanpaca.errors import RecipeError


def combine(
    output: Written,
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
    format_: WrittenFormat = "hf",
    dtype: Annotated[
        Literal["as-base", "f16", "bf16", "f32"],
        typer.Option(help="Type of the weights; as-base: that of the first model."),
    ] = "as-base",
    max_shard_size: ShardSize = "5GB",
    dry_run: DryRun = False,
    manifest: WithManifest = True,
    as_json: AsJson = False,
) -> None:
    """Add up whole models: averages, weighted sums, chat vectors; in float32, rounded once."""
    from hanpaca.steps.combine import Combination, plan_combination
    from hanpaca.steps.fit import MergeOptions
    from hanpaca.steps.merge import carry_out

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
        print_plan(plan, output, warnings=plan.warnings, as_json=as_json)
        return
    report = carry_out(
        plan,
        output,
        format=format_,
        manifest=manifest,
        made_of=wanted.in_words,
        tell=byte_teller("combining"),
    )
    print_notes(report.notes)
    tree = {"output": str(output), "num_bytes": report.num_bytes, "rows": rows}
    told = json.dumps(tree | {"warnings": list(plan.warnings)}, ensure_ascii=False, indent=2)
    print(told if as_json else f"{output}: {report.num_bytes / 1e9:.2f} GB")
