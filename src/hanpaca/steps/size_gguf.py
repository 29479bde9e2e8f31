"""How large GGUF files will be, before one is written."""

from pathlib import Path

from hanpaca.checkpoints.model import open_model
from hanpaca.checkpoints.shapes import llama_shapes
from hanpaca.gguf.size import (
    FIRST_BLOCKS,
    REFERENCE_MODELS,
    predict_all,
    predict_first_bytes,
)


def size_gguf(model: Path | str) -> dict[str, int]:
    """Bytes of the weights of every type of file that could be made of a model.

    ```python
    print(size_gguf("out")["q4_k_m"])
    ```

    Raises:
        ArtifactError: It is missing or damaged, or no model that can be written.
    """
    found = open_model(Path(model))
    return predict_all({name: one.shape for name, one in found.tensors.items()}, found.config)


def reference_sizes() -> dict[str, dict[str, int]]:
    """The same of the Chinese-LLaMA-Alpaca models, by their names, without having them."""
    return {
        name: predict_all(llama_shapes(config), config) for name, config in REFERENCE_MODELS.items()
    }


def reference_sizes_first() -> dict[str, dict[str, int]]:
    """The same in llama.cpp's format of May 2023, in which the project published its sizes."""
    return {
        name: {
            kind: predict_first_bytes(llama_shapes(config), file_type=kind) for kind in FIRST_BLOCKS
        }
        for name, config in REFERENCE_MODELS.items()
    }
