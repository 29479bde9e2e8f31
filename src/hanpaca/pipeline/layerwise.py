"""Models of any format, run over a text one layer at a time."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor
from transformers import PreTrainedTokenizerFast

from hanpaca.errors import ArtifactError, DataError
from hanpaca.gguf.header import read_header
from hanpaca.model.layerwise import Watch, hidden_states, read_head
from hanpaca.model.load import load_tokenizer, start_token
from hanpaca.model.merge import MergeOptions, MergePlan, plan_merge
from hanpaca.model.merge.rows import rows_of
from hanpaca.pipeline.gguf_base import open_base

_MOST_CHARACTERS = 8
"""A token; a text is cut here before it is encoded, so that no more is read than needed."""


@dataclass(frozen=True)
class Blocks:
    """A text as a model reads it."""

    ids: tuple[tuple[int, ...], ...]
    """Each begins with the start token, which is not part of the text."""
    num_characters: int

    @property
    def num_tokens(self) -> int:
        """Of the text."""
        return sum(len(block) - 1 for block in self.ids)


@dataclass(frozen=True)
class LayerwiseModel:
    """A model on disk; a layer of it is in memory when it is needed."""

    path: Path
    plan: MergePlan
    tokenizer: PreTrainedTokenizerFast

    @property
    def num_bytes(self) -> int:
        """Of the weights."""
        if self.path.is_file():
            return sum(tensor.num_bytes for tensor in read_header(self.path).tensors.values())
        stored = self.plan.base.tensors.values()
        return sum(extent.num_bytes for one in stored for extent in one.extents)

    def read(self, names: Sequence[str]) -> dict[str, Tensor]:
        """Give weights in float32.

        Raises:
            ArtifactError: One is missing or damaged.
        """
        by_name = {tensor.name: tensor for tensor in self.plan.tensors}
        if missing := [name for name in names if name not in by_name]:
            raise ArtifactError(f"{self.path}: the weight {missing[0]} is missing")
        with rows_of([by_name[name] for name in names]) as tensors:
            return {one.name: one.read(0, one.shape[0]).reshape(one.shape) for one in tensors}

    def states(
        self,
        blocks: Blocks,
        *,
        watch: Watch | None = None,
        on_layer: Callable[[int, int], None] = lambda done, total: None,
    ) -> list[Tensor]:
        """What the head makes logits of; see `hanpaca.model.layerwise.hidden_states`."""
        return hidden_states(
            blocks.ids, config=self.config, read=self.read, watch=watch, on_layer=on_layer
        )

    def head(self) -> Tensor:
        """The matrix of the head, (vocabulary, hidden)."""
        return read_head(self.config, self.read)

    @property
    def config(self) -> Mapping[str, object]:
        """As `config.json` has it."""
        return self.plan.config

    def blocks(self, texts: Iterable[str], *, num_tokens: int, block_tokens: int) -> Blocks:
        """Cut the beginning of a text into blocks.

        Args:
            texts: Documents, put together with an empty line between.
            num_tokens: Most tokens of the text.
            block_tokens: Of a block, start token included.

        Raises:
            DataError: There is no text.
        """
        start = start_token(self.tokenizer)
        encoded = self.tokenizer(
            _beginning(texts, num_tokens * _MOST_CHARACTERS),
            add_special_tokens=False,
            return_offsets_mapping=True,
            verbose=False,
        )
        ids = encoded["input_ids"][:num_tokens]
        if not ids:
            raise DataError("the text has no tokens: give more")
        step = block_tokens - 1
        return Blocks(
            tuple((start, *ids[at : at + step]) for at in range(0, len(ids), step)),
            encoded["offset_mapping"][len(ids) - 1][1],
        )


def open_layerwise(path: Path) -> LayerwiseModel:
    """Open a model folder or GGUF file; only headers are read.

    Raises:
        ArtifactError: There is no model, or it has no tokenizer.
    """
    plan = plan_merge(open_base(path), [], MergeOptions(dtype="f32"))
    return LayerwiseModel(path, plan, load_tokenizer(plan.base.side_folder))


def _beginning(texts: Iterable[str], num_characters: int) -> str:
    parts: list[str] = []
    for text in texts:
        parts.append(text)
        num_characters -= len(text) + 2
        if num_characters <= 0:
            break
    return "\n\n".join(parts)
