"""The command `gguf adapter`: a LoRA for llama.cpp to apply by itself."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from hanpaca.cli.whole import written_whole


def adapter(
    adapter: Annotated[Path, typer.Argument(help="Folder of a LoRA adapter.")],
    base: Annotated[Path, typer.Option(help="The model it was trained on: folder or GGUF.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="File to write (.gguf).")],
    dtype: Annotated[Literal["f16", "f32"], typer.Option("--type", help="Of the factors.")] = "f16",
    alpha: Annotated[
        float | None, typer.Option(help="lora_alpha of an adapter without adapter_config.json.")
    ] = None,
) -> None:
    """Write a LoRA adapter as GGUF, for `llama-server --lora` beside an unchanged model."""
    from hanpaca.pipeline.gguf_adapter import adapter_to_gguf

    with written_whole(output) as partial:
        count = adapter_to_gguf(adapter, base, partial, dtype=dtype, alpha=alpha)
    print(f"{output}: {count} matrices, {output.stat().st_size / 1e6:.1f} MB")
