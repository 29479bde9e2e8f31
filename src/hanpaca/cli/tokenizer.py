"""Commands on tokenizers: what makes one; those that look at one are in modules of their own."""

import hashlib
from pathlib import Path
from typing import Annotated, Any, cast

import typer

from hanpaca.cli.advise import advise
from hanpaca.cli.audit import audit
from hanpaca.cli.compare import compare, show
from hanpaca.cli.tools import Encoding, Output, TextField, read_texts
from hanpaca.cli.train import train
from hanpaca.cli.whole import written_whole
from hanpaca.errors import DataError, RecipeError

tokenizer = typer.Typer(
    name="tokenizer",
    help="Extend, audit, show, train and compare tokenizers.",
    no_args_is_help=True,
)


@tokenizer.command("extend")
def extend(  # a parameter an option
    base: Annotated[Path, typer.Option(help="Base tokenizer: folder, .json or .model.")],
    output: Output,
    num_pieces: Annotated[int, typer.Option(help="Pieces to add, exactly.")],
    text: Annotated[list[Path] | None, typer.Option(help="Text to learn from; repeatable.")] = None,
    script: Annotated[list[str] | None, typer.Option(help="Unicode script; repeatable.")] = None,
    required: Annotated[Path | None, typer.Option(help="File of characters to cover.")] = None,
    prior: Annotated[
        Path | None, typer.Option(help="Published pieces: .model, or lines of piece, tab, log p.")
    ] = None,
    punctuation: Annotated[
        str, typer.Option(help="In new pieces: none, runs of it alone, or with_text.")
    ] = "runs",
    protect: Annotated[
        list[Path] | None, typer.Option(help="Text that must keep its ids; repeatable.")
    ] = None,
    encoding: Encoding = "utf-8",
    text_field: TextField = "text",
) -> None:
    """Add pieces of a script to a tokenizer, leaving all other text as it was.

    With --prior no text is needed. For scripts that English uses too (Latin), --protect is.
    """
    from hanpaca.tokenizer import Wishes, extend_tokenizer, write_extension
    from hanpaca.tokenizer.evidence import read_prior, read_required

    if not text and prior is None:
        raise RecipeError("nothing to learn from: give --text or --prior")
    protected = list(read_texts(protect or [], encoding=encoding, text_field=text_field))
    if protect and not protected:
        raise DataError(f"{protect[0]}: there is no text in it to protect")
    wishes = Wishes(
        punctuation=cast("Any", punctuation),  # checked by target_script
        required=read_required(required) if required else "",
        prior=read_prior(prior) if prior else None,
        protected=protected,
    )
    with written_whole(output) as partial:
        extension = extend_tokenizer(
            base,
            read_texts(text or [], encoding=encoding, text_field=text_field),
            num_pieces=num_pieces,
            scripts=tuple(script or ["Han"]),
            wishes=wishes,
        )
        write_extension(extension, base, partial)
    print(f"{output}: {len(extension.pieces)} new pieces from id {extension.first_id}")


tokenizer.command("audit")(audit)
tokenizer.command("show")(show)
tokenizer.command("compare")(compare)
tokenizer.command("train")(train)
tokenizer.command("advise")(advise)


@tokenizer.command("merge-sp")
def merge_sp(
    base: Annotated[Path, typer.Argument(metavar="BASE.model", help="BPE model; its ids stay.")],
    added: Annotated[Path, typer.Argument(metavar="ADDED.model", help="Model with more pieces.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="File to write.")],
    pad: Annotated[bool, typer.Option("--pad", help="Append [PAD] too.")] = False,
) -> None:
    """Merge two SentencePiece models as Chinese-LLaMA did, to the byte; `extend` is better."""
    from hanpaca.tokenizer.reference_merge import merge_sentencepiece

    with written_whole(output) as partial:
        data, num_pieces = merge_sentencepiece(base, added, pad=pad)
        partial.write_bytes(data)
    print(f"{output}: {num_pieces} pieces, sha256 {hashlib.sha256(data).hexdigest()}")


@tokenizer.command("convert")
def convert(
    model: Annotated[Path, typer.Argument(help="SentencePiece tokenizer.model, or its folder.")],
    output: Output,
    add_bos: Annotated[
        bool | None, typer.Option("--add-bos/--no-add-bos", help="BOS before each text.")
    ] = None,
    add_eos: Annotated[
        bool | None, typer.Option("--add-eos/--no-add-eos", help="EOS after each text.")
    ] = None,
    inexact: Annotated[
        bool, typer.Option("--inexact", help="Write it even if some texts get other ids.")
    ] = False,
) -> None:
    """Write a SentencePiece BPE model as tokenizer.json with the same ids for every text.

    Without a flag BOS and EOS stay as the tokenizer_config.json beside the model says; without one,
    BOS is added and EOS is not.
    """
    from hanpaca.tokenizer.convert import convert_sentencepiece

    with written_whole(output) as partial:
        found = convert_sentencepiece(
            model, partial, add_bos=add_bos, add_eos=add_eos, inexact=inexact
        )
    print(
        f"{output}: {found.num_pieces} pieces, {found.num_merges} merges; "
        f"{found.num_differing} of {found.num_texts} test texts get other ids"
    )
