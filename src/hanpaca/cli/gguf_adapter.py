"""The command `gguf adapter`: a LoRA for llama.cpp to apply by itself."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from hanpaca.cli.display import errors


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
    from hanpaca.steps.write_gguf_adapter import write_gguf_adapter

    written = write_gguf_adapter(adapter, base, output, dtype=dtype, alpha=alpha)
    for warning in written.warnings:
        errors.print(f"warning: {warning}", markup=False, soft_wrap=True)
    print(f"{output}: {written.num_matrices} matrices, {written.num_bytes / 1e6:.1f} MB")
