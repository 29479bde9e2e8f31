"""The command summarise."""

import json
import signal
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Literal

import typer

from hanpaca.cli.chat import leave
from hanpaca.cli.display import errors, worded
from hanpaca.cli.options import AsJson
from hanpaca.progress import Progress


def summarise(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="Text, .html, .docx, .epub or .pdf.")
    ],
    model: Annotated[Path, typer.Option(help="A run, a GGUF file, or a model folder.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Text file; must not exist.")],
    method: Annotated[
        Literal["auto", "stuff", "map_reduce", "refine"],
        typer.Option(help="As a whole, parts by themselves, or part after part; auto by length."),
    ] = "auto",
    encoding: Annotated[str, typer.Option(help="Of a text, such as gb18030; auto finds out.")] = (
        "auto"
    ),
    max_tokens: Annotated[int, typer.Option(help="Most tokens of an answer.")] = 512,
    temperature: Annotated[float, typer.Option(help="0 takes the likeliest token.")] = 0.0,
    context_tokens: Annotated[int, typer.Option(help="Room for a part and its answer.")] = 4096,
    template: Annotated[
        str | None,
        typer.Option(help="A name of docs/chat.md, such as chatml, or a Jinja file; else its own."),
    ] = None,
    threads: Annotated[int | None, typer.Option(help="Else as many as cores are free.")] = None,
    as_json: AsJson = False,
) -> None:
    """Summarise a document of any length; goes on after an interruption."""
    from hanpaca.steps.chat import Loading, Sampling
    from hanpaca.steps.summarise import summarise as run

    def tell(progress: Progress) -> None:
        errors.print(worded(progress), markup=False, soft_wrap=True)

    signal.signal(signal.SIGTERM, leave)
    summary = run(
        file,
        output,
        model=model,
        method=method,
        encoding=encoding,
        sampling=Sampling(max_tokens=max_tokens, temperature=temperature),
        loading=Loading(context_tokens=context_tokens, threads=threads, template=template),
        tell=tell,
    )
    print(json.dumps(asdict(summary), ensure_ascii=False) if as_json else summary.text)
