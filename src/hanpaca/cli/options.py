"""Options of merge and combine, and values that are more than a word: sizes, weighted paths."""

import math
from pathlib import Path
from typing import Annotated, Literal

import typer

from hanpaca.errors import RecipeError

Written = Annotated[
    Path, typer.Option("--output", "-o", help="Folder or .gguf file; must not exist.")
]
WrittenFormat = Annotated[
    Literal["hf", "pth", "gguf"],
    typer.Option("--format", help="Hugging Face's or Meta's format, or one .gguf file."),
]
ShardSize = Annotated[str, typer.Option(help="Largest file, such as 2GB or 500MB.")]
EmbedderKey = Annotated[
    str | None,
    typer.Option(envvar="HANPACA_EMBEDDER_KEY", show_envvar=True, help="Of the embedder's server."),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Print what it would take; write nothing.")]
WithManifest = Annotated[
    bool, typer.Option(help="Hash all that is read and written into manifest.json.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")]
_UNITS = {"MB": 10**6, "GB": 10**9}


def parse_size(text: str) -> int:
    """Bytes of a size such as 5GB.

    Raises:
        RecipeError: It is no size.
    """
    number, unit = text[:-2].strip(), text[-2:].upper()
    try:
        size = int(float(number) * _UNITS[unit])
    except (KeyError, ValueError, OverflowError) as error:
        raise RecipeError(f"--max-shard-size: {text!r} is not a size like 5GB or 500MB") from error
    if size <= 0:
        raise RecipeError(f"--max-shard-size: {text!r} must be more than nothing")
    return size


def parse_weighted(text: str, option: str) -> tuple[Path, float | None]:
    """Read PATH or PATH=WEIGHT; a path that exists is never cut.

    Raises:
        RecipeError: The weight is not a finite number.
    """
    path, sign, number = text.rpartition("=")
    if not sign or Path(text).exists():
        return Path(text), None
    try:
        weight = float(number)
    except ValueError as error:
        raise RecipeError(f"{option}: {number!r} in {text!r} is not a weight like 0.5") from error
    if not math.isfinite(weight):
        raise RecipeError(f"{option}: the weight in {text!r} must be a finite number")
    return Path(path), weight
