"""Collect an importance matrix: the mean square of what each column of a matrix is given."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from hanpaca.checkpoints.gguf_names import gguf_name
from hanpaca.errors import ArtifactError
from hanpaca.files import whole
from hanpaca.gguf.imatrix import ImportanceMatrix, write_imatrix
from hanpaca.progress import Progress, Tell, silent
from hanpaca.steps.layerwise import open_layerwise


def imatrix(
    model: Path | str,
    texts: Iterable[str],
    output: Path | str,
    *,
    num_tokens: int = 32_768,
    block_tokens: int = 512,
    datasets: Sequence[str] = (),
    tell: Tell = silent,
) -> ImportanceMatrix:
    """Measure on a text which columns matter, and write that for `write_gguf` and llama-quantize.

    >>> found = imatrix(BASE, ["The quick brown fox jumps over the lazy dog."], OUTPUT)
    >>> len(found.sums), found.num_blocks
    (14, 1)

    Args:
        model: Folder of a model, or a GGUF file.
        texts: Documents of the kind that the model is for.
        output: File to write, which must not exist.
        num_tokens: Most tokens of the text.
        block_tokens: Context at most.
        datasets: What the matrix says it was made of.
        tell: Called with the layers done.

    Raises:
        ArtifactError: The model is damaged, or makes infinite numbers, or `output` exists.
        DataError: There is no text.
        ResourceError: The file cannot be written.
    """

    def count(done: int, total: int) -> None:
        tell(Progress(done, total, "layers"))

    with whole(Path(output)) as partial:
        matrix = collect_imatrix(
            Path(model),
            texts,
            datasets=datasets,
            num_tokens=num_tokens,
            block_tokens=block_tokens,
            on_layer=count,
        )
        write_imatrix(partial, matrix)
    return matrix


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
