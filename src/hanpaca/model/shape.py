"""What shape a Llama-style model has, told by its tensors and not by its configuration."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from hanpaca.model.headers import TensorHeader
from hanpaca.model.meta import EMBEDDING, HEAD

_LAYER = re.compile(r"(?:^|\.)layers\.(\d+)\.")


@dataclass(frozen=True)
class ModelShape:
    """The sizes another file must fit."""

    vocab_rows: int
    """Rows of the embedding."""
    hidden_size: int
    num_layers: int
    intermediate_size: int | None
    tied: bool
    """The head is the embedding: there is no matrix of its own."""
    missing_layers: tuple[int, ...] = ()

    @property
    def in_words(self) -> str:
        """For messages."""
        return (
            f"{self.num_layers} layers, hidden size {self.hidden_size}, vocabulary "
            f"{self.vocab_rows:,}"
        )


def model_shape(tensors: Mapping[str, TensorHeader]) -> ModelShape | None:
    """Measure a model by its tensors; None where it is not Llama-style or has no embedding."""
    embedding = tensors.get(EMBEDDING)
    if embedding is None or len(embedding.shape) != 2:
        return None
    layers = layer_numbers(tensors)
    gates = (header for name, header in tensors.items() if name.endswith("mlp.gate_proj.weight"))
    gate = next(gates, None)
    num_layers = max(layers, default=-1) + 1
    gaps = range(num_layers) if num_layers <= len(layers) + 1000 else range(len(layers) + 1000)
    return ModelShape(
        vocab_rows=embedding.shape[0],
        hidden_size=embedding.shape[1],
        num_layers=num_layers,
        intermediate_size=gate.shape[0] if gate and gate.shape else None,
        tied=HEAD not in tensors,
        missing_layers=tuple(number for number in gaps if number not in layers),
    )


def layer_numbers(names: Mapping[str, object]) -> set[int]:
    """The numbers of the layers that tensors belong to."""
    found = (_LAYER.search(name) for name in names)
    return {int(match[1]) for match in found if match and len(match[1]) < 7}
