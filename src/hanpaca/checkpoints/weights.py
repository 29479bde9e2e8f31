"""Which files hold the weights of a model or an adapter, in any layout, and what they hold.

Layouts: Hugging Face safetensors or `pytorch_model*.bin`, single or sharded with an index; Meta's
`consolidated.*.pth`, whose shards each hold a part of every matrix; GGUF. Only headers are read,
and nothing needs torch.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from hanpaca.checkpoints import meta
from hanpaca.checkpoints.headers import read_safetensors
from hanpaca.checkpoints.tensors import Stored, matrix_shape
from hanpaca.checkpoints.torch_zip import read_torch
from hanpaca.errors import ArtifactError
from hanpaca.files import read_json

Layout = Literal["safetensors", "torch", "meta", "gguf"]
MODEL_FILES = ("model.safetensors", "pytorch_model.bin")
ADAPTER_FILES = ("adapter_model.safetensors", "adapter_model.bin")
WEIGHT_ENDINGS = (".safetensors", ".bin", ".pth", ".pt")
WEIGHT_TYPES = ("BF16", "F16", "F32")
"""Others hold no weights that can be worked on."""
_QUANTIZED = ("U8", "I8", "I32", "F8_E4M3", "F8_E5M2", "F8_E8M0")
"""What the weights of bitsandbytes, GPTQ, AWQ and fp8 are kept in."""
RECOMPUTED = (".rotary_emb.inv_freq", "rope.freqs")
"""Ends the names of constants in old files, which are computed from the configuration today."""


@dataclass(frozen=True)
class Weights:
    """Everything a set of weight files holds, under Hugging Face's names."""

    files: tuple[Path, ...]
    layout: Layout
    tensors: Mapping[str, Stored]
    metadata: Mapping[str, str]
    index: Path | None = None
    """Says in which file each tensor is."""
    places: Mapping[str, str] = field(default_factory=dict)
    """What it says."""
    others: tuple[str, ...] = ()
    """What is in a pickle beside the tensors."""

    @property
    def absent(self) -> tuple[str, ...]:
        """Files that the index names and that are not there."""
        there = {file.name for file in self.files}
        return tuple(sorted(set(self.places.values()) - there))

    @property
    def missing(self) -> tuple[str, ...]:
        """Files and tensors that the index names and that are not there."""
        absent = self.absent
        lost = (
            tensor
            for tensor, name in self.places.items()
            if name not in absent and tensor not in self.tensors
        )
        return (*absent, *sorted(lost))


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
    shards = meta.meta_files(folder)
    return read_weights(shards) if shards else None


def read_weights(files: Sequence[Path]) -> Weights:
    """Read the headers of one file, or of the shards of one model.

    Raises:
        ArtifactError: One is damaged, of a kind not known, or has a tensor of another.
    """
    if files[0].suffix == ".safetensors":
        read = [read_safetensors(file) for file in files]
        metadata = {key: value for _, one in read for key, value in one.items()}
        tensors = _joined(files, [one for one, _ in read])
        return Weights(tuple(files), "safetensors", tensors, metadata)
    if files[0].suffix not in WEIGHT_ENDINGS:
        raise ArtifactError(f"{files[0]}: weights are .safetensors, .bin, .pth, .pt or .gguf files")
    pickles = [read_torch(file) for file in files]
    shards, others = [one for one, _ in pickles], pickles[0][1]
    if meta.meta_name(meta.EMBEDDING) in shards[0]:
        return Weights(tuple(files), "meta", _meta_joined(files, shards), {}, others=others)
    return Weights(tuple(files), "torch", _joined(files, shards), {}, others=others)


def check_complete(weights: Weights) -> None:
    """Check that the files of a model are those their index describes.

    Raises:
        ArtifactError: A file or tensor is missing, or stands elsewhere.
    """
    index, places = weights.index, weights.places
    if index is None:
        return
    if weights.absent:
        raise ArtifactError(
            f"{index.parent / weights.absent[0]}: missing; {index.name} names it: download it again"
        )
    found = {name: stored.file.name for name, stored in weights.tensors.items()}
    for name, file in sorted(found.items() ^ places.items()):
        if weights.layout == "torch" and name in found:  # torch repeats shared tensors
            continue
        told = "is not in" if found.get(name) != file else "should not be in"
        raise ArtifactError(
            f"{index}: tensor {name} {told} {file}: the shards are of another model or "
            "incomplete; download them again"
        )


def check_readable(weights: Weights) -> None:
    """Check that what the files hold are weights that can be worked on.

    Raises:
        ArtifactError: A tensor is of another type or a view, or something is no tensor.
    """
    if weights.others:
        raise ArtifactError(f"{weights.files[0]}: {weights.others[0]:.100} is not a tensor")
    for name, stored in weights.tensors.items():
        if stored.kind not in WEIGHT_TYPES:
            raise ArtifactError(
                f"{stored.file}: tensor {name} is of type {stored.kind}, {_told(stored.kind)}"
            )
        if stored.is_view:
            raise ArtifactError(
                f"{stored.file}: tensor {name} is a view; save it again with .contiguous()"
            )


def _told(kind: str) -> str:
    if kind in _QUANTIZED:
        return (
            "as quantized weights are, which cannot be worked on; give the model it was quantized "
            f"from, in {', '.join(WEIGHT_TYPES)}"
        )
    return f"which is not known here; weights are {', '.join(WEIGHT_TYPES)}"


def _sharded(index: Path) -> Weights:
    entries = read_json(index).get("weight_map")
    if not isinstance(entries, dict) or not entries:
        raise ArtifactError(f"{index}: damaged index: no weight_map; download it again")
    for name in entries.values():
        if not isinstance(name, str):
            raise ArtifactError(f"{index}: damaged index: {str(name)[:80]!r} is no file")
        if Path(name).name != name or name in ("", ".", ".."):
            raise ArtifactError(f"{index}: {name[:80]!r} points outside the folder")
    names = sorted(set(entries.values()))
    there = [index.parent / name for name in names if (index.parent / name).is_file()]
    if not there:
        raise ArtifactError(
            f"{index}: all {len(names)} files it names are missing; download them beside it"
        )
    return replace(read_weights(there), index=index, places=entries)


def _joined(files: Sequence[Path], shards: Sequence[Mapping[str, Stored]]) -> dict[str, Stored]:
    tensors: dict[str, Stored] = {}
    for file, shard in zip(files, shards, strict=True):
        if twice := sorted(tensors.keys() & shard.keys()):
            other = tensors[twice[0]].file.name
            raise ArtifactError(f"{file}: tensor {twice[0]} is also in {other}")
        tensors |= shard
    return tensors


def _meta_joined(
    files: Sequence[Path], shards: Sequence[Mapping[str, Stored]]
) -> dict[str, Stored]:
    """Put the shares of every matrix together, still with Meta's order of query and key rows."""
    norm = shards[0].get("norm.weight")
    tensors = {}
    for name in shards[0]:
        if name.endswith(RECOMPUTED):
            continue
        parts = [shard[name] for shard in shards if name in shard]
        if len(parts) < len(shards):
            raise ArtifactError(f"{files[0].parent}: {name} is not in every shard; download again")
        target = meta.hf_name(name) or name
        how = meta.cut(target)
        # LLaMA 3 cuts the embedding by rows, where 1 and 2 cut it by columns.
        if target == meta.EMBEDDING and norm and parts[0].shape[1:] == norm.shape:
            how = "rows"
        copied = how == "copied" or len(parts) == 1
        tensors[target] = parts[0] if copied else _stacked(name, parts, by_rows=how == "rows")
    return tensors


def _stacked(name: str, parts: Sequence[Stored], *, by_rows: bool) -> Stored:
    """One tensor out of its shares in all files."""
    extents = []
    row = column = 0
    for part in parts:
        num_rows, num_columns = matrix_shape(part.shape)
        rows, columns = range(row, row + num_rows), range(column, column + num_columns)
        extents.append(replace(part.extents[0], rows=rows, columns=columns))
        row, column = (row + num_rows, 0) if by_rows else (0, column + num_columns)
    if len({matrix_shape(part.shape)[1 if by_rows else 0] for part in parts}) != 1:
        raise ArtifactError(
            f"{parts[0].file.parent}: the shares of {name} do not fit together; download them again"
        )
    shape = (extents[-1].rows.stop, extents[-1].columns.stop)
    return Stored(shape, tuple(extents), is_view=any(part.is_view for part in parts))
