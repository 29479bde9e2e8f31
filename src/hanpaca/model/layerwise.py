"""Run a model of any size over a text one layer at a time: one layer is in memory, not the model.

All blocks of the text pass through a layer before the next is read. What lies between is small:
hidden states, a few kB a token.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from transformers import LlamaConfig
from transformers.models.llama.modeling_llama import (
    LlamaDecoderLayer,
    LlamaRMSNorm,
    LlamaRotaryEmbedding,
)

from hanpaca.checkpoints.meta import EMBEDDING, HEAD

Read = Callable[[Sequence[str]], Mapping[str, Tensor]]
"""Weights in float32, by their names."""
Watch = Callable[[str, Tensor], None]
"""Told the name of a matrix, and what it is multiplied with: (tokens, columns)."""
_NORM = "model.norm.weight"


@torch.inference_mode()
def hidden_states(
    blocks: Sequence[Sequence[int]],
    *,
    config: Mapping[str, Any],
    read: Read,
    watch: Watch | None = None,
    on_layer: Callable[[int, int], None] = lambda done, total: None,
) -> list[Tensor]:
    """What the head is multiplied with, of each block: (tokens, hidden), float32.

    Args:
        blocks: Token ids; each is a text of its own, seen from its beginning.
        config: Of a Llama-style model, as `config.json` has it.
        read: Gives weights; asked for those of one layer at a time.
        watch: Sees the inputs of every matrix of the layers.
        on_layer: Called with the number of layers done and of all.
    """
    settings = LlamaConfig(**{**config, "attn_implementation": "sdpa"})
    rotary = LlamaRotaryEmbedding(settings)
    table_vd = read([EMBEDDING])[EMBEDDING]
    states = [table_vd[torch.tensor(block)] for block in blocks]
    del table_vd
    for number in range(settings.num_hidden_layers):
        layer = _layer(settings, number, read)
        if watch is not None:
            _watch(layer, number, watch)
        for index, state_td in enumerate(states):
            positions = torch.arange(len(state_td)).unsqueeze(0)
            turned = rotary(state_td.unsqueeze(0), positions)
            (states[index],) = layer(
                state_td.unsqueeze(0), position_ids=positions, position_embeddings=turned
            )
        on_layer(number + 1, settings.num_hidden_layers)
    norm = LlamaRMSNorm(settings.hidden_size, eps=settings.rms_norm_eps)
    norm.load_state_dict({"weight": read([_NORM])[_NORM]})
    return [norm(state_td) for state_td in states]


def read_head(config: Mapping[str, Any], read: Read) -> Tensor:
    """The matrix that makes logits of hidden states: (vocabulary, hidden)."""
    name = EMBEDDING if config.get("tie_word_embeddings") else HEAD
    return read([name])[name]


def _layer(settings: LlamaConfig, number: int, read: Read) -> LlamaDecoderLayer:
    with torch.device("meta"):
        layer = LlamaDecoderLayer(settings, number)
    names = {name: f"model.layers.{number}.{name}" for name in layer.state_dict()}
    weights = read(list(names.values()))
    layer.load_state_dict({name: weights[full] for name, full in names.items()}, assign=True)
    return layer.eval()


def _watch(layer: LlamaDecoderLayer, number: int, watch: Watch) -> None:
    for name, module in layer.named_modules():
        if isinstance(module, nn.Linear):
            module.register_forward_pre_hook(_hook(f"model.layers.{number}.{name}.weight", watch))


def _hook(name: str, watch: Watch) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
    def tell(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        watch(name, inputs[0].flatten(0, -2))

    return tell
