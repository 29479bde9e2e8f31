"""Which files hold the weights of a folder, in any layout, and what they hold together.

Layouts: Hugging Face safetensors or `pytorch_model*.bin`, single or sharded with an index; Meta's
`consolidated.*.pth`, whose shards each hold a part of every matrix. Only headers are read.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from hanpaca.errors import ArtifactError
from hanpaca.model.headers import TensorHeader, read_json, read_safetensors
from hanpaca.model.meta import hf_name
from hanpaca.model.pickle_headers import read_torch

Layout = Literal["safetensors", "torch", "meta", "gguf"]
MODEL_FILES = ("model.safetensors", "pytorch_model.bin")
ADAPTER_FILES = ("adapter_model.safetensors", "adapter_model.bin")


@dataclass(frozen=True)
class Weights:
    """Everything a set of weight files holds, under Hugging Face's names."""

    files: tuple[Path, ...]
    layout: Layout
    tensors: Mapping[str, TensorHeader]
    metadata: Mapping[str, str]
    missing: tuple[str, ...] = ()
    """Files and tensors that an index names and that are not there."""


def find_weights(folder: Path, names: Iterable[str] = MODEL_FILES) -> Weights | None:
    """Read the headers of a folder's weights, or return None where it has none.

    Args:
        folder: Of a model or an adapter.
        names: Single files to look for, in order; each may be sharded, with an index.

    Raises:
        ArtifactError: A file or an index is damaged or points out of the folder.
    """
    for name in names:
        if (folder / name).is_file():
            return read_weights([folder / name])
        index = folder / f"{name}.index.json"
        if index.is_file():
            return _sharded(index)
    shards = sorted(folder.glob("consolidated.*.pth"))
    return read_weights(shards) if shards else None


def read_weights(files: list[Path]) -> Weights:
    """Read the headers of one file, or of the shards of one model.

    Raises:
        ArtifactError: One is damaged, of a kind not known, or has a tensor of another.
    """
    if files[0].suffix == ".safetensors":
        read = [read_safetensors(file) for file in files]
        metadata = {key: value for _, one in read for key, value in one.items()}
        tensors = _joined(files, [one for one, _ in read])
        return Weights(tuple(files), "safetensors", tensors, metadata)
    if files[0].suffix not in (".bin", ".pth", ".pt"):
        raise ArtifactError(f"{files[0]}: weights are .safetensors, .bin, .pth, .pt or .gguf files")
    shards = [read_torch(file) for file in files]
    if "tok_embeddings.weight" in shards[0]:
        return Weights(tuple(files), "meta", _meta_joined(files, shards), {})
    return Weights(tuple(files), "torch", _joined(files, shards), {})


def _sharded(index: Path) -> Weights:
    entries = read_json(index).get("weight_map")
    if not isinstance(entries, dict) or not entries:
        raise ArtifactError(f"{index}: damaged index: no weight_map; download it again")
    for name in entries.values():
        if not isinstance(name, str) or Path(name).name != name or name in ("", ".", ".."):
            raise ArtifactError(f"{index}: {str(name)[:80]!r} points out of the folder")
    names = sorted(set(entries.values()))
    there = [index.parent / name for name in names if (index.parent / name).is_file()]
    if not there:
        raise ArtifactError(f"{index}: none of the {len(names)} files it names is here")
    weights = read_weights(there)
    absent = {name for name in names if not (index.parent / name).is_file()}
    lost = [
        tensor
        for tensor, name in entries.items()
        if name not in absent and tensor not in weights.tensors
    ]
    missing = (*sorted(absent), *sorted(lost))
    return Weights(weights.files, weights.layout, weights.tensors, weights.metadata, missing)


def _joined(files: list[Path], shards: list[dict[str, TensorHeader]]) -> dict[str, TensorHeader]:
    tensors: dict[str, TensorHeader] = {}
    for file, shard in zip(files, shards, strict=True):
        twice = sorted(tensors.keys() & shard.keys())
        if twice:
            raise ArtifactError(f"{file}: tensor {twice[0]} is also in another shard")
        tensors |= shard
    return tensors


def _meta_joined(
    files: list[Path], shards: list[dict[str, TensorHeader]]
) -> dict[str, TensorHeader]:
    """Put the parts of every matrix together: wo and w2 are cut by columns, the rest by rows.

    The embedding is cut by columns up to Llama 2, by rows in Llama 3; the norms are whole.
    """
    norm = shards[0].get("norm.weight")
    tensors = {}
    for name, first in shards[0].items():
        if name.startswith("rope."):
            continue
        parts = [shard[name].shape for shard in shards if name in shard]
        if len(parts) < len(shards):
            raise ArtifactError(f"{files[0].parent}: {name} is not in every shard; download again")
        by_columns = name.endswith((".wo.weight", ".w2.weight")) or (
            name == "tok_embeddings.weight" and norm is not None and first.shape[1:] != norm.shape
        )
        tensors[hf_name(name) or name] = TensorHeader(first.dtype, _stacked(parts, by_columns))
    return tensors


def _stacked(parts: list[tuple[int, ...]], by_columns: bool) -> tuple[int, ...]:
    if len(parts[0]) != 2:
        return parts[0]
    sizes = [part[-1] if by_columns else part[0] for part in parts]
    return (parts[0][0], sum(sizes)) if by_columns else (sum(sizes), parts[0][1])
