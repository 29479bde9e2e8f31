"""GGUF files against the models they are made of."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hanpaca.errors import ArtifactError
from hanpaca.gguf.read import GgufModel
from hanpaca.gguf.size import predict_all
from hanpaca.gguf.verify import Deviation, deviations
from hanpaca.model.merge import MergeOptions, merged_rows, plan_merge


def gguf_deviations(
    model: GgufModel, folder: Path, on_bytes: Callable[[int, int], None]
) -> list[Deviation]:
    """Compare every weight of a file with a model folder of any layout; see `deviations`."""
    with merged_rows(plan_merge(folder, [], MergeOptions())) as tensors:
        by_name = {tensor.name: tensor for tensor in tensors}

        def read(name: str) -> NDArray[np.float32]:
            if name not in by_name:
                raise ArtifactError(f"{folder}: has no {name}, but {model.path} has")
            tensor = by_name[name]
            rows = tensor.read(0, tensor.shape[0])
            return np.asarray(rows.numpy()).reshape(tensor.shape)

        return deviations(model, read, on_bytes)


def predict_folder(folder: Path) -> dict[str, int]:
    """Bytes of the weights of every kind of file that could be made of a model folder."""
    plan = plan_merge(folder, [], MergeOptions())
    return predict_all({tensor.name: tensor.shape for tensor in plan.tensors}, plan.config)
