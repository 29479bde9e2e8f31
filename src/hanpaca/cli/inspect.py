"""The command that says what a file or folder is: inspect."""

import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hanpaca.errors import ArtifactError

if TYPE_CHECKING:
    from hanpaca.pipeline.inspect import AdapterFacts, Inspection


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
    hash_content: Annotated[
        bool, typer.Option("--hash", help="Read all data too, for the fingerprints.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")] = False,
) -> None:
    """Say what a file or folder is, what fits it, and what is odd; reads headers, runs nothing."""
    if adapter:
        _check(path, adapter, tokenizer, hash_content, as_json)
        return
    from hanpaca.pipeline.inspect import as_tree
    from hanpaca.pipeline.inspect import inspect as look

    found = look(path, hash_content=hash_content)
    if as_json:
        print(json.dumps(as_tree(found), ensure_ascii=False, indent=2))
        return
    for name, value in _lines(found):
        _print(name, value)
    for warning in found.warnings:
        _print("warning", warning)


def _check(
    base: Path, adapters: list[Path], tokenizer: Path | None, hash_content: bool, as_json: bool
) -> None:
    from hanpaca.pipeline.preflight import check_fit

    fit = check_fit(base, adapters, tokenizer, read_content=hash_content)
    if as_json:
        print(json.dumps(asdict(fit), ensure_ascii=False, indent=2))
    else:
        for kind, lines in (("fault", fit.faults), ("warning", fit.warnings)):
            for line in lines:
                _print(kind, line)
    if fit.faults:
        raise ArtifactError(f"{len(fit.faults)} faults: these cannot be merged as they stand")
    if not as_json:
        _print(
            "may fit" if fit.warnings else "fits", " + ".join(str(one) for one in [base, *adapters])
        )


def _print(name: str, value: str) -> None:
    """Print a line; names in files that are not trusted must not steer the terminal."""
    print(f"{name:12} {''.join(c if c.isprintable() else '?' for c in value)}")


def _lines(found: "Inspection") -> Iterator[tuple[str, str]]:
    yield "kind", f"{found.kind} ({found.layout})" if found.layout else found.kind
    if found.architecture:
        yield "architecture", found.architecture
    if found.num_parameters:
        types = ", ".join(f"{dtype} {share:,}" for dtype, share in found.dtypes.items())
        yield "parameters", f"{found.num_parameters:,} ({types}); {found.num_bytes / 1e6:,.1f} MB"
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
