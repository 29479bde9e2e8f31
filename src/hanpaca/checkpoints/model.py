"""A model on disk, in any of the formats models come in, under Hugging Face names."""

import shutil
import tempfile
import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from hanpaca.checkpoints import meta
from hanpaca.checkpoints.gguf_model import GgufModel, open_gguf, stored_tensors
from hanpaca.checkpoints.rows import OpenFiles, OpenTensor, Workspace, open_rows, read_rows
from hanpaca.checkpoints.shapes import MODEL_TYPES, check_whole, looks_like_llama
from hanpaca.checkpoints.tensors import Stored, matrix_shape
from hanpaca.checkpoints.weights import (
    MODEL_FILES,
    RECOMPUTED,
    check_complete,
    check_readable,
    find_weights,
)
from hanpaca.errors import ArtifactError
from hanpaca.files import read_json

_COMPARED_ELEMENTS = 1 << 20
"""At a time, of a head and an embedding."""

WriteSide = Callable[[GgufModel, Path], None]
"""Writes into a folder what a Hugging Face folder has beside the weights."""


@dataclass(frozen=True, eq=False)
class ModelFiles:
    """A whole model on disk; of its weights nothing is in memory."""

    folder: Path
    """Or the file that holds it."""
    tensors: Mapping[str, Stored]
    config: Mapping[str, Any]
    """As `config.json` has it."""
    notes: tuple[str, ...] = ()
    """What is odd about the files, and what was made of it."""
    doubled: Mapping[str, Stored] | None = None
    """A tied head that lies in the files a second time."""
    write_side: Callable[[Path], None] | None = None
    """Of a GGUF file: see `side`."""

    @cached_property
    def side(self) -> Path | None:
        """Folder of what else belongs to it, where that is not `folder`.

        Of a GGUF file it is written when it is first asked for, and removed with this object.
        """
        if self.write_side is None:
            return None
        folder = Path(tempfile.mkdtemp(prefix="hanpaca-"))
        weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
        self.write_side(folder)
        return folder

    @property
    def side_folder(self) -> Path:
        """Where configuration and tokenizer are."""
        return self.side or self.folder

    @property
    def tied(self) -> bool:
        """Whether embedding and head are one matrix."""
        return meta.HEAD not in self.tensors

    @property
    def num_bytes(self) -> int:
        """Of the weights, as they lie in the files."""
        extents = (extent for stored in self.tensors.values() for extent in stored.extents)
        return sum(extent.num_bytes for extent in extents)

    def rows(self) -> AbstractContextManager[dict[str, OpenTensor]]:
        """Give every tensor by its name, to be read a few rows at a time."""
        return open_rows(self.tensors)


def open_model(path: Path, *, write_side: WriteSide | None = None) -> ModelFiles:
    """Read the headers of a model: safetensors, torch's `.bin`, Meta's `.pth`, or a GGUF file.

    The tensors of a GGUF file count as bfloat16, as in the folder `gguf_to_folder` makes of it, and
    have the same fingerprint; who reads rows gets them in full precision.

    Args:
        path: A folder, or a GGUF file.
        write_side: Writes configuration and tokenizer of a GGUF file when somebody asks for them;
            see `hanpaca.tokenizer.conversion.gguf_side`.

    Raises:
        ArtifactError: There is no model, a file is missing or damaged, or the weights are not
            those the configuration describes.
    """
    if path.suffix == ".gguf" and not path.is_dir():
        return _open_gguf(path, write_side)
    file = path / "config.json"
    config = read_json(file) if file.exists() else None
    _refuse_quantized(path, config or {})
    params, tensors = _read(path)
    if params is not None:
        with _fitting(path):
            shapes = {name: stored.shape for name, stored in tensors.items()}
            model = ModelFiles(path, tensors, meta.config_of(params, shapes))
    elif config is None:
        raise ArtifactError(f"{file}: missing; download it again")
    else:
        model = _with_one_head(path, tensors, config)
    _check_whole(model)
    return model


def _open_gguf(path: Path, write_side: WriteSide | None) -> ModelFiles:
    model = open_gguf(path)
    write = None if write_side is None else lambda folder: write_side(model, folder)
    return ModelFiles(path, stored_tensors(model), model.config, write_side=write)


def _check_whole(model: ModelFiles) -> None:
    """Other architectures than ours can be merged, but what they consist of is not known here."""
    shapes = {name: one.shape for name, one in model.tensors.items()}
    config = model.config
    if config.get("model_type") not in (*MODEL_TYPES, None):
        if not looks_like_llama(shapes):
            return
        # Such as Gemma, whose configurations leave out what is its default.
        config = {"tie_word_embeddings": model.tied, **config}
    try:
        check_whole(config, shapes)
    except ValueError as error:
        raise ArtifactError(f"{model.folder}: {error}") from error


def _refuse_quantized(folder: Path, config: Mapping[str, Any]) -> None:
    found = config.get("quantization_config")
    if found:
        kind = found.get("quant_method") if isinstance(found, dict) else found
        raise ArtifactError(
            f"{folder}: quantized weights (quantization_config: {kind!s:.40}), which cannot be "
            "worked on; give the model it was quantized from, in F16, BF16 or F32"
        )


def _with_one_head(
    folder: Path, tensors: Mapping[str, Stored], config: dict[str, Any]
) -> ModelFiles:
    """Decide whether the head is the embedding where the files have both, as transformers does."""
    embedding, head = tensors.get(meta.EMBEDDING), tensors.get(meta.HEAD)
    if not config.get("tie_word_embeddings") or embedding is None or head is None:
        return ModelFiles(folder, tensors, config)
    if _equal(embedding, head):
        others = {name: stored for name, stored in tensors.items() if name != meta.HEAD}
        return ModelFiles(folder, others, config, doubled={meta.HEAD: head})
    note = (
        f"{folder}: config.json says tie_word_embeddings true, but {meta.HEAD} is another matrix "
        "than the embedding: the head of the files is used, as transformers does"
    )
    return ModelFiles(folder, tensors, {**config, "tie_word_embeddings": False}, (note,))


def _equal(one: Stored, other: Stored) -> bool:
    if one == other:
        return True
    if one.shape != other.shape:
        return False
    num_rows, num_columns = matrix_shape(one.shape)
    step = max(1, _COMPARED_ELEMENTS // max(1, num_columns))
    workspace = Workspace()
    with OpenFiles() as files:
        for start in range(0, num_rows, step):
            rows = range(start, min(start + step, num_rows))
            blocks = []
            for use, stored in (("one", one), ("other", other)):
                block = workspace.take(use, torch.float32, (len(rows), num_columns))
                read_rows(stored, rows, block, files=files, workspace=workspace)
                blocks.append(block)
            if not torch.equal(*blocks):
                return False
    return True


def read_tensors(folder: Path) -> Mapping[str, Stored]:
    """Where a folder's weights lie, under Hugging Face names, without constants.

    Raises:
        ArtifactError: The folder holds no model, or a file is missing or damaged.
    """
    _, tensors = _read(folder)
    return tensors


def _read(folder: Path) -> tuple[dict[str, Any] | None, dict[str, Stored]]:
    """Meta's parameters, where it is Meta's format, and the tensors."""
    if not folder.is_dir():
        raise ArtifactError(f"{folder}: no such folder")
    weights = find_weights(folder)
    if weights is None:
        indexes = [f"{name}.index.json" for name in MODEL_FILES]
        names = [*MODEL_FILES, *indexes, meta.file_name(0)]
        raise ArtifactError(f"{folder}: no weights here: none of {', '.join(names)}")
    check_complete(weights)
    check_readable(weights)
    tensors = {name: at for name, at in weights.tensors.items() if not name.endswith(RECOMPUTED)}
    if weights.layout != "meta":
        return None, tensors
    file = folder / meta.PARAMS
    if not file.exists():
        raise ArtifactError(f"{file}: missing; download it again")
    params = read_json(file)
    with _fitting(folder):
        return params, {name: _in_heads(name, at, params) for name, at in tensors.items()}


def _in_heads(name: str, stored: Stored, params: Mapping[str, Any]) -> Stored:
    """A tensor of Meta's, with the size of the heads whose rows it has in another order."""
    sizes = {"hidden_size": params["dim"], "num_attention_heads": params["n_heads"]}
    size = meta.head_rows(name, sizes)
    starts = [extent.rows.start for extent in stored.extents] + [matrix_shape(stored.shape)[0]]
    if size and (size % 2 or any(start % size for start in starts)):
        raise ValueError(f"{name} is not made of whole heads of {size} rows")
    return replace(stored, head_rows=size)


@contextmanager
def _fitting(folder: Path) -> Iterator[None]:
    """Blame `params.json` for what does not fit the weights."""
    try:
        yield
    except (ArithmeticError, LookupError, TypeError, ValueError) as error:
        raise ArtifactError(
            f"{folder / meta.PARAMS}: does not fit the weights beside it: {error!r}"
        ) from error
