"""The command `gguf export`: a folder to give to others."""

from pathlib import Path
from typing import Annotated

import typer

from hanpaca.cli.display import errors
from hanpaca.cli.pages import Lang
from hanpaca.cli.words import speak_as
from hanpaca.report.wording import ENGLISH


def export(
    source: Annotated[Path, typer.Argument(metavar="RUN|FOLDER|FILE", help="GGUF files.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder to write.")],
    name: Annotated[str | None, typer.Option(help="Of the model; else that of the folder.")] = None,
    license_: Annotated[
        str | None, typer.Option("--license", help="Such as apache-2.0; else the file's.")
    ] = None,
    language: Annotated[list[str] | None, typer.Option(help="Tag, such as ko; repeatable.")] = None,
    base_model: Annotated[list[str] | None, typer.Option(help="Hub id; repeatable.")] = None,
    system: Annotated[str | None, typer.Option(help="System prompt for Ollama.")] = None,
    lang: Lang = ENGLISH,
) -> None:
    """Put GGUF files, an Ollama Modelfile, a model card and checksums into one folder."""
    from hanpaca.steps.export import export as work

    report = work(
        source,
        output,
        name=name or output.resolve().name,
        license=license_,
        languages=language or (),
        base_models=base_model or (),
        system=system,
        lang=speak_as(lang),
    )
    if report.template is None:
        errors.print("Note: the chat template is none that is known; the Modelfile has no TEMPLATE")
    print(f"{output}: {', '.join(report.files)}")
