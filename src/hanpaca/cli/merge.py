"""The command `merge`: a base and its adapters become one model."""

import json
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from hanpaca.cli.display import byte_counter, errors, minutes, print_table
from hanpaca.cli.values import (
    AsJson,
    DryRun,
    ShardSize,
    WithManifest,
    Written,
    WrittenFormat,
    parse_size,
    parse_weighted,
)
from hanpaca.errors import ArtifactError, RecipeError, ResourceError

if TYPE_CHECKING:
    import torch

    from hanpaca.model.merge import MergePlan, MergeSummary
    from hanpaca.pipeline.parity import Parity


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
    from hanpaca.model.merge import MergeOptions, plan_merge
    from hanpaca.pipeline.formats import plan_to_file
    from hanpaca.pipeline.gguf_base import open_base

    given = _adapters(adapter or [], release)
    adapters = [path for path, _ in given]
    options = MergeOptions(
        format="hf" if format_ == "gguf" else format_,
        dtype=dtype,
        rounding=rounding,
        max_shard_bytes=parse_size(max_shard_size),
        num_files=files,
        alpha=alpha,
        weights=tuple(1.0 if weight is None else weight for _, weight in given),
    )
    warnings = _check_fit(base, adapters)
    plan = plan_merge(open_base(base), adapters, options)
    if dry_run:
        print_plan(plan, output, warnings=warnings, as_json=as_json)
        return
    kind = _check_feasible(plan, format_) if check else None
    began = time.perf_counter()
    if format_ == "gguf":
        file = plan_to_file(plan, output, on_bytes=byte_counter("merging"))
        tree = {"output": str(output), "num_bytes": file.num_bytes, "warnings": warnings}
        print(_json(tree, began) if as_json else f"{output}: {file.num_bytes / 1e6:.0f} MB")
        return
    summary = _merged(plan, output, hash_content=manifest)
    tree = {**asdict(summary), "output": str(output), "warnings": warnings}
    told = f"{output}: {summary.num_changed} of {summary.num_tensors} tensors changed"
    parity = _compare(plan, output, kind) if kind else None
    if parity:
        tree["check"] = {**asdict(parity), "passed": parity.passed}
        told += f"\n{parity.in_words}"
    print(_json(tree, began) if as_json else told)
    if parity and not parity.passed:
        raise ArtifactError(f"{output}: does not answer as base and adapters do in peft")


def _merged(plan: "MergePlan", output: Path, *, hash_content: bool) -> "MergeSummary":
    from hanpaca.pipeline.merging import merge_alone

    told = byte_counter("merging")
    try:
        return merge_alone(plan, output, hash_content=hash_content, on_bytes=told)
    except KeyboardInterrupt:
        errors.print(
            f"{output}.partial keeps the finished files; the same command goes on from there",
            markup=False,
            soft_wrap=True,
        )
        raise


def _check_feasible(plan: "MergePlan", format_: str) -> "torch.dtype":
    from hanpaca.pipeline.parity import check_feasible

    if format_ != "hf":
        raise RecipeError("--check loads the result with transformers: use --format hf")
    return check_feasible(plan)


def _compare(plan: "MergePlan", output: Path, dtype: "torch.dtype") -> "Parity":
    from hanpaca.pipeline.parity import compare

    return compare(plan, output, dtype)


def _adapters(adapter: list[str], release: str | None) -> list[tuple[Path, float | None]]:
    """Paths and weights; a released model stands for the adapters it is rebuilt from."""
    if release is None:
        return [parse_weighted(one, "--adapter") for one in adapter]
    if adapter:
        raise RecipeError("--release: it stands for its adapters; leave out --adapter")
    from hanpaca.pipeline.catalogue import find_release, locate_chain

    return [(path, None) for path in locate_chain(find_release(release), Path())]


def _json(tree: dict[str, Any], began: float) -> str:
    seconds = round(time.perf_counter() - began, 3)
    return json.dumps({**tree, "seconds": seconds}, ensure_ascii=False, indent=2)


def _check_fit(base: Path, adapters: list[Path]) -> list[str]:
    """Say what does not fit, each with what to do, before a byte is written."""
    from hanpaca.pipeline.preflight import check_fit

    for path in [base, *adapters]:
        if not path.is_dir() and not (path is base and path.suffix == ".gguf"):
            raise ArtifactError(f"{path}: no such folder; give the folder of a model or adapter")
    fit = check_fit(base, adapters)
    for warning in fit.warnings:
        errors.print(f"warning: {warning}", markup=False, soft_wrap=True)
    if fit.faults:
        raise ArtifactError("\n".join(fit.faults))
    return list(fit.warnings)


def print_plan(
    plan: "MergePlan", output: Path, *, warnings: Sequence[str], as_json: bool = False
) -> None:
    """Print what a merge would read and write, and what it would take.

    Raises:
        ResourceError: The disk has too little room.
    """
    from hanpaca.model.merge import estimate

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
