"""The command `merge`: a base and its adapters become one model."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from hanpaca.cli.display import byte_counter, errors, minutes, print_notes, print_table
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
from hanpaca.cli.words import worded
from hanpaca.errors import ArtifactError, RecipeError, ResourceError
from hanpaca.progress import Progress, Tell

if TYPE_CHECKING:
    from hanpaca.merging import MergePlan
    from hanpaca.merging.fit import Fit
    from hanpaca.steps.merge import MergeReport


def merge(
    base: Annotated[
        Path,
        typer.Option(
            "--base", help="Base: Hugging Face safetensors or .bin, Meta .pth, a .gguf file."
        ),
    ],
    output: Written,
    adapter: Annotated[
        list[str] | None,
        typer.Option(
            "--adapter",
            metavar="PATH[=WEIGHT]",
            help="LoRA adapter; repeatable, in order; none converts only.",
        ),
    ] = None,
    release: Annotated[
        str | None,
        typer.Option(
            help="Instead of --adapter: a released model (hanpaca models), whose adapters lie here "
            "in folders of their names."
        ),
    ] = None,
    format_: WrittenFormat = "hf",
    dtype: Annotated[
        Literal["as-base", "f16", "bf16", "f32"], typer.Option(help="Type of the weights.")
    ] = "as-base",
    rounding: Annotated[
        Literal["once", "per-adapter"],
        typer.Option(help="per-adapter rounds as the scripts of Chinese-LLaMA-Alpaca do."),
    ] = "once",
    max_shard_size: ShardSize = "5GB",
    files: Annotated[
        int | None, typer.Option(min=1, max=8, help="Files of format pth; 1, 2, 4 or 8.")
    ] = None,
    alpha: Annotated[
        float | None, typer.Option(help="lora_alpha of adapters without adapter_config.json.")
    ] = None,
    dry_run: DryRun = False,
    manifest: WithManifest = True,
    check: Annotated[
        bool, typer.Option("--check", help="Then compare logits with base and adapters in peft.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Fold LoRA adapters into their base, in a few hundred MB of memory, rounded once."""
    from hanpaca.steps.fit import fit

    given = _adapters(adapter or [], release)
    found = fit(
        base,
        [path for path, _ in given],
        format=format_,
        dtype=dtype,
        rounding=rounding,
        max_shard_bytes=parse_size(max_shard_size),
        num_files=files,
        alpha=alpha,
        weights=tuple(1.0 if weight is None else weight for _, weight in given),
    )
    plan = checked_plan(found)
    if dry_run:
        print_plan(plan, output, warnings=plan.warnings, as_json=as_json)
    else:
        _print_report(_merged(plan, output, format_, manifest=manifest, check=check), as_json)


def _merged(
    plan: "MergePlan", output: Path, format_: WrittenFormat, *, manifest: bool, check: bool
) -> "MergeReport":
    from hanpaca.steps.merge import carry_out

    told = byte_teller("merging")
    try:
        return carry_out(plan, output, format=format_, manifest=manifest, check=check, tell=told)
    except KeyboardInterrupt:
        errors.print(
            f"{output}.partial keeps the finished files; the same command goes on from there",
            markup=False,
            soft_wrap=True,
        )
        raise


def _print_report(report: "MergeReport", as_json: bool) -> None:
    parity = report.check
    print_notes(report.notes)
    if as_json:
        tree = {**asdict(report), "output": str(report.output)}
        del tree["notes"], tree["check"]
        if parity:
            tree["check"] = {**asdict(parity), "passed": parity.passed}
        print(json.dumps(tree, ensure_ascii=False, indent=2))
    else:
        print(f"{report.output}: {report.num_changed} of {report.num_tensors} tensors changed")
        if parity:
            print(parity.in_words)
    if parity and not parity.passed:
        raise ArtifactError(f"{report.output}: does not answer as base and adapters do in peft")


def byte_teller(doing: str) -> Tell:
    """Show how many bytes are written, a line every few seconds."""
    count = byte_counter(doing)

    def tell(sign: Progress) -> None:
        count(int(sign.done), int(sign.total or 0))

    return tell


def _adapters(adapter: list[str], release: str | None) -> list[tuple[Path, float | None]]:
    """Paths and weights; a released model stands for the adapters it is rebuilt from."""
    if release is None:
        return [parse_weighted(one, "--adapter") for one in adapter]
    if adapter:
        raise RecipeError("--release: it stands for its adapters; leave out --adapter")
    from hanpaca.steps.models import adapters_of

    return [(path, None) for path in adapters_of(release, Path())]


def checked_plan(found: "Fit") -> "MergePlan":
    """Say what was found, and give the plan.

    Raises:
        ArtifactError: There is none; says why.
    """
    for warning in found.warnings:
        errors.print(f"warning: {warning}", markup=False, soft_wrap=True)
    for fault in found.faults[1:]:
        errors.print(f"fault: {worded(fault)}", markup=False, soft_wrap=True)
    return found.checked()


def print_plan(
    plan: "MergePlan", output: Path, *, warnings: Sequence[str], as_json: bool = False
) -> None:
    """Print what a merge would read and write, and what it would take.

    Raises:
        ResourceError: The disk has too little room.
    """
    from hanpaca.steps.fit import estimate

    costs = estimate(plan, output)
    changed = [tensor.name for tensor in plan.tensors if tensor.changed]
    if as_json:
        tree = {
            **asdict(costs),
            "num_tensors": len(plan.tensors),
            "changed": changed,
            "files": {name: sum(p.num_bytes for p in parts) for name, parts in plan.shards.items()},
            "tokenizer": str(plan.tokenizer_source) if plan.tokenizer else None,
            "vocab_size": plan.config.get("vocab_size"),
            "warnings": list(warnings),
        }
        print(json.dumps(tree, ensure_ascii=False, indent=2))
        return
    rows = [
        ["tensors", str(len(plan.tensors))],
        ["changed by the adapters", str(len(changed))],
        ["files", str(len(plan.shards))],
        ["GB to read", f"{costs.num_read_bytes / 1e9:.2f}"],
        ["GB to write", f"{costs.num_bytes / 1e9:.2f}"],
        ["GB free on the disk", f"{costs.free_bytes / 1e9:.2f}"],
        ["peak memory, MB", f"{costs.peak_bytes / 1e6:.0f}"],
        ["copying here, MB/s", f"{costs.copy_bytes_per_second / 1e6:.0f}"],
        ["time, about", minutes(costs.seconds)],
        ["tokenizer", str(plan.tokenizer_source if plan.tokenizer else "none")],
        ["pieces", str(plan.config.get("vocab_size"))],
    ]
    print_table(["what", "how much"], rows)
    if costs.num_bytes > costs.free_bytes:
        raise ResourceError("the disk has too little room; free some, or choose another")
