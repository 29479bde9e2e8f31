"""The command `gguf compare`: what the smaller files cost."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from hanpaca.cli.chat import Encoding, TextField, Texts, read_texts
from hanpaca.cli.display import counter, print_table
from hanpaca.cli.gguf_imatrix import BlockTokens, NumTokens
from hanpaca.cli.pages import Lang
from hanpaca.cli.words import speak_as
from hanpaca.files import whole
from hanpaca.report.wording import ENGLISH


def compare(
    reference: Annotated[Path, typer.Argument(help="GGUF file or folder to compare with.")],
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Quantized from it.")],
    text: Texts,
    num_tokens: NumTokens = 4_096,
    block_tokens: BlockTokens = 512,
    svg: Annotated[Path | None, typer.Option(help="Plot size against divergence.")] = None,
    html: Annotated[Path | None, typer.Option(help="Write a page with plot and table.")] = None,
    lang: Lang = ENGLISH,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")] = False,
    encoding: Encoding = "utf-8",
    text_field: TextField = "text",
) -> None:
    """Measure how far quantized files are from their model, on a text.

    Weights alone are compared, in float32; llama.cpp rounds activations too.
    """
    from hanpaca.report.compare_page import (
        COMPARE_HEADER,
        compare_page,
        compare_rows,
        divergence_chart,
    )
    from hanpaca.steps.compare_gguf import compare_models

    lang = speak_as(lang)
    counters = {path: counter(f"{path.name}: layers") for path in [reference, *files]}
    found = compare_models(
        [reference, *files],
        read_texts(text, encoding=encoding, text_field=text_field),
        num_tokens=num_tokens,
        block_tokens=block_tokens,
        on_layer=lambda path, done, total: counters[path](done, total),
    )
    if svg is not None:
        with whole(svg, replace=True) as partial:
            partial.write_text(divergence_chart(found, lang=lang, alone=True), encoding="utf-8")
    if html is not None:
        with whole(html, replace=True) as partial:
            partial.write_text(compare_page(found, lang=lang), encoding="utf-8")
    if as_json:
        print(json.dumps([asdict(one) for one in found], ensure_ascii=False, indent=2))
        return
    print_table(COMPARE_HEADER, compare_rows(found))
