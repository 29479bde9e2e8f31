"""A merge before a byte of it is written: options, and what the plan of one holds."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from hanpaca.checkpoints import meta
from hanpaca.checkpoints.adapter import AdapterFiles
from hanpaca.checkpoints.model import ModelFiles
from hanpaca.checkpoints.safetensors import MAX_SHARD_BYTES
from hanpaca.checkpoints.tensors import Extent
from hanpaca.merging import shards as files
from hanpaca.merging.outputs import OutputTensor, Rounded, stored_of

DTYPES: Mapping[str, torch.dtype | None] = {
    "as-base": None,
    "f16": torch.float16,
    "bf16": torch.bfloat16,
    "f32": torch.float32,
}


@dataclass(frozen=True)
class MergeOptions:
    """What the merged model is to look like."""

    format: Literal["hf", "pth"] = "hf"
    dtype: Literal["as-base", "f16", "bf16", "f32"] = "as-base"
    rounding: Rounded = "once"
    """`per-adapter` gives the numbers of the Chinese-LLaMA-Alpaca scripts of 2023."""
    max_shard_bytes: int = MAX_SHARD_BYTES
    num_files: int | None = None
    """Of format pth; None: as many as Meta has for the size."""
    alpha: float | None = None
    """For adapters without a configuration."""
    weights: tuple[float, ...] = ()
    """Of the adapters, in order; empty: all count in full."""


@dataclass(frozen=True)
class MergePlan:
    """A merge before a byte of it is written."""

    base: ModelFiles
    adapters: Sequence[AdapterFiles]
    options: MergeOptions
    tensors: Sequence[OutputTensor]
    shards: files.Shards
    config: Mapping[str, Any]
    tokenizer: Path | None
    warnings: Sequence[str]
    """For whoever is given the plan to show."""

    @property
    def tokenizer_source(self) -> Path | None:
        """Where the tokenizer comes from, as the user knows it: a folder, or the base's file."""
        own = self.tokenizer is not None and self.tokenizer == self.base.side
        return self.base.folder if own else self.tokenizer

    @property
    def num_bytes(self) -> int:
        """To be written."""
        return sum(part.num_bytes for shard in self.shards.values() for part in shard)

    @property
    def num_read_bytes(self) -> int:
        """To be read, if every tensor goes to one file."""
        return sum(extent.num_bytes for extent in self._extents())

    @property
    def files(self) -> list[Path]:
        """All that is read for weights, and what says how they are meant."""
        found = {extent.file for extent in self._extents()}
        found |= {file for adapter in self.adapters for file in adapter.weights.files}
        sides = [self.base.folder / "config.json", self.base.folder / meta.PARAMS]
        sides += [adapter.settings.file for adapter in self.adapters]
        return sorted(found | {file for file in sides if file.is_file()})

    @property
    def num_changed(self) -> int:
        """Tensors in which an adapter has a say."""
        return sum(tensor.changed for tensor in self.tensors)

    def _extents(self) -> Iterator[Extent]:
        for tensor in self.tensors:
            for step in tensor.steps:
                for stored in stored_of(step):
                    yield from stored.extents


def shards_of(
    tensors: Sequence[OutputTensor], config: Mapping[str, Any], options: MergeOptions
) -> files.Shards:
    """Deal the tensors to the files of the format.

    Raises:
        ArtifactError: Meta's format has no place for one of them or for the configuration.
    """
    if options.format == "hf":
        return files.hugging_face_shards(tensors, options.max_shard_bytes)
    meta.params_of(config)
    num_files = options.num_files or meta.default_num_files(config)
    return files.meta_shards(with_head(tensors), config, num_files)


def with_head(tensors: Sequence[OutputTensor]) -> list[OutputTensor]:
    """Meta's format has no tied head: it gets the embedding a second time."""
    by_name = {tensor.name: tensor for tensor in tensors}
    if meta.HEAD in by_name or meta.EMBEDDING not in by_name:
        return list(tensors)
    embedding = by_name[meta.EMBEDDING]
    head = OutputTensor(
        meta.HEAD, embedding.shape, embedding.dtype, embedding.steps, embedding.changed
    )
    return [*tensors, head]
