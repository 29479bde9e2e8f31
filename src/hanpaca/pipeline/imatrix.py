"""Collect an importance matrix: the mean square of what each column of a matrix is given."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from hanpaca.errors import ArtifactError
from hanpaca.gguf.imatrix import ImportanceMatrix
from hanpaca.gguf.names import gguf_name
from hanpaca.pipeline.layerwise import open_layerwise


def collect_imatrix(
    path: Path,
    texts: Iterable[str],
    *,
    datasets: Sequence[str],
    num_tokens: int,
    block_tokens: int,
    on_layer: Callable[[int, int], None] = lambda done, total: None,
) -> ImportanceMatrix:
    """Run a model over a text, one layer in memory at a time, and add up squared inputs.

    As in llama.cpp the head is left out, and the start token of each block counts.

    Args:
        path: Model folder, or a GGUF file, whose weights are then dequantized.
        texts: Documents.
        datasets: What the matrix says it was made of.
        num_tokens: Most tokens of the text.
        block_tokens: Context at most.
        on_layer: Told the layers done and in all.

    Raises:
        ArtifactError: The model is damaged, or makes infinite numbers.
        DataError: There is no text.
    """
    model = open_layerwise(path)
    blocks = model.blocks(texts, num_tokens=num_tokens, block_tokens=block_tokens)
    sums: dict[str, Tensor] = {}
    counts: dict[str, float] = {}

    def watch(name: str, inputs_tc: Tensor) -> None:
        squares_c = inputs_tc.square().sum(0, dtype=torch.float64)
        if not torch.isfinite(squares_c).all():
            raise ArtifactError(f"{path}: the inputs of {name} are not finite: the model is broken")
        ours = str(gguf_name(name))
        sums[ours] = sums[ours] + squares_c if ours in sums else squares_c
        counts[ours] = counts.get(ours, 0.0) + len(inputs_tc)

    model.states(blocks, watch=watch, on_layer=on_layer)
    return ImportanceMatrix(
        sums={name: np.asarray(values.float().numpy()) for name, values in sums.items()},
        counts=counts,
        datasets=tuple(datasets),
        num_blocks=len(blocks.ids),
        block_tokens=block_tokens,
    )
