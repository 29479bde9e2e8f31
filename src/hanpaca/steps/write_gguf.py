"""Write models as GGUF files, and GGUF files as folders."""

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypedDict, Unpack

import numpy as np
import torch
from numpy.typing import NDArray

from hanpaca.checkpoints.card_file import read_card
from hanpaca.checkpoints.fingerprint import tokenizer_fingerprint
from hanpaca.checkpoints.gguf_model import GgufModel, open_gguf
from hanpaca.checkpoints.meta import EMBEDDING
from hanpaca.checkpoints.model import ModelFiles, open_model
from hanpaca.checkpoints.rows import TensorRows
from hanpaca.checkpoints.safetensors import PlannedTensor, write_weights
from hanpaca.checkpoints.shapes import MODEL_TYPES
from hanpaca.errors import ArtifactError, RecipeError
from hanpaca.files import read_json
from hanpaca.gguf.imatrix import read_imatrix
from hanpaca.gguf.metadata import Metadata
from hanpaca.gguf.stream import SourceTensor
from hanpaca.gguf.types import FILE_TYPES
from hanpaca.gguf.write import GgufReport, Importance, write_files
from hanpaca.merging.fit import plan_merge
from hanpaca.merging.plan import MergeOptions, MergePlan
from hanpaca.merging.rows import merged_rows
from hanpaca.merging.run import write_side
from hanpaca.progress import Progress, Tell, silent
from hanpaca.tokenizer.conversion.gguf_side import write_gguf_side
from hanpaca.tokenizer.conversion.vocabularies import folder_vocabulary


class GgufKeywords(TypedDict, total=False):
    """What `write_gguf` may be told of the model beside it."""

    name: str
    """Files are called NAME.TYPE.gguf; else after the last adapter, or the model."""
    metadata: Metadata
    """Further keys of the files, before what the base's model card says."""


def write_gguf(
    model: Path | str,
    output: Path | str,
    *,
    types: Sequence[str] = ("q4_k_m",),
    adapters: Sequence[Path | str] = (),
    imatrix: Path | str | None = None,
    tell: Tell = silent,
    **more: Unpack[GgufKeywords],
) -> dict[str, GgufReport]:
    """Write a model as GGUF files for llama.cpp, of several types in one reading.

    Adapters are folded in on the way: the files are, to the byte, those of merging first. They
    appear under their names when all are whole.

    >>> found = write_gguf(BASE, OUTPUT, types=["f16", "q8_0"])
    >>> [(kind, report.file.name, report.notes) for kind, report in found.items()]
    [('f16', 'base.f16.gguf', ()), ('q8_0', 'base.q8_0.gguf', ())]

    Args:
        model: A folder of any layout, or a GGUF file; with adapters, their base.
        output: Folder for the files, made if need be; files of the same name are replaced.
        types: Such as "f16" or "q4_k_m": keys of `hanpaca.gguf.types.FILE_TYPES`.
        adapters: LoRA adapters to fold in, in order.
        imatrix: File of an importance matrix.
        tell: Called with the bytes of weights written.
        more: See `GgufKeywords`.

    Returns:
        By type, what was written, and what there is to be told about it.

    Raises:
        RecipeError: A type is unknown, or there is none.
        ArtifactError: The model or an adapter is damaged, they do not fit each other, or a GGUF
            file has no place for something they say.
        ResourceError: The disk is full, or a file cannot be written.
    """

    def count(done: int, total: int) -> None:
        tell(Progress(done, total, "bytes", "writing"))

    base, wanted = Path(model), _known_types(types)
    folded = [Path(adapter) for adapter in adapters]
    name = more.get("name") or [base, *folded][-1].resolve().name
    matrix = read_imatrix(Path(imatrix)) if imatrix else None
    described = matrix.described(Path(str(imatrix)).name) if matrix else {}
    return model_to_gguf(
        open_model(base, write_side=write_gguf_side) if base.is_file() else base,
        {kind: Path(output) / f"{name}.{kind}.gguf" for kind in wanted},
        adapters=folded,
        metadata={**described, **more.get("metadata", {})},
        importance=matrix.means() if matrix else None,
        on_bytes=count,
    )


def _known_types(types: Sequence[str]) -> list[str]:
    known = f"known: {', '.join(FILE_TYPES)}"
    if not types:
        raise RecipeError("no type of file is given", f"give {{types}}; {known}")
    for name in types:
        if name not in FILE_TYPES:
            raise RecipeError(f"the type of file {name!r:.40} is unknown; {known}")
    return list(dict.fromkeys(types))


def gguf_to_folder(gguf: Path, folder: Path) -> None:
    """Dequantize a GGUF file into a bfloat16 Hugging Face folder with its exact tokenizer.

    The folder appears only when it is whole.

    Raises:
        ArtifactError: See `hanpaca.checkpoints.gguf_model.open_gguf`.
    """
    model = open_gguf(gguf)
    partial = folder.with_name(folder.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    write_gguf_side(model, partial)
    write_weights(partial, [_planned(model, name) for name in model.tensors])
    partial.rename(folder)


def folder_to_gguf(
    model: Path,
    output: Path,
    *,
    file_type: str,
    metadata: Metadata,
    on_bytes: Callable[[int, int], None] = lambda done, total: None,
) -> GgufReport:
    """Write a model folder as one GGUF file; see `model_to_gguf`."""
    outputs = {file_type: output}
    return model_to_gguf(model, outputs, metadata=metadata, on_bytes=on_bytes)[file_type]


def model_to_gguf(
    base: Path | ModelFiles,
    outputs: Mapping[str, Path],
    *,
    adapters: Sequence[Path] = (),
    metadata: Metadata,
    importance: Importance | None = None,
    on_bytes: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, GgufReport]:
    """Write a model as GGUF files of several types, in one reading and without merging it first.

    The files are, to the byte, those of the folder that a merge would write.

    Args:
        base: A folder of any layout that can be merged into, or what
            `open_model` made of a file, whose values are taken in full precision.
        outputs: Kind of file to file.
        adapters: To fold in, in order.
        metadata: Further keys of the files, before what the base's model card says.
        importance: See `hanpaca.gguf.write.write_files`.
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
) -> dict[str, GgufReport]:
    """Write what a merge or a sum of models would write, as GGUF files; see `model_to_gguf`."""
    rows = {tensor.name: tensor.shape[0] for tensor in plan.tensors}
    with _described(plan) as folder, merged_rows(plan) as tensors:
        written = write_files(
            outputs,
            [_source(tensor) for tensor in tensors],
            config=_config(plan),
            vocabulary=folder_vocabulary(folder, rows["model.embed_tokens.weight"]),
            metadata={
                **read_card(plan.base.folder).metadata(),
                **_tokenizer_key(folder),
                **metadata,
            },
            importance=importance,
            on_bytes=on_bytes,
        )
    return {kind: replace(one, notes=(*plan.warnings, *one.notes)) for kind, one in written.items()}


def plan_to_file(
    plan: MergePlan,
    output: Path,
    *,
    on_bytes: Callable[[int, int], None] = lambda done, total: None,
) -> GgufReport:
    """Write what a merge or a sum of models would write as one GGUF file, of the plan's own type.

    Raises:
        ArtifactError: The file exists; or see `model_to_gguf`.
        ResourceError: The disk is full, or the file cannot be written.
    """
    if output.exists():
        raise ArtifactError(f"{output}: already exists", "remove it or give another {output}")
    dtype = next(one.dtype for one in plan.tensors if one.name == EMBEDDING)
    file_type = {torch.float32: "f32", torch.float16: "f16", torch.bfloat16: "bf16"}[dtype]
    outputs = {file_type: output}
    return plan_to_gguf(plan, outputs, metadata={}, on_bytes=on_bytes)[file_type]


def _tokenizer_key(folder: Path) -> dict[str, str]:
    """Which tokenizer it is, where there is one that adapters record."""
    if not (folder / "tokenizer.json").is_file():
        return {}
    return {"hanpaca.tokenizer.fingerprint": tokenizer_fingerprint(folder)}


def _source(tensor: TensorRows) -> SourceTensor:
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


def _config(plan: MergePlan) -> Mapping[str, Any]:
    """What the merged model's `config.json` would say.

    Raises:
        ArtifactError: It is of another architecture.
    """
    if plan.config.get("model_type") not in MODEL_TYPES:
        raise ArtifactError(
            f"{plan.base.folder / 'config.json'}: not the configuration of a Llama-style model"
        )
    return plan.config


def read_config(folder: Path) -> dict[str, Any]:
    """Read `config.json` of a Llama-style model.

    Raises:
        ArtifactError: It is missing, damaged, or of another architecture.
    """
    file = folder / "config.json"
    config = read_json(file)
    if config.get("model_type") not in MODEL_TYPES:
        raise ArtifactError(f"{file}: not the configuration of a Llama-style model")
    return config


def _planned(model: GgufModel, name: str) -> PlannedTensor:
    return PlannedTensor(
        name,
        torch.bfloat16,
        model.tensors[name].shape,
        lambda: torch.from_numpy(model.weight(name)).bfloat16(),
    )
