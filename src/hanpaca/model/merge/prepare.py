"""A merge before a byte of it is written: options, and the plan made from headers alone."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from hanpaca.model import meta
from hanpaca.model.bases import Base, read_base
from hanpaca.model.checkpoint import MAX_SHARD_BYTES
from hanpaca.model.merge import shards as files
from hanpaca.model.merge import side
from hanpaca.model.merge.adapters import Adapter, read_adapter
from hanpaca.model.merge.fold import stored_of
from hanpaca.model.merge.plan import OutputTensor, Rounded, plan_tensors
from hanpaca.model.merge.provenance import check_bases, check_tokenizer
from hanpaca.model.stored import Extent

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

    base: Base
    adapters: Sequence[Adapter]
    options: MergeOptions
    tensors: Sequence[OutputTensor]
    shards: files.Shards
    config: Mapping[str, Any]
    tokenizer: Path | None
    warnings: Sequence[str]

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
        found |= {adapter.file for adapter in self.adapters}
        sides = [self.base.folder / "config.json", self.base.folder / meta.PARAMS]
        sides += [adapter.config.file for adapter in self.adapters]
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


def plan_merge(base: Path | Base, adapters: Sequence[Path], options: MergeOptions) -> MergePlan:
    """Read headers and decide what every byte of the merged model is made of.

    Args:
        base: What the first adapter was trained on: Hugging Face safetensors or `.bin`, or Meta's
            `.pth`; or what `read_base` gives.
        adapters: In order; each was trained on the result of those before it.
        options: Format, type and rounding.

    Raises:
        ArtifactError: Something is missing, damaged or does not fit; names file and tensor.
    """
    model = base if isinstance(base, Base) else read_base(base)
    weights = options.weights or (1.0,) * len(adapters)
    read = [
        read_adapter(folder, alpha=options.alpha, weight=weight)
        for folder, weight in zip(adapters, weights, strict=True)
    ]
    tensors = plan_tensors(model, read, dtype=DTYPES[options.dtype], rounding=options.rounding)
    config = side.merged_config(model, tensors)
    by_name = {tensor.name: tensor for tensor in tensors}
    tokenizer = None
    if meta.EMBEDDING in by_name:
        rows = by_name[meta.EMBEDDING].shape[0]
        tokenizer = side.tokenizer_folder(model, read, num_rows=rows)
    warnings = check_bases(model, read)
    check_tokenizer(tokenizer, read)
    return MergePlan(
        model,
        read,
        options,
        tensors,
        shards_of(tensors, config, options),
        config,
        tokenizer,
        warnings,
    )


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
