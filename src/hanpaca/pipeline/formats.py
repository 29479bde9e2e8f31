"""Between GGUF files and Hugging Face folders: where the two core packages meet."""

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from hanpaca.errors import ArtifactError
from hanpaca.gguf.read import GgufModel, open_gguf
from hanpaca.gguf.vocab import read_vocabulary, write_tokenizer
from hanpaca.gguf.write import GgufSummary, SourceTensor, write_gguf
from hanpaca.model.checkpoint import PlannedTensor, opened, read_headers, write_weights


def gguf_to_folder(gguf: Path, folder: Path) -> None:
    """Dequantize a GGUF file into a bfloat16 Hugging Face folder with its exact tokenizer.

    The folder appears only when it is whole.

    Raises:
        ArtifactError: See `hanpaca.gguf.read.open_gguf`.
    """
    model = open_gguf(gguf)
    partial = folder.with_name(folder.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    write_tokenizer(model.vocabulary, partial)
    for name, tree in (
        ("config.json", dict(model.config)),
        ("generation_config.json", _generation_config(model.config)),
    ):
        (partial / name).write_text(json.dumps(tree, indent=2), encoding="utf-8")
    write_weights(partial, [_planned(model, name) for name in model.tensors])
    partial.rename(folder)


def folder_to_gguf(
    model: Path,
    output: Path,
    *,
    file_type: str,
    metadata: Mapping[str, str],
    on_bytes: Callable[[int, int], None] = lambda done, total: None,
) -> GgufSummary:
    """Write a Hugging Face folder as one GGUF file.

    Raises:
        ArtifactError: The folder is no Llama-style model, or its parts do not fit each other.
    """
    config = read_config(model)
    headers = read_headers(model)
    with opened(headers) as tensor_of:

        def reader(name: str) -> Callable[[], NDArray[np.float32]]:
            return lambda: np.asarray(tensor_of(name).float().numpy())

        return write_gguf(
            output,
            [SourceTensor(name, info.shape, reader(name)) for name, info in headers.items()],
            config=config,
            vocabulary=read_vocabulary(model, headers["model.embed_tokens.weight"].shape[0]),
            file_type=file_type,
            metadata=metadata,
            on_bytes=on_bytes,
        )


def read_config(folder: Path) -> dict[str, Any]:
    """Read `config.json` of a Llama-style model.

    Raises:
        ArtifactError: It is missing, damaged, or of another architecture.
    """
    file = folder / "config.json"
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ArtifactError(f"{file}: cannot be read: {error}") from error
    if not isinstance(config, dict) or config.get("model_type") not in ("llama", "mistral"):
        raise ArtifactError(f"{file}: not the configuration of a Llama-style model")
    return config


def _planned(model: GgufModel, name: str) -> PlannedTensor:
    return PlannedTensor(
        name,
        torch.bfloat16,
        model.tensors[name].shape,
        lambda: torch.from_numpy(model.weight(name)).bfloat16(),
    )


def _generation_config(config: Mapping[str, Any]) -> dict[str, Any]:
    return {name: config[name] for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
