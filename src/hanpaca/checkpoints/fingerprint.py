"""Names for the content of a model and of a tokenizer, whatever files they lie in."""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path
from weakref import WeakKeyDictionary

import torch

from hanpaca.checkpoints.dtypes import DTYPES
from hanpaca.checkpoints.model import ModelFiles, read_tensors
from hanpaca.checkpoints.rows import OpenFiles, Workspace, read_exactly, read_rows
from hanpaca.checkpoints.tensors import Stored, matrix_shape
from hanpaca.files import read_json

_PIECE_BYTES = 1 << 20
_KNOWN: WeakKeyDictionary[ModelFiles, str] = WeakKeyDictionary()
_TOKENIZER_PARTS = ("normalizer", "pre_tokenizer", "model", "added_tokens", "decoder")


def model_fingerprint(folder: Path) -> str:
    """SHA-256 over every weight's name, type, shape and data, in Hugging Face's names and order.

    Files and format do not matter: shards, `.bin` and Meta's `.pth` of one model are one.

    Raises:
        ArtifactError: The weights are missing or damaged.
    """
    places = read_tensors(folder)
    files = {extent.file for stored in places.values() for extent in stored.extents}
    stats = [(str(file.resolve()), file.stat()) for file in sorted(files)]
    return _fingerprint_of(
        folder.resolve(), tuple((name, stat.st_size, stat.st_mtime_ns) for name, stat in stats)
    )


def base_fingerprint(base: ModelFiles) -> str:
    """The fingerprint of a model whose headers have been read; hashed once for each opening."""
    if base not in _KNOWN:
        _KNOWN[base] = tensors_fingerprint({**base.tensors, **(base.doubled or {})})
    return _KNOWN[base]


@lru_cache(maxsize=8)
def _fingerprint_of(folder: Path, state: tuple[tuple[str, int, int], ...]) -> str:
    """Of files in a state: who asks again in the same program need not wait again."""
    del state
    return tensors_fingerprint(read_tensors(folder))


def tensors_fingerprint(places: Mapping[str, Stored]) -> str:
    """The fingerprint of a model whose tensors lie there."""
    with OpenFiles() as files:

        def blocks(name: str) -> Iterator[torch.Tensor]:
            return _blocks(places[name], files)

        return fingerprint(
            {name: (DTYPES[at.dtype], at.shape) for name, at in places.items()}, blocks
        )


def fingerprint(
    tensors: Mapping[str, tuple[torch.dtype, tuple[int, ...]]],
    blocks: Callable[[str], Iterable[torch.Tensor]],
) -> str:
    """SHA-256 over tensors, given their types and shapes and, by name, their data in pieces."""

    def digest(name: str) -> bytes:
        content = hashlib.sha256()
        for block in blocks(name):
            content.update(block.view(torch.uint8).view(-1).numpy().data)
        return content.digest()

    whole = hashlib.sha256()
    with ThreadPoolExecutor(2) as pool:
        for name, data in zip(sorted(tensors), pool.map(digest, sorted(tensors)), strict=True):
            dtype, shape = tensors[name]
            whole.update(f"{name} {dtype} {list(shape)}\n".encode())
            whole.update(data)
    return whole.hexdigest()


def _blocks(stored: Stored, files: OpenFiles) -> Iterator[torch.Tensor]:
    """The data, read piece by piece: mapped into memory it would count as the process's own."""
    num_rows, num_columns = matrix_shape(stored.shape)
    workspace, extent = Workspace(), stored.extents[0]
    unit, dtype = stored.head_rows or 1, DTYPES[stored.dtype]
    size = max(1, _PIECE_BYTES // max(1, num_columns * dtype.itemsize) // unit) * unit
    for start in range(0, num_rows, size):
        rows = range(start, min(start + size, num_rows))
        block = workspace.take("block", dtype, (len(rows), num_columns))
        if len(stored.extents) == 1 and not stored.head_rows and not extent.encoding:
            read_exactly(files, block, extent, start)
        else:
            whole = workspace.take("whole", torch.float32, (len(rows), num_columns))
            read_rows(stored, rows, whole, files=files, workspace=workspace)
            block.copy_(whole)
        yield block


def tokenizer_fingerprint(folder: Path) -> str:
    """SHA-256 over what decides how `tokenizer.json` encodes; its layout does not matter.

    Raises:
        ArtifactError: The file is missing or damaged.
    """
    tree = read_json(folder / "tokenizer.json")
    parts = [tree.get(part) for part in _TOKENIZER_PARTS]
    text = json.dumps(parts, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()
