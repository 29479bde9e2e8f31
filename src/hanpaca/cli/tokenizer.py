"""Commands on tokenizers: what makes one; those that look at one are in modules of their own."""

from pathlib import Path
from typing import Annotated, Any, cast

import typer

from hanpaca.cli.chat import Encoding, Output, TextField
from hanpaca.cli.corpora import MaybeTexts, NamedTexts, Protected, Scripts, documents
from hanpaca.cli.display import errors
from hanpaca.cli.tokenizer_advise import advise
from hanpaca.cli.tokenizer_audit import audit
from hanpaca.cli.tokenizer_compare import compare, show
from hanpaca.errors import DataError, RecipeError
from hanpaca.progress import Progress

tokenizer = typer.Typer(
    name="tokenizer",
    help="Extend, audit, show, train and compare tokenizers.",
    no_args_is_help=True,
)


@tokenizer.command("extend")
def extend(
    base: Annotated[Path, typer.Option(help="Base tokenizer: folder, .json or .model.")],
    output: Output,
    num_pieces: Annotated[int, typer.Option(help="Pieces to add, exactly.")],
    text: MaybeTexts = None,
    script: Scripts = None,
    required: Annotated[Path | None, typer.Option(help="File of characters to cover.")] = None,
    prior: Annotated[
        Path | None, typer.Option(help="Published pieces: .model, or lines of piece, tab, log p.")
    ] = None,
    punctuation: Annotated[
        str, typer.Option(help="In new pieces: none, runs of it alone, or with_text.")
    ] = "runs",
    protect: Protected = None,
    encoding: Encoding = "utf-8",
    text_field: TextField = "text",
) -> None:
    """Add pieces of a script to a tokenizer, leaving all other text as it was.

    With --prior no text is needed. For scripts that English uses too (Latin), --protect is.
    """
    from hanpaca.steps.extend import extend as work

    if not text and prior is None:
        raise RecipeError("nothing to learn from: give --text or --prior")
    protected = list(documents(protect, encoding=encoding, text_field=text_field))
    if protect and not protected:
        raise DataError(f"{protect[0]}: there is no text in it to protect")
    found = work(
        base,
        documents(text, encoding=encoding, text_field=text_field),
        output,
        num_pieces=num_pieces,
        scripts=script or (),
        tell=_tell,
        punctuation=cast("Any", punctuation),  # checked where it is used
        required=required or "",
        prior=prior,
        protect=protected,
    )
    for note in found.notes:
        errors.print(note, markup=False)
    print(f"{output}: {len(found.pieces)} new pieces from id {found.first_id}")


def _tell(progress: Progress) -> None:
    step = f"{progress.done + 1:.0f} of {progress.total:.0f}"
    errors.print(f"extending, {step}: {progress.note}", markup=False)


tokenizer.command("audit")(audit)
tokenizer.command("show")(show)
tokenizer.command("compare")(compare)


@tokenizer.command("train")
def train(
    text: NamedTexts,
    output: Output,
    num_pieces: Annotated[int, typer.Option(help="Entries of the vocabulary, exactly.")],
    kind: Annotated[
        str, typer.Option(help="sentencepiece-bpe, sentencepiece-unigram or byte-bpe.")
    ] = "sentencepiece-bpe",
    encoding: Encoding = "utf-8",
    text_field: TextField = "text",
) -> None:
    """Train a tokenizer from scratch with LLaMA's settings; `extend` keeps an old one instead."""
    from hanpaca.steps.train_tokenizer import train_tokenizer

    texts = documents(text, encoding=encoding, text_field=text_field)
    train_tokenizer(texts, output, num_pieces=num_pieces, kind=cast("Any", kind))
    print(f"{output}: {num_pieces} pieces, {kind}")


tokenizer.command("advise")(advise)


@tokenizer.command("merge-sp")
def merge_sp(
    base: Annotated[Path, typer.Argument(metavar="BASE.model", help="BPE model; its ids stay.")],
    added: Annotated[Path, typer.Argument(metavar="ADDED.model", help="Model with more pieces.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="File to write.")],
    pad: Annotated[bool, typer.Option("--pad", help="Append [PAD] too.")] = False,
) -> None:
    """Merge two SentencePiece models as Chinese-LLaMA did, to the byte; `extend` is better."""
    from hanpaca.steps.merge_sentencepiece import merge_sentencepiece

    found = merge_sentencepiece(base, added, output, pad=pad)
    print(f"{output}: {found.num_pieces} pieces, sha256 {found.sha256}")


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
    from hanpaca.steps.convert_tokenizer import convert_tokenizer

    found = convert_tokenizer(model, output, add_bos=add_bos, add_eos=add_eos, inexact=inexact)
    print(
        f"{output}: {found.num_pieces} pieces, {found.num_merges} merges; "
        f"{found.num_differing} of {found.num_texts} test texts get other ids"
    )
