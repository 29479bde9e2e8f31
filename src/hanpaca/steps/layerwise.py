"""Models of any format, run over a text one layer at a time."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor
from transformers import PreTrainedTokenizerFast

from hanpaca.checkpoints.meta import EMBEDDING
from hanpaca.checkpoints.model import ModelFiles, open_model
from hanpaca.checkpoints.tensors import matrix_shape
from hanpaca.errors import ArtifactError, DataError
from hanpaca.model.layerwise import Watch, hidden_states, read_head
from hanpaca.model.load import load_tokenizer, start_token
from hanpaca.tokenizer.conversion.gguf_side import write_gguf_side

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
    files: ModelFiles
    tokenizer: PreTrainedTokenizerFast

    @property
    def num_bytes(self) -> int:
        """Of the weights."""
        return self.files.num_bytes

    def read(self, names: Sequence[str]) -> dict[str, Tensor]:
        """Give weights in float32.

        Raises:
            ArtifactError: One is missing or damaged.
        """
        with self.files.rows() as tensors:
            if missing := [name for name in names if name not in tensors]:
                raise ArtifactError(f"{self.path}: the weight {missing[0]} is missing")
            wanted = {name: tensors[name] for name in names}
            return {
                name: one.read(0, matrix_shape(one.shape)[0]).reshape(one.shape)
                for name, one in wanted.items()
            }

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
        return self.files.config

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
        ArtifactError: There is no model, or it has no tokenizer, or another model's.
    """
    files = open_model(path, write_side=write_gguf_side)
    tokenizer = load_tokenizer(files.side_folder)
    rows = files.tensors[EMBEDDING].shape[0] if EMBEDDING in files.tensors else 0
    if len(tokenizer) > rows:
        raise ArtifactError(
            f"{path}: the tokenizer has {len(tokenizer):,} entries, the model {rows:,} rows: it is "
            "another model's tokenizer"
        )
    return LayerwiseModel(path, files, tokenizer)


def _beginning(texts: Iterable[str], num_characters: int) -> str:
    parts: list[str] = []
    for text in texts:
        parts.append(text)
        num_characters -= len(text) + 2
        if num_characters <= 0:
            break
    return "\n\n".join(parts)
