"""The command that gets an adapter back from two full models: extract."""

import json
import time
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import Annotated

import typer

from hanpaca.cli.display import errors
from hanpaca.cli.tools import BaseFolder, Output


def extract(
    base: BaseFolder,
    tuned: Annotated[Path, typer.Option(help="Folder or .gguf file of the model after tuning.")],
    rank: Annotated[int, typer.Option(help="Rank of the update of every matrix.")],
    output: Output,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")] = False,
) -> None:
    """Get a LoRA adapter back from two full models, and say how much of the change it lost."""
    from hanpaca.model.extract import extract_adapter
    from hanpaca.pipeline.gguf_base import open_base

    last = 0.0

    def tell(done: int, total: int) -> None:
        nonlocal last
        if done == total or time.monotonic() - last > 2.0:
            last = time.monotonic()
            errors.print(f"extracting: {done} of {total} matrices", markup=False)

    found = extract_adapter(open_base(base), open_base(tuned), output, rank=rank, on_tensor=tell)
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
