"""The command serve."""

import signal
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer

from hanpaca.cli.chat import leave, teller
from hanpaca.cli.options import EmbedderKey
from hanpaca.errors import RecipeError


def serve(
    model: Annotated[
        Path,
        typer.Argument(
            metavar="MODEL", help="A run, a GGUF file, a folder of them, or a model folder."
        ),
    ],
    adapter: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=PATH", help="LoRA served under its own name; repeatable."),
    ] = None,
    name: Annotated[str | None, typer.Option(help="Of the model; else of its file.")] = None,
    host: Annotated[str, typer.Option(help="0.0.0.0 for other machines too.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="0 for any that is free.")] = 8000,
    api_key: Annotated[
        str | None,
        typer.Option(envvar="HANPACA_API_KEY", show_envvar=True, help="What clients must send."),
    ] = None,
    context_tokens: Annotated[int, typer.Option(help="Room for each request.")] = 2048,
    num_parallel: Annotated[int, typer.Option(help="Requests answered at a time.")] = 4,
    most_waiting: Annotated[int, typer.Option(help="More are told to come back.")] = 64,
    threads: Annotated[int | None, typer.Option(help="Else as many as cores are free.")] = None,
    template: Annotated[
        str | None,
        typer.Option(help="A name of docs/chat.md, such as chatml, or a Jinja file; else its own."),
    ] = None,
    exact: Annotated[
        bool, typer.Option("--exact", help="Write a model folder as F16, not as Q8_0.")
    ] = False,
    embeddings: Annotated[
        bool, typer.Option("--embeddings", help="Also give vectors of texts.")
    ] = False,
    documents: Annotated[
        Path | None,
        typer.Option(help="Also answer from this index of `hanpaca ask add`, as NAME+documents."),
    ] = None,
    embedder_key: EmbedderKey = None,
) -> None:
    """Serve OpenAI's API: chat, completions, embeddings."""
    from hanpaca.steps.serve import Service
    from hanpaca.steps.serve import serve as run

    service = Service(
        host=host,
        port=port,
        api_key=api_key,
        name=name,
        context_tokens=context_tokens,
        num_parallel=num_parallel,
        most_waiting=most_waiting,
        threads=threads,
        template=template,
        exact=exact,
        embeddings=embeddings,
        documents=documents,
        embedder_key=embedder_key,
    )
    signal.signal(signal.SIGTERM, leave)
    with suppress(KeyboardInterrupt):  # which is how it ends
        run(model, service, adapters=_named(adapter or ()), tell=teller())


def _named(words: Sequence[str]) -> dict[str, str | Path]:
    found: dict[str, str | Path] = {}
    for word in words:
        name, _, path = word.partition("=")
        if not (name and path) or name in found:
            raise RecipeError(f"adapter {word!r:.80} is no NAME=PATH with a name of its own")
        found[name] = Path(path)
    return found
