"""`hanpaca tokenizer advise`: whether to extend, and by how much."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from hanpaca.cli.chat import BaseFolder, Encoding, TextField
from hanpaca.cli.corpora import NamedTexts, Scripts, documents
from hanpaca.cli.display import errors, print_table
from hanpaca.cli.pages import Lang
from hanpaca.cli.words import speak_as
from hanpaca.report.wording import ENGLISH


def advise(
    base: BaseFolder,
    text: NamedTexts,
    num_pieces: Annotated[int, typer.Option(help="Largest extension to think of.")] = 20_000,
    script: Scripts = None,
    num_parameters: Annotated[
        int | None, typer.Option(help="Of the model, if the base folder has no config.json.")
    ] = None,
    hidden_size: Annotated[int | None, typer.Option(help="Of the model, likewise.")] = None,
    tied: Annotated[bool, typer.Option(help="Embedding and head are one; likewise.")] = False,
    train_speed: Annotated[
        float | None, typer.Option(help="Tokens per second in training, for the break-even.")
    ] = None,
    decode_speed: Annotated[
        float | None, typer.Option(help="Tokens per second in decoding, for the break-even.")
    ] = None,
    encoding: Encoding = "utf-8",
    text_field: TextField = "text",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")] = False,
    svg: Annotated[Path | None, typer.Option(help="Write the plot here.")] = None,
    html: Annotated[Path | None, typer.Option(help="Write plot and table here.")] = None,
    lang: Lang = ENGLISH,
) -> None:
    """Advise whether to extend a vocabulary, and by how many pieces."""
    from hanpaca.report.advice_page import ADVICE_HEADER, LEGEND, advice_rows
    from hanpaca.steps.advise import advise as work

    lang = speak_as(lang)
    advice = work(
        base,
        documents(text, encoding=encoding, text_field=text_field),
        num_pieces=num_pieces,
        scripts=script or (),
        tell=lambda one: errors.print(one.note, markup=False),
        num_parameters=num_parameters,
        hidden_size=hidden_size,
        tied=tied,
        train_speed=train_speed,
        decode_speed=decode_speed,
    )
    if svg:
        advice.write_chart(svg, lang=lang)
    if html:
        advice.write_page(html, lang=lang)
    if as_json:
        print(json.dumps(asdict(advice), ensure_ascii=False, indent=2))
        return
    print_table(ADVICE_HEADER, advice_rows(advice))
    print(f"{LEGEND}\n\n{advice.sentence}")
