"""Whether adapters can be folded into a base, and what that would take."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, TypedDict, Unpack

from hanpaca.checkpoints.model import open_model
from hanpaca.merging import MergeOptions, estimate
from hanpaca.merging.fit import Fit
from hanpaca.merging.fit import fit as judge
from hanpaca.tokenizer.conversion.gguf_side import write_gguf_side

__all__ = ["Fit", "Format", "MergeChoices", "MergeOptions", "estimate", "fit"]

Format = Literal["hf", "pth", "gguf"]


class MergeChoices(TypedDict, total=False):
    """What the merged model is to look like; see `hanpaca.merging.MergeOptions`."""

    dtype: Literal["as-base", "f16", "bf16", "f32"]
    rounding: Literal["once", "per-adapter"]
    max_shard_bytes: int
    num_files: int | None
    alpha: float | None
    weights: tuple[float, ...]


def fit(
    base: Path | str,
    adapters: Sequence[Path | str] = (),
    *,
    format: Format = "hf",
    tokenizer: Path | str | None = None,
    read_content: bool = True,
    **choices: Unpack[MergeChoices],
) -> Fit:
    """Plan a merge from headers, and tell all that speaks against it: what `merge` would say.

    ```python
    found = fit("llama-7b", ["plus", "alpaca"])
    print(found.faults, found.warnings)
    ```

    Args:
        base: What the first adapter was trained on: a folder of any layout, or a GGUF file.
        adapters: In order; each was trained on the result of those before it.
        format: Of the merged model.
        tokenizer: Folder of the tokenizer it gets; the last adapter's, or else the base's, if None.
        read_content: Hash what has a recorded fingerprint or a published hash; else headers alone
            are read.
        choices: See `MergeChoices`.

    Raises:
        ArtifactError: A file is missing or damaged.
    """
    options = MergeOptions(format="hf" if format == "gguf" else format, **choices)
    return judge(
        open_model(Path(base), write_side=write_gguf_side),
        [Path(adapter) for adapter in adapters],
        options,
        tokenizer=None if tokenizer is None else Path(tokenizer),
        read_content=read_content,
    )
