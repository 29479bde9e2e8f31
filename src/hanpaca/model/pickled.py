"""Where the tensors of a torch pickle (`.bin`, `.pth`) lie, for reading them row by row."""

from math import prod
from pathlib import Path

from hanpaca.errors import ArtifactError
from hanpaca.model.checkpoint import DTYPES
from hanpaca.model.pickle_headers import TorchTensor, read_tree
from hanpaca.model.stored import Stored, whole


def read_pickled_headers(file: Path) -> dict[str, Stored]:
    """Find the tensors of a torch file.

    Raises:
        ArtifactError: See `hanpaca.model.pickle_headers.read_tree`; or the file holds something
            else than contiguous tensors of weights by name.
    """
    tree = read_tree(file)
    if not isinstance(tree, dict):
        raise ArtifactError(f"{file}: holds no tensors by name")
    return {name: _stored(file, name, value) for name, value in tree.items()}


def _stored(file: Path, name: object, value: object) -> Stored:
    if not isinstance(name, str) or not isinstance(value, TorchTensor):
        raise ArtifactError(f"{file}: {name!r:.100} is not a tensor")
    dtype, shape = value.header.dtype, value.header.shape
    if dtype not in DTYPES:
        raise ArtifactError(
            f"{file}: tensor {name} is of type {dtype}; known are {', '.join(DTYPES)}"
        )
    if not _is_contiguous(value):
        raise ArtifactError(f"{file}: tensor {name} is a view; save it again with .contiguous()")
    return whole(file, value.begin, DTYPES[dtype], shape)


def _is_contiguous(tensor: TorchTensor) -> bool:
    shape = tensor.header.shape
    wanted = (prod(shape[at + 1 :]) for at in range(len(shape)))
    sizes = zip(shape, tensor.stride, wanted, strict=True)
    return 0 in shape or all(size == 1 or have == want for size, have, want in sizes)
