"""The command that gets an adapter back from two full models: extract."""

import json
import time
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import Annotated

import typer

from hanpaca.cli.chat import Output
from hanpaca.cli.display import errors
from hanpaca.progress import Progress


def extract(
    base: Annotated[Path, typer.Option(help="Folder or .gguf file of the model before tuning.")],
    tuned: Annotated[Path, typer.Option(help="Folder or .gguf file of the model after tuning.")],
    rank: Annotated[int, typer.Option(help="Rank of the update of every matrix.")],
    output: Output,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")] = False,
) -> None:
    """Get a LoRA adapter back from two full models, and say how much of the change it lost."""
    from hanpaca.steps.extract import extract as extract_adapter

    last = 0.0

    def tell(sign: Progress) -> None:
        nonlocal last
        if sign.done == sign.total or time.monotonic() - last > 2.0:
            last = time.monotonic()
            errors.print(f"extracting: {sign.done:.0f} of {sign.total:.0f} matrices", markup=False)

    found = extract_adapter(base, tuned, output, rank=rank, tell=tell)
    if as_json:
        print(json.dumps(asdict(found), indent=2))
        return
    lost = sorted(found.relative_errors.items(), key=lambda item: -item[1])
    print(f"{output}: rank {rank}, {len(lost)} matrices, {found.num_new_rows} new rows")
    if lost:
        print(f"lost of the change: median {median(dict(lost).values()):.2%}; most in")
    for name, share in lost[:5]:
        print(f"  {share:7.2%} {name}")
    if found.whole:
        print(f"kept whole: {', '.join(found.whole[:4])}{' …' if len(found.whole) > 4 else ''}")
