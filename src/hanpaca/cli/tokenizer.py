"""Commands on tokenizers."""

from pathlib import Path
from typing import Annotated

import typer

from hanpaca.cli.audit import audit
from hanpaca.cli.compare import compare, show
from hanpaca.cli.tools import BaseFolder, Output, Texts
from hanpaca.cli.train import train
from hanpaca.errors import ArtifactError

tokenizer = typer.Typer(
    name="tokenizer",
    help="Extend, audit, show, train and compare tokenizers.",
    no_args_is_help=True,
)


@tokenizer.command("extend")
def extend(
    base: BaseFolder,
    text: Texts,
    output: Output,
    num_pieces: Annotated[int, typer.Option(help="Pieces to add, exactly.")],
    script: Annotated[list[str] | None, typer.Option(help="Unicode script; repeatable.")] = None,
) -> None:
    """Add pieces of a script to a byte-level BPE tokenizer, leaving all other text as it was."""
    from hanpaca.data.text import read_documents
    from hanpaca.tokenizer import extend_byte_bpe, write_extension

    _must_not_exist(output)
    texts = (document.text for document in read_documents(text))
    extension = extend_byte_bpe(
        base, texts, num_pieces=num_pieces, scripts=tuple(script or ["Han"])
    )
    write_extension(extension, base, output)
    print(f"{output}: {len(extension.pieces)} new pieces from id {extension.first_id}")


tokenizer.command("audit")(audit)
tokenizer.command("show")(show)
tokenizer.command("compare")(compare)
tokenizer.command("train")(train)


def _must_not_exist(output: Path) -> None:
    if output.exists():
        raise ArtifactError(f"{output}: already exists; remove it or give another folder")
