"""How large a GGUF file will be, before it is written."""

from collections.abc import Mapping
from math import prod
from typing import Any

from gguf.constants import GGUF_DEFAULT_ALIGNMENT

from hanpaca.checkpoints.gguf_names import gguf_name
from hanpaca.errors import ArtifactError
from hanpaca.gguf.types import FILE_TYPES, Shape, num_bytes, tensor_type

_LLAMA: dict[str, Any] = {"num_key_value_heads": None, "tie_word_embeddings": False}
_7B = _LLAMA | {
    "hidden_size": 4096,
    "intermediate_size": 11008,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
}
_13B = _LLAMA | {
    "hidden_size": 5120,
    "intermediate_size": 13824,
    "num_hidden_layers": 40,
    "num_attention_heads": 40,
}
REFERENCE_MODELS: Mapping[str, Mapping[str, Any]] = {
    "Chinese-LLaMA 7B": _7B | {"vocab_size": 49_953},
    "Chinese-Alpaca 7B": _7B | {"vocab_size": 49_954},
    "Chinese-LLaMA 13B": _13B | {"vocab_size": 49_953},
    "Chinese-Alpaca 13B": _13B | {"vocab_size": 49_954},
}
"""Configurations of the Chinese-LLaMA-Alpaca models (arXiv 2304.08177)."""
FIRST_BLOCKS = {
    "f16": (1, 2),
    "q4_0": (32, 20),
    "q4_1": (32, 24),
    "q5_0": (32, 22),
    "q5_1": (32, 24),
    "q8_0": (32, 36),
}
"""Weights and bytes of a block in llama.cpp's files of early May 2023, before GGUF: scales of Q4_0,
Q4_1 and Q8_0 had 32 bits. Every matrix of a file had one type, vectors had 32 bits a number."""


def predict_bytes(
    shapes: Mapping[str, tuple[int, ...]], *, config: Mapping[str, Any], file_type: str
) -> int:
    """Bytes of the weights of a file; what stands before them, the vocabulary mostly, comes on top.

    Args:
        shapes: Of every weight, by Hugging Face name; a head that is tied is not counted.
        config: As `config.json` has it.
        file_type: A key of `hanpaca.gguf.types.FILE_TYPES`.

    Raises:
        ArtifactError: A weight is unknown to llama.cpp.
    """
    model = Shape.of(config)
    total = 0
    for name, shape in shapes.items():
        ours = gguf_name(name)
        if ours is None:
            raise ArtifactError(f"tensor {name}: llama.cpp's llama architecture has no such tensor")
        if not (model.tied and ours == "output.weight"):
            size = num_bytes(shape, tensor_type(ours, shape, file_type=file_type, model=model))
            total += -(-size // GGUF_DEFAULT_ALIGNMENT) * GGUF_DEFAULT_ALIGNMENT
    return total


def predict_first_bytes(shapes: Mapping[str, tuple[int, ...]], *, file_type: str) -> int:
    """Bytes of the weights of a file as llama.cpp wrote it when the reference published its sizes.

    Args:
        shapes: Of every weight.
        file_type: A key of `FIRST_BLOCKS`.
    """
    block, block_bytes = FIRST_BLOCKS[file_type]
    sizes = (
        prod(shape) * 4 if len(shape) == 1 else prod(shape) // block * block_bytes
        for shape in shapes.values()
    )
    return sum(sizes)


def predict_all(shapes: Mapping[str, tuple[int, ...]], config: Mapping[str, Any]) -> dict[str, int]:
    """`predict_bytes` of every kind of file."""
    return {
        file_type: predict_bytes(shapes, config=config, file_type=file_type)
        for file_type in FILE_TYPES
    }
