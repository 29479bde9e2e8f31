"""The command that says what a file or folder is: inspect."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hanpaca.cli.display import megabytes
from hanpaca.cli.words import worded
from hanpaca.errors import ArtifactError

if TYPE_CHECKING:
    from hanpaca.merging.fit import Fit
    from hanpaca.steps.inspect import AdapterFacts, Inspection


def inspect(
    path: Annotated[
        Path, typer.Argument(help="Model, adapter or tokenizer folder, GGUF, .safetensors, .bin.")
    ],
    adapter: Annotated[
        list[Path] | None,
        typer.Option(help="Check that this adapter can be merged into PATH; repeatable, in order."),
    ] = None,
    tokenizer: Annotated[
        Path | None, typer.Option(help="Tokenizer of the merged model; the last adapter's if none.")
    ] = None,
    alpha: Annotated[
        float | None, typer.Option(help="lora_alpha of adapters without adapter_config.json.")
    ] = None,
    hash_content: Annotated[
        bool, typer.Option("--hash", help="Read all data too, for the fingerprints.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")] = False,
) -> None:
    """Say what a file or folder is, what fits it, and what is odd; reads headers, runs nothing."""
    if adapter:
        from hanpaca.steps.fit import fit

        found = fit(path, adapter, tokenizer=tokenizer, read_content=hash_content, alpha=alpha)
        _print_fit(found, as_json)
        return
    from hanpaca.steps.inspect import as_tree
    from hanpaca.steps.inspect import inspect as look

    facts = look(path, hash_content=hash_content)
    if as_json:
        print(json.dumps(as_tree(facts), ensure_ascii=False, indent=2))
        return
    for name, value in _lines(facts):
        _print(name, value)
    for warning in facts.warnings:
        _print("warning", warning)


def _print_fit(found: "Fit", as_json: bool) -> None:
    faults = [worded(fault) for fault in found.faults]
    if as_json:
        tree = {"faults": faults, "warnings": found.warnings}
        print(json.dumps(tree, ensure_ascii=False, indent=2))
    else:
        for kind, lines in (("fault", faults), ("warning", found.warnings)):
            for line in lines:
                _print(kind, line)
    if faults:
        count = "1 fault" if len(faults) == 1 else f"{len(faults)} faults"
        raise ArtifactError(f"{count}: these cannot be merged as they stand")
    if not as_json:
        plan = found.checked()
        told = " + ".join(str(one) for one in [plan.base.folder, *(a.path for a in plan.adapters)])
        _print("may fit" if found.warnings else "fits", told)


def _print(name: str, value: str) -> None:
    """Print a line; names in files that are not trusted must not steer the terminal."""
    print(f"{name:12} {''.join(c if c.isprintable() else '?' for c in value)}")


def _lines(found: "Inspection") -> Iterator[tuple[str, str]]:
    yield "kind", f"{found.kind} ({found.layout})" if found.layout else found.kind
    if found.architecture:
        yield "architecture", found.architecture
    if found.num_parameters:
        types = ", ".join(f"{dtype} {share:,}" for dtype, share in found.dtypes.items())
        yield "parameters", f"{found.num_parameters:,} ({types}); {megabytes(found.num_bytes)} MB"
    if found.shape is not None:
        yield "shape", found.shape.in_words
        yield "head", "tied to the embedding" if found.shape.tied else "a matrix of its own"
    if found.adapter is not None:
        yield from _adapter_lines(found.adapter)
    if found.tokenizer_entries is not None:
        yield "tokenizer", f"{found.tokenizer_entries:,} entries"
    if found.known_as:
        yield "known as", found.known_as
    if found.fits:
        yield "fits", found.fits
    for name, sha256 in found.fingerprints.items():
        yield "sha256", f"{sha256} {name}"


def _adapter_lines(facts: "AdapterFacts") -> Iterator[tuple[str, str]]:
    alpha = f"{facts.alpha:g}" if facts.alpha is not None else "unknown"
    yield "variant", facts.variant
    yield "rank", f"{facts.rank}, alpha {alpha}, on {', '.join(facts.targets) or 'nothing'}"
    if facts.replaced:
        sizes = (f"{name} {list(shape)}" for name, shape in facts.replaced.items())
        yield "replaces", ", ".join(sizes)
    if facts.new_rows:
        yield "new rows", ", ".join(f"{name} {count}" for name, count in facts.new_rows.items())
    for name, value in (
        ("base", facts.base_name),
        ("base sha256", facts.base_fingerprint),
        ("tok. sha256", facts.tokenizer_fingerprint),
    ):
        if value:
            yield name, value
