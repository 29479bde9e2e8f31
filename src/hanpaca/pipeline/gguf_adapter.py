"""A LoRA adapter of any dialect as a GGUF adapter, where GGUF can say what it means."""

from collections.abc import Callable
from pathlib import Path
from typing import Literal

import numpy as np
from torch import Tensor

from hanpaca.errors import ArtifactError
from hanpaca.gguf.lora import LowRankUpdate, write_adapter
from hanpaca.model.merge import Adapter, MergeOptions, plan_merge
from hanpaca.model.merge.adapters import Change, Update
from hanpaca.model.meta import EMBEDDING, HEAD
from hanpaca.model.reading import OpenFiles, read_all
from hanpaca.model.stored import Stored
from hanpaca.pipeline.gguf_base import open_base


def adapter_to_gguf(
    adapter: Path,
    base: Path,
    output: Path,
    *,
    dtype: Literal["f16", "f32"],
    alpha: float | None = None,
) -> int:
    """Write an adapter for llama.cpp's `--lora`.

    Args:
        adapter: Folder of the adapter.
        base: The model it was trained on: any folder or GGUF file.
        output: The file.
        dtype: Of the factors.
        alpha: The training's `lora_alpha`, for an adapter without configuration.

    Returns:
        How many matrices it changes.

    Raises:
        ArtifactError: Adapter and base do not fit, or the adapter does what GGUF cannot say.
    """
    plan = plan_merge(open_base(base), [adapter], MergeOptions(alpha=alpha))
    (read,) = plan.adapters
    for name, change in read.changes.items():
        _check(read, name, change)
    with OpenFiles() as files:

        def load(stored: Stored) -> Tensor:
            return read_all(stored, files)

        updates = [
            _loaded(name, change.update, load)
            for name, change in sorted(read.changes.items())
            if change.update is not None
        ]
    write_adapter(
        output,
        updates,
        config=plan.config,
        dtype=dtype,
        metadata={"general.name": adapter.resolve().name}
        | {key: text for key, text in read.metadata.items() if key.startswith("hanpaca.")},
    )
    return len(updates)


def _check(adapter: Adapter, name: str, change: Change) -> None:
    told = None
    if change.replacement is not None:
        told = f"brings the whole of {name}"
    elif change.rows is not None:
        told = f"has new rows for {name}"
    elif change.update is not None and change.update.magnitude is not None:
        told = f"scales the rows of {name} (DoRA)"
    elif change.update is not None and name in (EMBEDDING, HEAD):
        told = f"updates {name}"
    if told:
        raise ArtifactError(
            f"{adapter.file}: {told}, which a GGUF adapter cannot carry; fold it into its base: "
            f"`hanpaca gguf BASE --adapter {adapter.folder} -o DIR`"
        )


def _loaded(name: str, update: Update, load: Callable[[Stored], Tensor]) -> LowRankUpdate:
    a, b = load(update.a), load(update.b)
    if not (a.isfinite().all() and b.isfinite().all()):
        raise ArtifactError(f"{name}: the adapter holds NaN or infinite values; train it again")
    if update.transposed:
        a, b = b.t(), a.t()
    return LowRankUpdate(name, np.asarray(a.numpy()), np.asarray(b.numpy()), update.scaling)
