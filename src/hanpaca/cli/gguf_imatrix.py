"""The command `gguf imatrix`: what a quantizer should take care of."""

from pathlib import Path
from typing import Annotated

import typer

from hanpaca.cli.chat import Encoding, TextField, Texts, read_texts
from hanpaca.cli.display import counter

NumTokens = Annotated[int, typer.Option("--num-tokens", min=1, help="Of the text, at most.")]
BlockTokens = Annotated[int, typer.Option("--block-tokens", min=2, help="Context at most.")]


def imatrix(
    model: Annotated[Path, typer.Argument(help="Folder of a model, or a GGUF file.")],
    text: Texts,
    output: Annotated[Path, typer.Option("--output", "-o", help="File to write (.gguf).")],
    num_tokens: NumTokens = 32_768,
    block_tokens: BlockTokens = 512,
    encoding: Encoding = "utf-8",
    text_field: TextField = "text",
) -> None:
    """Measure on a text which columns matter, for `gguf write --imatrix` and llama-quantize."""
    from hanpaca.steps.imatrix import imatrix as work

    counted = counter("layers")
    matrix = work(
        model,
        read_texts(text, encoding=encoding, text_field=text_field),
        output,
        num_tokens=num_tokens,
        block_tokens=block_tokens,
        datasets=[path.name for path in text],
        tell=lambda sign: counted(int(sign.done), int(sign.total or 0)),
    )
    seen = int(max(matrix.counts.values()))
    print(f"{output}: {len(matrix.sums)} matrices, {seen:,} tokens in {matrix.num_blocks} blocks")
