"""The command `gguf compare`: what the smaller files cost."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from hanpaca.cli.display import counter, print_table
from hanpaca.cli.imatrix import BlockTokens, NumTokens
from hanpaca.cli.tools import Encoding, TextField, Texts, read_texts
from hanpaca.cli.whole import written_whole


def compare(
    reference: Annotated[Path, typer.Argument(help="GGUF file or folder to compare with.")],
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Quantized from it.")],
    text: Texts,
    num_tokens: NumTokens = 4_096,
    block_tokens: BlockTokens = 512,
    svg: Annotated[Path | None, typer.Option(help="Plot size against divergence.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")] = False,
    encoding: Encoding = "utf-8",
    text_field: TextField = "text",
) -> None:
    """Measure how far quantized files are from their model, on a text.

    Weights alone are compared, in float32; llama.cpp rounds activations too.
    """
    from hanpaca.evals.divergence import divergence_chart
    from hanpaca.pipeline.divergence import compare_models

    counters = {path: counter(f"{path.name}: layers") for path in [reference, *files]}
    found = compare_models(
        [reference, *files],
        read_texts(text, encoding=encoding, text_field=text_field),
        num_tokens=num_tokens,
        block_tokens=block_tokens,
        on_layer=lambda path, done, total: counters[path](done, total),
    )
    if svg is not None:
        with written_whole(svg, replace=True) as partial:
            partial.write_text(divergence_chart(found), encoding="utf-8")
    if as_json:
        print(json.dumps([asdict(one) for one in found], ensure_ascii=False, indent=2))
        return
    rows = [
        (
            one.model,
            f"{one.num_bytes / 1e6:.1f}",
            f"{one.kl:.5f}",
            "{:.5f}–{:.5f}".format(*one.kl_interval) if one.kl_interval else "–",
            f"{one.agreement:.2%}",
            f"{one.bits_per_character:.4f}",
        )
        for one in found
    ]
    print_table(("file", "MB", "KL, nats/token", "95 %", "same first", "bits/char"), rows)
