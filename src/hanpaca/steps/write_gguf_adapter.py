"""A LoRA adapter of any dialect as a GGUF adapter, where GGUF can say what it means."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from torch import Tensor

from hanpaca.checkpoints.adapter import AdapterFiles
from hanpaca.checkpoints.adapter_changes import AdapterTensor, Change, Update
from hanpaca.checkpoints.meta import EMBEDDING, HEAD
from hanpaca.checkpoints.model import open_model
from hanpaca.checkpoints.rows import OpenFiles, read_all
from hanpaca.errors import ArtifactError
from hanpaca.files import whole
from hanpaca.gguf.adapter import LowRankUpdate, write_adapter
from hanpaca.merging import MergeOptions, plan_merge
from hanpaca.tokenizer.conversion.gguf_side import write_gguf_side


@dataclass(frozen=True)
class GgufAdapterReport:
    """What was written."""

    num_matrices: int
    """Which it changes."""
    num_bytes: int
    warnings: Sequence[str]


def write_gguf_adapter(
    adapter: Path | str,
    base: Path | str,
    output: Path | str,
    *,
    dtype: Literal["f16", "f32"] = "f16",
    alpha: float | None = None,
) -> GgufAdapterReport:
    """Write an adapter for llama.cpp's `--lora`, beside an unchanged model.

    ```python
    report = write_gguf_adapter("adapter", "llama-7b", "adapter.gguf")
    ```

    Args:
        adapter: Folder of the adapter.
        base: The model it was trained on: any folder or GGUF file.
        output: The file; it appears when it is whole.
        dtype: Of the factors.
        alpha: The training's `lora_alpha`, for an adapter without configuration.

    Raises:
        ArtifactError: Adapter and base do not fit, or the adapter does what GGUF cannot say; or
            the file exists.
        ResourceError: It cannot be written.
    """
    plan = plan_merge(
        open_model(Path(base), write_side=write_gguf_side),
        [Path(adapter)],
        MergeOptions(alpha=alpha),
    )
    (read,) = plan.adapters
    for name, change in read.changes.items():
        _check(read, name, change)
    keys = {key: text for key, text in read.metadata.items() if key.startswith("hanpaca.")}
    with whole(Path(output)) as partial:
        write_adapter(
            partial,
            _updates(read),
            config=plan.config,
            dtype=dtype,
            metadata={"general.name": Path(adapter).resolve().name} | keys,
        )
    return GgufAdapterReport(len(read.updates), Path(output).stat().st_size, plan.warnings)


def _updates(adapter: AdapterFiles) -> list[LowRankUpdate]:
    with OpenFiles() as files:

        def load(part: AdapterTensor) -> Tensor:
            return read_all(part.stored, files)

        return [_loaded(name, update, load) for name, update in sorted(adapter.updates.items())]


def _check(adapter: AdapterFiles, name: str, change: Change) -> None:
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
            f"{adapter.file}: {told}, which a GGUF adapter cannot carry",
            "fold it into its base with {write_gguf()} and its {adapter}",
        )


def _loaded(name: str, update: Update, load: Callable[[AdapterTensor], Tensor]) -> LowRankUpdate:
    a, b = load(update.a), load(update.b)
    if not (a.isfinite().all() and b.isfinite().all()):
        raise ArtifactError(f"{name}: the adapter holds NaN or infinite values; train it again")
    if update.transposed:
        a, b = b.t(), a.t()
    return LowRankUpdate(name, np.asarray(a.numpy()), np.asarray(b.numpy()), update.scaling)
