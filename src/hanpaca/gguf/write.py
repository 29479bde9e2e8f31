"""Write a Llama-style model as GGUF files of several types in one reading.

Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from gguf.constants import GGUF_DEFAULT_ALIGNMENT
from gguf.constants import GGMLQuantizationType as Type
from numpy.typing import NDArray

from hanpaca.checkpoints.gguf_names import gguf_name, num_rotary_heads
from hanpaca.checkpoints.rope import computed_tensors
from hanpaca.errors import ArtifactError, ResourceError
from hanpaca.gguf.config import check_config
from hanpaca.gguf.metadata import Metadata, add_header, add_metadata, add_vocabulary
from hanpaca.gguf.stream import Part, SourceTensor, Target, write_parts
from hanpaca.gguf.types import Shape, needs_importance, num_bytes, tensor_type
from hanpaca.tokenizer.conversion.gguf import Vocabulary

Importance = Mapping[str, NDArray[np.float32]]
"""GGUF name of a matrix to how much an error in each of its columns matters."""


@dataclass(frozen=True)
class GgufReport:
    """A file that was written."""

    file: Path = field(compare=False)
    num_bytes: int
    num_tensors: int
    types: Mapping[str, int]
    """How many tensors have each type."""
    notes: tuple[str, ...] = ()
    """What llama.cpp will do in another way than transformers, and the warnings of the plan this
    was written of; to be told."""


def write_files(
    outputs: Mapping[str, Path],
    tensors: Sequence[SourceTensor],
    *,
    config: Mapping[str, Any],
    vocabulary: Vocabulary,
    metadata: Metadata,
    importance: Importance | None = None,
    on_bytes: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, GgufReport]:
    """Write one file for each type; they appear under their names only when all are whole.

    Args:
        outputs: Key of `hanpaca.gguf.types.FILE_TYPES` to file; its folder is made if it is not
            there.
        tensors: Every weight; a head that is tied to the embedding is left out.
        config: As `config.json` has it.
        vocabulary: One token for every row of the embedding.
        metadata: Further keys, such as `hanpaca.base.fingerprint`.
        importance: Of matrices; it also changes some types, as in llama-quantize.
        on_bytes: Called with the bytes of weights written so far and in all, of all files.

    Raises:
        ArtifactError: A weight is unknown to llama.cpp, holds NaN, infinite values or values too
            large for a type, or the importance matrix is missing or of another model.
        ResourceError: The disk is full, a file cannot be written, or kernels are missing.
    """
    notes = (*check_config(config), *vocabulary.differences)
    parts = _plan(tensors, config, tuple(outputs), importance)
    partials = {kind: file.with_name(file.name + ".partial") for kind, file in outputs.items()}
    total = sum(num_bytes(part.source.shape, kind) for part in parts for kind in part.kinds)
    done = 0

    def count(written: int) -> None:
        nonlocal done
        done += written
        on_bytes(done, total)

    try:
        with ExitStack() as stack:
            targets = []
            for number, (file_type, output) in enumerate(outputs.items()):
                partial = partials[file_type]
                output.parent.mkdir(parents=True, exist_ok=True)
                with closing(gguf.GGUFWriter(partial, "llama")) as writer:
                    add_header(writer, config, file_type, metadata.get("general.name", output.stem))
                    add_vocabulary(writer, vocabulary)
                    add_metadata(writer, metadata)
                    _write_header(writer, parts, number)
                targets.append(stack.enter_context(_room(partial, parts, number)))
            write_parts(parts, targets, on_bytes=count)
        for file_type, output in outputs.items():
            partials[file_type].rename(output)
    except OSError as error:
        where = error.filename or next(iter(outputs.values())).parent
        raise ResourceError(f"{where}: {error.strerror or error}; nothing was written") from error
    finally:
        for partial in partials.values():
            if partial.exists():
                partial.unlink()
    return {
        file_type: _summary(output, [part.kinds[number] for part in parts], notes)
        for number, (file_type, output) in enumerate(outputs.items())
    }


def _plan(
    tensors: Sequence[SourceTensor],
    config: Mapping[str, Any],
    file_types: Sequence[str],
    importance: Importance | None,
) -> list[Part]:
    """Every tensor to write, in llama.cpp's order."""
    model = Shape.of(config, importance=importance is not None)
    parts = [
        Part(_constant(name, values), name, (Type.F32,) * len(file_types), 0, None)
        for name, values in computed_tensors(config).items()
    ]
    for tensor in sorted(tensors, key=lambda tensor: _order(tensor.name)):
        name = _known_name(tensor.name)
        if model.tied and name == "output.weight":
            continue
        kinds = tuple(
            tensor_type(name, tensor.shape, file_type=file_type, model=model)
            for file_type in file_types
        )
        weights = _importance_of(name, tensor.shape, importance or {})
        for file_type, kind in zip(file_types, kinds, strict=True):
            if weights is None and needs_importance(name, kind, file_type=file_type):
                raise ArtifactError(
                    f"{file_type} needs an importance matrix with {name}: give one, or choose q2_k"
                )
        heads = num_rotary_heads(name, num_heads=model.num_heads, num_kv_heads=model.num_kv_heads)
        head_rows = tensor.shape[0] // heads if heads else 0
        parts.append(Part(tensor, name, kinds, head_rows, weights))
    return parts


def _constant(name: str, values: NDArray[np.float32]) -> SourceTensor:
    return SourceTensor(name, values.shape, lambda start, stop: values[start:stop, None])


def _importance_of(
    name: str, shape: tuple[int, ...], importance: Importance
) -> NDArray[np.float32] | None:
    weights = importance.get(name)
    if weights is None or len(shape) == 1:
        return None
    if weights.shape != (shape[-1],):
        raise ArtifactError(
            f"importance matrix: {name} has {weights.shape} numbers, its rows have {shape[-1]}: "
            "it was collected with another model"
        )
    if not np.isfinite(weights).all():
        raise ArtifactError(f"importance matrix: {name} holds NaN or infinite numbers")
    return weights


def _write_header(writer: gguf.GGUFWriter, parts: Sequence[Part], number: int) -> None:
    """Write all that comes before the data."""
    for part in parts:
        _announce(writer, part.name, part.source.shape, part.kinds[number])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()


@contextmanager
def _room(file: Path, parts: Sequence[Part], number: int) -> Iterator[Target]:
    """Make room for the data after the header, and say where it goes."""
    at, offsets = _padded(file.stat().st_size), []
    for part in parts:
        offsets.append(at)
        at += _padded(num_bytes(part.source.shape, part.kinds[number]))
    descriptor = os.open(file, os.O_WRONLY)
    try:
        os.posix_fallocate(descriptor, 0, at)
        yield Target(descriptor, offsets)
    finally:
        os.close(descriptor)


def _padded(size: int) -> int:
    return -(-size // GGUF_DEFAULT_ALIGNMENT) * GGUF_DEFAULT_ALIGNMENT


def _summary(file: Path, kinds: Sequence[Type], notes: tuple[str, ...]) -> GgufReport:
    types = Counter(kind.name for kind in kinds)
    return GgufReport(file, file.stat().st_size, len(kinds), types, notes)


def _known_name(name: str) -> str:
    ours = gguf_name(name)
    if ours is None:
        raise ArtifactError(f"tensor {name}: llama.cpp's llama architecture has no such tensor")
    return ours


def _order(name: str) -> tuple[int, int, str]:
    """Embedding, layers in order, then norm and head: as llama.cpp reads them."""
    if "embed_tokens" in name:
        return 0, 0, name
    if "layers." in name:
        return 1, int(name.split(".")[2]), name
    return 2, 0, name


def _announce(writer: gguf.GGUFWriter, name: str, shape: tuple[int, ...], kind: Type) -> None:
    if kind in (Type.F32, Type.F16):
        dtype = np.dtype(np.float32 if kind == Type.F32 else np.float16)
        writer.add_tensor_info(name, shape, dtype, num_bytes(shape, kind))
    else:
        byte_shape = gguf.quant_shape_to_byte_shape(shape, kind)
        writer.add_tensor_info(
            name, byte_shape, np.dtype(np.uint8), num_bytes(shape, kind), raw_dtype=kind
        )
