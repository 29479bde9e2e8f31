"""Commands on GGUF files: what makes one, and what looks into one."""

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from hanpaca.cli.display import byte_counter, errors, print_table
from hanpaca.cli.divergence import compare
from hanpaca.cli.export import export
from hanpaca.cli.gguf_adapter import adapter as adapter_command
from hanpaca.cli.imatrix import imatrix as collect
from hanpaca.errors import ArtifactError, RecipeError

if TYPE_CHECKING:
    from hanpaca.gguf.header import Header

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
    from hanpaca.gguf.imatrix import read_imatrix
    from hanpaca.gguf.types import FILE_TYPES
    from hanpaca.pipeline.formats import model_to_gguf
    from hanpaca.pipeline.gguf_base import open_base

    wanted = list(dict.fromkeys(name.strip() for name in types.split(",") if name.strip()))
    if not wanted:
        raise RecipeError(f"--types: none is given; known: {', '.join(FILE_TYPES)}")
    for name in wanted:
        if name not in FILE_TYPES:
            raise RecipeError(f"--types: {name!r} is unknown; known: {', '.join(FILE_TYPES)}")
    stem = (adapter[-1] if adapter else model).resolve().name
    files = {name: output / f"{stem}.{name}.gguf" for name in wanted}
    matrix = read_imatrix(imatrix) if imatrix else None
    written = model_to_gguf(
        open_base(model) if model.is_file() else model,
        files,
        adapters=adapter or [],
        metadata=matrix.described(str(imatrix.name)) if matrix and imatrix else {},
        importance=matrix.means() if matrix else None,
        on_bytes=byte_counter("writing"),
    )
    for note in dict.fromkeys(note for summary in written.values() for note in summary.notes):
        errors.print(f"Note: {note}", markup=False)
    for name, summary in written.items():
        print(f"{files[name]}: {summary.num_bytes / 1e6:.0f} MB")


@gguf.command("inspect")
def inspect(
    file: File,
    hash_tensors: Annotated[
        bool, typer.Option("--hash", help="Read all data too, for the sha256 of each tensor.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Print the keys and tensors of a file, whatever model it holds."""
    from hanpaca.gguf.header import read_header
    from hanpaca.gguf.verify import tensor_hashes

    header = read_header(_existing(file))
    hashes = tensor_hashes(file, header) if hash_tensors else {}
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
    from hanpaca.gguf.read import open_gguf
    from hanpaca.gguf.verify import check_values
    from hanpaca.pipeline.gguf_check import gguf_deviations

    told = byte_counter("checking")
    model = open_gguf(_existing(file))
    if against is None:
        check_values(model, told)
        print(json.dumps({"whole": True}) if as_json else f"{file}: whole, every value is finite")
        return
    found = gguf_deviations(model, against, told)
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
    if strange := [d for d in found if not d.is_plausible]:
        worst = max(strange, key=lambda d: d.relative_error)
        raise ArtifactError(
            f"{file}: {len(strange)} tensors are not those of {against}: {worst.name} differs by "
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
    from hanpaca.gguf.shapes import llama_shapes
    from hanpaca.gguf.size import REFERENCE_MODELS, predict_all
    from hanpaca.pipeline.gguf_check import predict_folder

    if (model is None) != reference:
        raise RecipeError("gguf size: give either a model's folder or --reference")
    if model is not None:
        sizes = {model.resolve().name: predict_folder(model)}
    else:
        sizes = {
            name: predict_all(llama_shapes(config), config)
            for name, config in REFERENCE_MODELS.items()
        }
    if as_json:
        print(json.dumps(sizes, indent=2))
        return
    kinds = next(iter(sizes.values()))
    rows = [(kind, *(f"{found[kind] / 1e9:.3f}" for found in sizes.values())) for kind in kinds]
    print_table(("GB", *sizes), rows)


gguf.command("imatrix")(collect)
gguf.command("compare")(compare)
gguf.command("adapter")(adapter_command)
gguf.command("export")(export)


def _existing(file: Path) -> Path:
    if not file.is_file():
        raise ArtifactError(f"{file}: no such file")
    return file


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
