"""The command `gguf imatrix`: what a quantizer should take care of."""

from pathlib import Path
from typing import Annotated

import typer

from hanpaca.cli.display import counter
from hanpaca.cli.tools import Encoding, TextField, Texts, read_texts
from hanpaca.cli.whole import written_whole

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
    from hanpaca.gguf.imatrix import write_imatrix
    from hanpaca.pipeline.imatrix import collect_imatrix

    with written_whole(output) as partial:
        matrix = collect_imatrix(
            model,
            read_texts(text, encoding=encoding, text_field=text_field),
            datasets=[path.name for path in text],
            num_tokens=num_tokens,
            block_tokens=block_tokens,
            on_layer=counter("layers"),
        )
        write_imatrix(partial, matrix)
    seen = int(max(matrix.counts.values()))
    print(f"{output}: {len(matrix.sums)} matrices, {seen:,} tokens in {matrix.num_blocks} blocks")
