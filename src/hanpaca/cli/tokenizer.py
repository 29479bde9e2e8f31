"""Commands on tokenizers: extend, audit."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from hanpaca.cli.advise import advise
from hanpaca.cli.display import print_table
from hanpaca.cli.tools import BaseFolder, Encoding, Output, TextField, Texts, read_texts
from hanpaca.errors import ArtifactError

tokenizer = typer.Typer(name="tokenizer", help="Extend and audit tokenizers.", no_args_is_help=True)


@tokenizer.command("extend")
def extend(
    base: BaseFolder,
    text: Texts,
    output: Output,
    num_pieces: Annotated[int, typer.Option(help="Pieces to add, exactly.")],
    script: Annotated[list[str] | None, typer.Option(help="Unicode script; repeatable.")] = None,
    encoding: Encoding = "utf-8",
    text_field: TextField = "text",
) -> None:
    """Add pieces of a script to a byte-level BPE tokenizer, leaving all other text as it was."""
    from hanpaca.tokenizer import extend_byte_bpe, write_extension

    _must_not_exist(output)
    texts = read_texts(text, encoding=encoding, text_field=text_field)
    extension = extend_byte_bpe(
        base, texts, num_pieces=num_pieces, scripts=tuple(script or ["Han"])
    )
    write_extension(extension, base, output)
    print(f"{output}: {len(extension.pieces)} new pieces from id {extension.first_id}")


@tokenizer.command("audit")
def audit(
    base: Annotated[Path, typer.Argument(help="Folder of the base tokenizer.")],
    extended: Annotated[Path, typer.Argument(help="Folder of the extended tokenizer.")],
    text: Texts,
    protected: Annotated[
        list[Path] | None, typer.Option(help="Text whose tokens must not change; repeatable.")
    ] = None,
    script: Annotated[list[str] | None, typer.Option(help="Unicode script; repeatable.")] = None,
    encoding: Encoding = "utf-8",
    text_field: TextField = "text",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")] = False,
) -> None:
    """Compare two tokenizers: dead pieces, changed text, tokens per character."""
    from hanpaca.tokenizer import audit_extension

    found = asdict(
        audit_extension(
            base,
            extended,
            texts=list(read_texts(text, encoding=encoding, text_field=text_field)),
            protected=list(read_texts(protected or [], encoding=encoding, text_field=text_field)),
            scripts=tuple(script or ["Han"]),
        )
    )
    if as_json:
        print(json.dumps(found, ensure_ascii=False, indent=2))
        return
    print_table(
        ("what", "found"),
        [
            (name, str(len(value)) if isinstance(value, list | tuple) else f"{value:g}")
            for name, value in found.items()
        ],
    )


tokenizer.command("advise")(advise)


def _must_not_exist(output: Path) -> None:
    if output.exists():
        raise ArtifactError(f"{output}: already exists; remove it or give another folder")
