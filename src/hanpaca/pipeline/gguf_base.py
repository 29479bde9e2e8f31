"""A GGUF file as the base of a merge: its rows are dequantized when they are read."""

import shutil
import tempfile
import weakref
from functools import partial
from pathlib import Path

import gguf
import numpy as np
import torch
from gguf.constants import GGMLQuantizationType as Type
from torch import Tensor

from hanpaca.gguf.names import gguf_name, num_rotary_heads
from hanpaca.gguf.read import GgufModel, open_gguf
from hanpaca.model.bases import Base, read_base
from hanpaca.model.stored import Encoding, Extent, Stored, matrix_shape
from hanpaca.pipeline.formats import write_gguf_side

_FLOATS = {Type.F32: torch.float32, Type.F16: torch.float16, Type.BF16: torch.bfloat16}


def open_base(path: Path) -> Base:
    """Read the headers of a model in any format: a folder, or a GGUF file.

    The tensors of a GGUF file count as bfloat16, as in the folder `gguf_to_folder` makes of it, and
    have the same fingerprint; a merge reads them in full precision.

    Raises:
        ArtifactError: There is no model, it is damaged, or the GGUF is of another architecture.
    """
    if path.is_dir() or path.suffix != ".gguf":
        return read_base(path)
    model = open_gguf(path)
    tensors = {name: _stored(model, name) for name in model.tensors}
    base = Base(path, tensors, model.config, Path(tempfile.mkdtemp(prefix="hanpaca-")))
    weakref.finalize(base, shutil.rmtree, base.side_folder, ignore_errors=True)
    write_gguf_side(model, base.side_folder)
    return base


def _stored(model: GgufModel, name: str) -> Stored:
    entry = model.tensors[name]
    rows, columns = matrix_shape(entry.shape)
    heads = num_rotary_heads(
        str(gguf_name(name)),
        num_heads=model.config["num_attention_heads"],
        num_kv_heads=model.config["num_key_value_heads"],
    )
    extent = Extent(
        model.path,
        entry.begin,
        torch.bfloat16,
        range(rows),
        range(columns),
        Encoding(entry.num_bytes // rows, partial(_decode, entry.kind)),
    )
    return Stored(entry.shape, (extent,), rows // heads if heads else 0)


def _decode(kind: Type, rows: Tensor) -> Tensor:
    if kind in _FLOATS:
        return rows.view(_FLOATS[kind])
    with np.errstate(invalid="ignore", over="ignore"):
        return torch.from_numpy(gguf.quants.dequantize(rows.numpy(), kind))
