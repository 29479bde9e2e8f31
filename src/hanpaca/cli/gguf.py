"""Commands on GGUF files: what makes one, and what looks into one."""

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from hanpaca.cli.display import byte_counter, megabytes, print_notes, print_table
from hanpaca.cli.gguf_adapter import adapter as adapter_command
from hanpaca.cli.gguf_compare import compare
from hanpaca.cli.gguf_export import export
from hanpaca.cli.gguf_imatrix import imatrix as collect
from hanpaca.errors import ArtifactError, RecipeError

if TYPE_CHECKING:
    from hanpaca.checkpoints.gguf import Header

File = Annotated[Path, typer.Argument(metavar="FILE", help="A GGUF file.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")]
_SHOWN = 6
"""Entries of a list, such as the vocabulary, that are shown."""


class _WriteByDefault(TyperGroup):
    """`hanpaca gguf MODEL …` writes."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:  # noqa: ANN401  # click's own
        if args and args[0] not in self.commands and args[0] != "--help":
            args = ["write", *args]
        return super().parse_args(ctx, args)


gguf = typer.Typer(
    name="gguf",
    help="GGUF files for llama.cpp: write them (`hanpaca gguf MODEL -o DIR`), look into them.",
    no_args_is_help=True,
    cls=_WriteByDefault,
)


@gguf.command("write")
def write(
    model: Annotated[
        Path, typer.Argument(help="A model, or the adapters' base: folder, or GGUF file.")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the files.")],
    types: Annotated[str, typer.Option(help="Types, separated by commas.")] = "f16,q8_0",
    imatrix: Annotated[
        Path | None, typer.Option(help="Importance matrix of `gguf imatrix` or llama.cpp.")
    ] = None,
    adapter: Annotated[
        list[Path] | None,
        typer.Option("--adapter", help="LoRA adapter to fold in; repeatable, in order."),
    ] = None,
) -> None:
    """Write a model, or a base and its adapters, as GGUF files of several types in one reading."""
    from hanpaca.steps.write_gguf import write_gguf

    counted = byte_counter("writing")
    written = write_gguf(
        model,
        output,
        types=[name.strip() for name in types.split(",") if name.strip()],
        adapters=adapter or [],
        imatrix=imatrix,
        tell=lambda sign: counted(int(sign.done), int(sign.total or 0)),
    )
    print_notes(note for report in written.values() for note in report.notes)
    for report in written.values():
        print(f"{report.file}: {megabytes(report.num_bytes)} MB")


@gguf.command("inspect")
def inspect(
    file: File,
    hash_tensors: Annotated[
        bool, typer.Option("--hash", help="Read all data too, for the sha256 of each tensor.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Print the keys and tensors of a file, whatever model it holds."""
    from hanpaca.steps.inspect_gguf import inspect_gguf

    found = inspect_gguf(file, hash_tensors=hash_tensors)
    header, hashes = found.header, found.hashes
    fields = {key: _short(value) for key, value in header.fields.items()}
    if as_json:
        tree = {"fields": fields, "tensors": _tensor_tree(header, hashes)}
        print(json.dumps(tree, ensure_ascii=False, indent=2))
        return
    print_table(("key", "value"), [(key, _told(value)) for key, value in fields.items()])
    rows = [
        (_told(name), t.kind.name, " × ".join(map(str, t.shape)), f"{t.num_bytes:,}")
        + ((hashes[name],) if hashes else ())
        for name, t in header.tensors.items()
    ]
    print_table(("tensor", "type", "shape", "bytes", *(["sha256"] if hashes else [])), rows)
    print(_in_short(header))


@gguf.command("verify")
def verify(
    file: File,
    against: Annotated[
        Path | None, typer.Option(help="Folder of the model it was made of: compare every weight.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Check that a file is whole and its values are finite, and that it is of a given model."""
    from hanpaca.steps.verify_gguf import strange, verify_gguf

    counted = byte_counter("checking")
    found = verify_gguf(
        file, against, tell=lambda sign: counted(int(sign.done), int(sign.total or 0))
    )
    if against is None:
        print(json.dumps({"whole": True}) if as_json else f"{file}: whole, every value is finite")
        return
    if as_json:
        tree = [{"name": d.name, "type": d.kind.name, "error": d.relative_error} for d in found]
        print(json.dumps(tree, indent=2))
    else:
        rows = [
            (kind.name, str(len(errors)), f"{max(errors):.6f}")
            for kind in dict.fromkeys(d.kind for d in found)
            if (errors := [d.relative_error for d in found if d.kind == kind])
        ]
        print_table(("type", "tensors", "largest relative error"), rows)
    if worst := strange(found):
        num_strange = sum(not one.is_plausible for one in found)
        raise ArtifactError(
            f"{file}: {num_strange} tensors are not those of {against}: {worst.name} differs by "
            f"{worst.relative_error:.3f} of its size, too much for {worst.kind.name}"
        )
    if not as_json:
        print(f"{file}: every weight is that of {against}, as far as its type goes")


@gguf.command("size")
def size(
    model: Annotated[Path | None, typer.Argument(help="Folder of a model.")] = None,
    reference: Annotated[
        bool, typer.Option("--reference", help="The Chinese-LLaMA-Alpaca models instead.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Say how large the weights of each type will be, before anything is written."""
    from hanpaca.steps.size_gguf import reference_sizes, reference_sizes_first, size_gguf

    if (model is None) != reference:
        raise RecipeError("gguf size: give either a model's folder or --reference")
    sizes = {model.resolve().name: size_gguf(model)} if model is not None else reference_sizes()
    if as_json:
        print(json.dumps(sizes, indent=2))
        return
    _print_sizes(sizes)
    if reference:
        print("As published in May 2023, before GGUF:")
        _print_sizes(reference_sizes_first())


def _print_sizes(sizes: Mapping[str, Mapping[str, int]]) -> None:
    kinds = next(iter(sizes.values()))
    rows = [(kind, *(f"{found[kind] / 1e9:.3f}" for found in sizes.values())) for kind in kinds]
    print_table(("GB", *sizes), rows)


gguf.command("imatrix")(collect)
gguf.command("compare")(compare)
gguf.command("adapter")(adapter_command)
gguf.command("export")(export)


def _tensor_tree(header: "Header", hashes: Mapping[str, str]) -> list[dict[str, Any]]:
    return [
        {"name": name, "type": tensor.kind.name, "shape": tensor.shape, "bytes": tensor.num_bytes}
        | ({"sha256": hashes[name]} if hashes else {})
        for name, tensor in header.tensors.items()
    ]


def _in_short(header: "Header") -> str:
    count = Counter(tensor.kind.name for tensor in header.tensors.values())
    kinds = ", ".join(f"{number} {kind}" for kind, number in count.most_common())
    total = sum(tensor.num_bytes for tensor in header.tensors.values())
    return f"{len(header.tensors)} tensors ({kinds}), {total / 1e6:,.1f} MB"


def _short(value: Any) -> Any:  # noqa: ANN401  # as many types as the format has
    if isinstance(value, list) and len(value) > _SHOWN:
        return {"entries": len(value), "first": value[:_SHOWN]}
    return value


def _told(value: Any) -> str:  # noqa: ANN401
    """On one line; names in files that are not trusted must not steer the terminal."""
    if isinstance(value, dict):
        value = f"{value['entries']:,} entries: {', '.join(map(repr, value['first']))}, …"
    text = repr(value)[1:-1] if isinstance(value, str) else str(value)
    text = "".join(c if c.isprintable() else "?" for c in text)
    return text if len(text) <= 160 else text[:159] + "…"
