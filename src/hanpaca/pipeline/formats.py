"""Between GGUF files and Hugging Face folders: where the two core packages meet."""

import json
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from hanpaca.errors import ArtifactError
from hanpaca.gguf.metadata import Metadata
from hanpaca.gguf.read import GgufModel, open_gguf
from hanpaca.gguf.stream import SourceTensor
from hanpaca.gguf.write import GgufSummary, Importance, write_gguf
from hanpaca.model.bases import Base
from hanpaca.model.checkpoint import PlannedTensor, write_weights
from hanpaca.model.fingerprint import tokenizer_fingerprint
from hanpaca.model.merge import (
    MergedTensor,
    MergeOptions,
    MergePlan,
    merged_rows,
    plan_merge,
    write_side,
)
from hanpaca.model.meta import EMBEDDING
from hanpaca.pipeline.card import read_card
from hanpaca.pipeline.vocabularies import folder_vocabulary, write_vocabulary


def gguf_to_folder(gguf: Path, folder: Path) -> None:
    """Dequantize a GGUF file into a bfloat16 Hugging Face folder with its exact tokenizer.

    The folder appears only when it is whole.

    Raises:
        ArtifactError: See `hanpaca.gguf.read.open_gguf`.
    """
    model = open_gguf(gguf)
    partial = folder.with_name(folder.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    write_gguf_side(model, partial)
    write_weights(partial, [_planned(model, name) for name in model.tensors])
    partial.rename(folder)


def write_gguf_side(model: GgufModel, folder: Path) -> None:
    """Write what a Hugging Face folder has beside the weights: configuration and tokenizer."""
    write_vocabulary(model.vocabulary, folder, model.path)
    for name, tree in (
        ("config.json", dict(model.config)),
        ("generation_config.json", _generation_config(model.config)),
    ):
        (folder / name).write_text(json.dumps(tree, indent=2), encoding="utf-8")


def folder_to_gguf(
    model: Path,
    output: Path,
    *,
    file_type: str,
    metadata: Metadata,
    on_bytes: Callable[[int, int], None] = lambda done, total: None,
) -> GgufSummary:
    """Write a model folder as one GGUF file; see `model_to_gguf`."""
    outputs = {file_type: output}
    return model_to_gguf(model, outputs, metadata=metadata, on_bytes=on_bytes)[file_type]


def model_to_gguf(
    base: Path | Base,
    outputs: Mapping[str, Path],
    *,
    adapters: Sequence[Path] = (),
    metadata: Metadata,
    importance: Importance | None = None,
    on_bytes: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, GgufSummary]:
    """Write a model as GGUF files of several types, in one reading and without merging it first.

    The files are, to the byte, those of the folder that a merge would write.

    Args:
        base: A folder of any layout that can be merged into, or what
            `open_base` made of a file, whose values are taken in full precision.
        outputs: Kind of file to file.
        adapters: To fold in, in order.
        metadata: Further keys of the files, before what the base's model card says.
        importance: See `hanpaca.gguf.write.write_gguf`.
        on_bytes: Called with the bytes of weights written so far and in all.

    Raises:
        ArtifactError: The folder is no Llama-style model, or its parts do not fit each other.
        ResourceError: The disk is full, or a file cannot be written.
    """
    # A file's values may be finer than the bfloat16 that a merge would store.
    options = MergeOptions(dtype="as-base" if isinstance(base, Path) else "f32")
    plan = plan_merge(base, adapters, options)
    return plan_to_gguf(plan, outputs, metadata=metadata, importance=importance, on_bytes=on_bytes)


def plan_to_gguf(
    plan: MergePlan,
    outputs: Mapping[str, Path],
    *,
    metadata: Metadata,
    importance: Importance | None = None,
    on_bytes: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, GgufSummary]:
    """Write what a merge or a sum of models would write, as GGUF files; see `model_to_gguf`."""
    rows = {tensor.name: tensor.shape[0] for tensor in plan.tensors}
    with _described(plan) as folder, merged_rows(plan) as tensors:
        return write_gguf(
            outputs,
            [_source(tensor) for tensor in tensors],
            config=read_config(folder),
            vocabulary=folder_vocabulary(folder, rows["model.embed_tokens.weight"]),
            metadata={
                **read_card(plan.base.folder).metadata(),
                **_tokenizer_key(folder),
                **metadata,
            },
            importance=importance,
            on_bytes=on_bytes,
        )


def plan_to_file(
    plan: MergePlan,
    output: Path,
    *,
    on_bytes: Callable[[int, int], None] = lambda done, total: None,
) -> GgufSummary:
    """Write what a merge or a sum of models would write as one GGUF file, of the plan's own type.

    Raises:
        ArtifactError: The file exists; or see `model_to_gguf`.
        ResourceError: The disk is full, or the file cannot be written.
    """
    if output.exists():
        raise ArtifactError(f"{output}: already exists; remove it or give another output file")
    dtype = next(one.dtype for one in plan.tensors if one.name == EMBEDDING)
    file_type = {torch.float32: "f32", torch.float16: "f16", torch.bfloat16: "bf16"}[dtype]
    outputs = {file_type: output}
    return plan_to_gguf(plan, outputs, metadata={}, on_bytes=on_bytes)[file_type]


def _tokenizer_key(folder: Path) -> dict[str, str]:
    """Which tokenizer it is, where there is one that adapters record."""
    if not (folder / "tokenizer.json").is_file():
        return {}
    return {"hanpaca.tokenizer.fingerprint": tokenizer_fingerprint(folder)}


def _source(tensor: MergedTensor) -> SourceTensor:
    def read(start: int, stop: int) -> NDArray[np.float32]:
        return np.asarray(tensor.read(start, stop).numpy())

    return SourceTensor(tensor.name, tensor.shape, read, tensor.block_rows)


@contextmanager
def _described(plan: MergePlan) -> Iterator[Path]:
    """A folder with what lies beside the weights of the merged model."""
    if not plan.adapters and (plan.base.folder / "config.json").is_file():
        yield plan.base.folder
        return
    with TemporaryDirectory() as name:
        write_side(plan, Path(name))
        try:
            yield Path(name)
        except ArtifactError as error:  # the reader looks for the user's files
            source = plan.tokenizer_source or plan.base.folder
            raise ArtifactError(str(error).replace(name, str(source))) from error


def read_config(folder: Path) -> dict[str, Any]:
    """Read `config.json` of a Llama-style model.

    Raises:
        ArtifactError: It is missing, damaged, or of another architecture.
    """
    file = folder / "config.json"
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ArtifactError(f"{file}: cannot be read: {error}") from error
    if not isinstance(config, dict) or config.get("model_type") not in ("llama", "mistral"):
        raise ArtifactError(f"{file}: not the configuration of a Llama-style model")
    return config


def _planned(model: GgufModel, name: str) -> PlannedTensor:
    return PlannedTensor(
        name,
        torch.bfloat16,
        model.tensors[name].shape,
        lambda: torch.from_numpy(model.weight(name)).bfloat16(),
    )


def _generation_config(config: Mapping[str, Any]) -> dict[str, Any]:
    return {name: config[name] for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
