"""What a training moves of a model, and what it takes, from shapes alone: no weight is read."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

from hanpaca.checkpoints.gguf_model import open_gguf
from hanpaca.checkpoints.meta import EMBEDDING, HEAD
from hanpaca.checkpoints.released import known_config
from hanpaca.checkpoints.shapes import check_numbers, llama_shapes
from hanpaca.errors import ArtifactError
from hanpaca.files import read_json
from hanpaca.settings import Recipe, TrainingSettings

Shapes = Mapping[str, tuple[int, ...]]
_MASTER_BYTES = 16
"""Of each trained weight, all in float32: itself, its gradient, and AdamW's two means."""
_KEPT_BYTES = 34
"""Of each number of a layer's width and each token, kept for its gradient, in 16 bits: Korthikanti
et al. 2022 (arXiv 2205.05198), equation 1 without the scores of attention, which are not kept."""
GPU_FLOPS = 1.25e14
"""Training arithmetic a second of one GPU: 40 % of an A100's peak in bfloat16."""
_HOST_BYTES = 1.5e9
"""Of a process that has loaded torch and no model."""


@dataclass(frozen=True)
class TrainingSize:
    """What one training moves and takes."""

    num_trained: int
    num_weights: int
    """Of the model, factors of low rank among them, as peft counts."""
    gpu_bytes: float
    """Of the GPU that one process trains on, all blocks of a step being its own."""
    host_bytes: float
    """Of the memory beside it; a training on the CPU takes both."""
    gpu_seconds: float
    """On one GPU of `GPU_FLOPS`."""

    @property
    def share(self) -> float:
        """Of all weights that is trained."""
        return self.num_trained / self.num_weights

    @property
    def checkpoint_bytes(self) -> float:
        """Of the three checkpoints that there are while one is written: weights and two means."""
        return 3 * 12.0 * self.num_trained


def base_config(recipe: Recipe) -> Mapping[str, Any] | None:
    """The sizes of a recipe's base: its own, or those of a known model of its name.

    Returns:
        As `config.json` has them, whole or not; None where there is neither.
    """
    path = recipe.locate(recipe.base)
    try:
        if path.suffix == ".gguf":
            return open_gguf(path).config
        if not path.exists():
            return known_config(path.name)
        return read_json(path / "config.json")
    except ArtifactError:
        return None


def shapes_of(recipe: Recipe) -> Shapes | None:
    """Every weight of the model that a recipe trains, its new rows among them; None if unknown."""
    config = base_config(recipe)
    if config is None:
        return None
    num_pieces = recipe.tokenizer.num_pieces if recipe.tokenizer else 0
    tied = bool(config.get("tie_word_embeddings")) and not recipe.rows.untie
    try:
        check_numbers(config)
        grown = {"vocab_size": config["vocab_size"] + num_pieces, "tie_word_embeddings": tied}
        return llama_shapes({**config, **grown})
    except ValueError:
        return None


def training_size(
    shapes: Shapes, settings: TrainingSettings, *, num_new_rows: int, num_tokens: int
) -> TrainingSize:
    """Count what a training moves, and estimate what it takes.

    Args:
        shapes: Of every weight of the model.
        settings: The training's.
        num_new_rows: How many rows at the end of the vocabulary are new.
        num_tokens: That are learned from.
    """
    factors = _num_factors(shapes, settings) if "lora" in settings.train else 0
    num_model = sum(map(prod, shapes.values()))
    trained = num_model if settings.whole else factors + _num_rows(shapes, settings, num_new_rows)
    frozen = num_model + factors - trained
    tokens = settings.block_tokens * settings.batch_blocks // settings.accumulation_steps
    layers = max(int(name.split(".")[2]) for name in shapes if "layers" in name) + 1
    kept = 2 * layers + _KEPT_BYTES if settings.gradient_checkpointing else _KEPT_BYTES * layers
    width = 4 if settings.dtype == "float32" else 2
    gpu_bytes = width * frozen + _MASTER_BYTES * trained + kept * tokens * shapes[EMBEDDING][1]
    loaded = 4 if settings.whole else width
    again = 2 * num_model if settings.gradient_checkpointing else 0
    flops = (4 * num_model + 2 * trained + again) * num_tokens
    return TrainingSize(
        trained,
        num_model + factors,
        float(gpu_bytes),
        _HOST_BYTES + loaded * num_model,
        flops / GPU_FLOPS,
    )


def _num_factors(shapes: Shapes, settings: TrainingSettings) -> int:
    lora, number = settings.lora, 0
    for name, shape in shapes.items():
        layer = name.removesuffix(".weight")
        if layer.rpartition(".")[2] in lora.targets and len(shape) == 2:
            rank, _ = lora.rank_and_alpha(layer)
            number += rank * sum(shape) + (shape[0] if lora.dora else 0)
    return number


def _num_rows(shapes: Shapes, settings: TrainingSettings, num_new_rows: int) -> int:
    tables = {"embedding": EMBEDDING, "head": HEAD}
    tied = HEAD not in shapes
    if "new_rows" in settings.train:
        return num_new_rows * shapes[EMBEDDING][1] * (1 if tied else 2)
    found = {EMBEDDING if tied else tables[word] for word in settings.train if word in tables}
    return sum(prod(shapes[name]) for name in found)
