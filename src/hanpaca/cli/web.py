"""The command web."""

import signal
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Annotated

import typer

from hanpaca.cli.chat import leave, teller
from hanpaca.cli.display import errors
from hanpaca.cli.options import EmbedderKey


def web(
    model: Annotated[
        Path,
        typer.Argument(
            metavar="MODEL", help="A run, a GGUF file, a folder of them, or a model folder."
        ),
    ],
    other: Annotated[
        Path | None, typer.Argument(metavar="[MODEL2]", help="Another, asked the same beside it.")
    ] = None,
    adapter: Annotated[
        list[Path] | None,
        typer.Option(help="LoRA to fold into MODEL, shown beside MODEL without it; repeatable."),
    ] = None,
    documents: Annotated[
        Path | None,
        typer.Option(help="Answer from this index, which `hanpaca ask add` makes."),
    ] = None,
    embedder_key: EmbedderKey = None,
    system: Annotated[str | None, typer.Option(help="System prompt.")] = None,
    template: Annotated[
        str | None,
        typer.Option(help="A name of docs/chat.md, such as chatml, or a Jinja file; else its own."),
    ] = None,
    raw: Annotated[
        bool, typer.Option("--raw", help="Continue each text alone, without a template.")
    ] = False,
    exact: Annotated[
        bool, typer.Option("--exact", help="Write a model folder as F16, not as Q8_0.")
    ] = False,
    context_tokens: Annotated[int, typer.Option(help="Room for the conversation.")] = 2048,
    threads: Annotated[int | None, typer.Option(help="Else as many as cores are free.")] = None,
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 for any that is free.")] = 7860,
) -> None:
    """Talk with a model, or with two side by side, on a page that only this machine can open.

    Programs ask them at the same address, by OpenAI's API.
    """
    from hanpaca.app.web import serve
    from hanpaca.steps.web import Documents, Loading, Models, offers

    loading = Loading(context_tokens, threads, template, raw, exact)
    paths = [model] if other is None else [model, other]
    signal.signal(signal.SIGTERM, leave)
    with suppress(KeyboardInterrupt), ExitStack() as stack:  # which is how it ends
        index = None
        if documents:
            index = stack.enter_context(Documents(documents, api_key=embedder_key))
            index.check()
        offered = offers(paths, adapter or ())
        models = stack.enter_context(
            Models(offered, loading=loading, documents=index, tell=teller())
        )
        first = models.names[: 1 + bool(other or adapter)]
        for name in first:
            _note(models.keep(name))
        serve(models, first, port=port, system=system, tell=lambda told: _note(told.note))


def _note(line: str) -> None:
    errors.print(line, markup=False, soft_wrap=True)
