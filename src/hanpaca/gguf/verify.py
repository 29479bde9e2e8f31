"""Look into a GGUF file: hashes of its tensors, damaged values, distance from its model."""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from gguf.constants import GGMLQuantizationType as Type
from numpy.typing import NDArray

from hanpaca.checkpoints.gguf import Header
from hanpaca.checkpoints.gguf_model import GgufModel
from hanpaca.errors import ArtifactError

_CHUNK_BYTES = 1 << 22
LARGEST_ERROR = {
    Type.F32: 0.0,
    Type.F16: 2**-11,
    Type.BF16: 2**-8,
    Type.Q8_0: 0.02,
    Type.Q6_K: 0.06,
    Type.Q5_0: 0.1,
    Type.Q5_1: 0.1,
    Type.Q5_K: 0.1,
    Type.Q4_0: 0.2,
    Type.Q4_1: 0.2,
    Type.Q4_K: 0.2,
    Type.IQ4_NL: 0.2,
    Type.IQ4_XS: 0.2,
    Type.Q3_K: 0.4,
    Type.Q2_K: 0.7,
}
"""Root mean square of the error over that of the weights, which no healthy tensor of a type passes.

Normal weights have about half of it; other weights, other tensors or another order of the rows have
an error of about 1.4."""


@dataclass(frozen=True)
class Deviation:
    """How far a tensor is from the weight it was made of."""

    name: str
    """In Hugging Face's files."""
    kind: Type
    relative_error: float
    """Root mean square of the error over that of the weight."""

    @property
    def is_plausible(self) -> bool:
        """Whether the type alone can explain it."""
        return self.relative_error <= LARGEST_ERROR[self.kind]


def tensor_hashes(path: Path, header: Header) -> dict[str, str]:
    """The sha256 of each tensor's bytes, by its name in the file."""
    data = np.memmap(path, np.uint8, "r").data
    found = {}
    for name, tensor in header.tensors.items():
        digest = hashlib.sha256()
        end = tensor.begin + tensor.num_bytes
        for start in range(tensor.begin, end, _CHUNK_BYTES):
            digest.update(data[start : min(start + _CHUNK_BYTES, end)])
        found[name] = digest.hexdigest()
    return found


def check_values(model: GgufModel, on_bytes: Callable[[int, int], None]) -> None:
    """Dequantize every weight, one at a time.

    Raises:
        ArtifactError: One holds NaN or infinite values: names it.
    """
    for name in _counted(model, on_bytes):
        model.weight(name)


def deviations(
    model: GgufModel,
    read: Callable[[str], NDArray[np.float32]],
    on_bytes: Callable[[int, int], None],
) -> list[Deviation]:
    """Compare every weight with that of the model the file was made of.

    Args:
        model: The file.
        read: A weight by its Hugging Face name.
        on_bytes: Called with the bytes looked at and in all.

    Raises:
        ArtifactError: A weight holds NaN or infinite values, is missing, or has another shape.
    """
    found = []
    for name in _counted(model, on_bytes):
        wanted, stored = read(name), model.weight(name)
        if wanted.shape != stored.shape:
            raise ArtifactError(
                f"{model.path}: {name} has the shape {stored.shape}, the model's {wanted.shape}: "
                "the file was made of another model"
            )
        size = float(np.linalg.norm(wanted))
        stored -= wanted
        error = float(np.linalg.norm(stored)) / size if size else float(np.abs(stored).max())
        found.append(Deviation(name, model.tensors[name].kind, error))
    return found


def _counted(model: GgufModel, on_bytes: Callable[[int, int], None]) -> Iterator[str]:
    total, done = sum(tensor.num_bytes for tensor in model.tensors.values()), 0
    for name, tensor in model.tensors.items():
        yield name
        done += tensor.num_bytes
        on_bytes(done, total)
