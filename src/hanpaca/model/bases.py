"""A base model on disk, in any of the formats bases come in, under Hugging Face names."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from hanpaca.errors import ArtifactError
from hanpaca.model import meta
from hanpaca.model.checkpoint import INDEX, WEIGHTS, read_headers
from hanpaca.model.pickled import read_pickled_headers
from hanpaca.model.stored import Extent, Stored, locate, matrix_shape

BIN_WEIGHTS = "pytorch_model.bin"
BIN_INDEX = "pytorch_model.bin.index.json"
_RECOMPUTED = (".rotary_emb.inv_freq", "rope.freqs")
"""Constants in old files, which are computed from the configuration today."""


@dataclass(frozen=True, eq=False)
class Base:
    """A model to merge into; nothing of its data has been read."""

    folder: Path
    """Or the file that holds it."""
    tensors: Mapping[str, Stored]
    config: Mapping[str, Any]
    """As `config.json` has it."""
    side: Path | None = None
    """Folder of what else belongs to it, where that is not `folder`."""

    @property
    def side_folder(self) -> Path:
        """Where configuration and tokenizer are."""
        return self.side or self.folder

    @property
    def tied(self) -> bool:
        """Whether embedding and head are one matrix."""
        return meta.HEAD not in self.tensors


def read_base(folder: Path) -> Base:
    """Read the headers of a base: safetensors, torch's `.bin`, or Meta's `.pth`.

    Raises:
        ArtifactError: The folder holds no model, or a file is missing or damaged.
    """
    tensors = read_tensors(folder)
    if _is_meta(folder):
        params = _read_json(folder / meta.PARAMS)
        with _fitting(folder):
            shapes = {name: stored.shape for name, stored in tensors.items()}
            return Base(folder, tensors, meta.config_of(params, shapes))
    config = _read_json(folder / "config.json")
    if config.get("tie_word_embeddings"):  # the head may lie in the files a second time
        tensors = {name: stored for name, stored in tensors.items() if name != meta.HEAD}
    return Base(folder, tensors, config)


def read_tensors(folder: Path) -> Mapping[str, Stored]:
    """Where a folder's weights lie, under Hugging Face names, without constants.

    Raises:
        ArtifactError: The folder holds no model, or a file is missing or damaged.
    """
    if not folder.is_dir():
        raise ArtifactError(f"{folder}: no such folder")
    if (folder / WEIGHTS).is_file() or (folder / INDEX).is_file():
        tensors: Mapping[str, Stored] = locate(read_headers(folder))
    elif (folder / BIN_WEIGHTS).is_file() or (folder / BIN_INDEX).is_file():
        tensors = _read_bins(folder)
    elif files := meta.meta_files(folder):
        tensors = _read_meta(folder, [read_pickled_headers(file) for file in files])
    else:
        raise ArtifactError(
            f"{folder}: no weights here: none of {WEIGHTS}, {INDEX}, {BIN_WEIGHTS}, {BIN_INDEX}, "
            "consolidated.00.pth"
        )
    return {name: at for name, at in tensors.items() if not name.endswith(_RECOMPUTED)}


def _is_meta(folder: Path) -> bool:
    names = (WEIGHTS, INDEX, BIN_WEIGHTS, BIN_INDEX)
    return not any((folder / name).is_file() for name in names)


def _read_bins(folder: Path) -> dict[str, Stored]:
    if (folder / BIN_WEIGHTS).is_file():
        return read_pickled_headers(folder / BIN_WEIGHTS)
    places = _read_json(folder / BIN_INDEX).get("weight_map")
    if not isinstance(places, dict) or not all(isinstance(name, str) for name in places.values()):
        raise ArtifactError(f"{folder / BIN_INDEX}: damaged index: no weight_map")
    found: dict[str, Stored] = {}
    for name in sorted(set(places.values())):
        if Path(name).name != name:
            raise ArtifactError(f"{folder / BIN_INDEX}: {name!r} points outside the folder")
        for tensor, stored in read_pickled_headers(folder / name).items():
            if tensor in found:
                raise ArtifactError(f"{folder / name}: tensor {tensor} is also in another file")
            found[tensor] = stored
    if missing := sorted(set(places) - set(found)):
        raise ArtifactError(
            f"{folder / BIN_INDEX}: tensor {missing[0]} is in no file; download the model again"
        )
    return found


def _read_meta(folder: Path, files: Sequence[Mapping[str, Stored]]) -> dict[str, Stored]:
    params = _read_json(folder / meta.PARAMS)
    tensors = {}
    with _fitting(folder):
        hidden, heads = int(params["dim"]), int(params["n_heads"])
        rows = {"hidden_size": hidden, "num_attention_heads": heads}
        for name in files[0]:
            if name.endswith(_RECOMPUTED):
                continue
            target = meta.hf_name(name)
            if target is None:
                raise ArtifactError(f"{folder}: tensor {name} is of a kind not known here")
            joined = _joined(target, [part[name] for part in files], hidden)
            tensors[target] = replace(joined, head_rows=meta.head_rows(target, rows))
            _check_heads(target, tensors[target])
    return tensors


@contextmanager
def _fitting(folder: Path) -> Iterator[None]:
    """Blame `params.json` for what does not fit the weights."""
    try:
        yield
    except (ArithmeticError, LookupError, TypeError, ValueError) as error:
        raise ArtifactError(
            f"{folder / meta.PARAMS}: does not fit the weights beside it: {error!r}"
        ) from error


def _joined(name: str, parts: Sequence[Stored], hidden: int) -> Stored:
    """One tensor out of its shares in all files."""
    how = meta.cut(name)
    if how == "copied" or len(parts) == 1:
        return parts[0]
    # LLaMA 3 cuts the embedding by rows, where 1 and 2 cut it by columns.
    by_rows = how == "rows" or (name == meta.EMBEDDING and parts[0].shape[1] == hidden)
    extents: list[Extent] = []
    row = column = 0
    for part in parts:
        num_rows, num_columns = matrix_shape(part.shape)
        (extent,) = part.extents
        extents.append(
            replace(
                extent,
                rows=range(row, row + num_rows),
                columns=range(column, column + num_columns),
            )
        )
        row, column = (row + num_rows, 0) if by_rows else (0, column + num_columns)
    shape = (extents[-1].rows.stop, extents[-1].columns.stop)
    other = {matrix_shape(part.shape)[1 if by_rows else 0] for part in parts}
    if len(other) != 1:
        raise ValueError(f"the shares of {name} do not fit together")
    return Stored(shape, tuple(extents))


def _check_heads(name: str, stored: Stored) -> None:
    size = stored.head_rows
    starts = [extent.rows.start for extent in stored.extents] + [matrix_shape(stored.shape)[0]]
    if size and (size % 2 or any(start % size for start in starts)):
        raise ValueError(f"{name} is not made of whole heads of {size} rows")


def _read_json(file: Path) -> dict[str, Any]:
    try:
        tree = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ArtifactError(f"{file}: missing; download it again") from error
    except (OSError, ValueError, RecursionError) as error:
        raise ArtifactError(f"{file}: cannot be read: {error}") from error
    if not isinstance(tree, dict):
        raise ArtifactError(f"{file}: not an object")
    return tree
