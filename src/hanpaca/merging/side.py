"""What lies beside the weights of a merged model: configuration and tokenizer."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hanpaca.checkpoints.adapter import AdapterFiles
from hanpaca.checkpoints.meta import EMBEDDING, HEAD, PARAMS, params_of
from hanpaca.checkpoints.model import ModelFiles
from hanpaca.checkpoints.safetensors import copy_side_files
from hanpaca.merging.outputs import OutputTensor
from hanpaca.tokenizer.folder import copy_tokenizer, remove_tokenizer

TOKENIZER_MODEL, TOKENIZER_JSON = "tokenizer.model", "tokenizer.json"


def merged_config(base: ModelFiles, tensors: Sequence[OutputTensor]) -> dict[str, Any]:
    """`config.json` of the merged model."""
    by_name = {tensor.name: tensor for tensor in tensors}
    config = dict(base.config)
    if EMBEDDING in by_name:
        config["vocab_size"] = by_name[EMBEDDING].shape[0]
        config["tie_word_embeddings"] = HEAD not in by_name
        kind = str(by_name[EMBEDDING].dtype).removeprefix("torch.")
        config["torch_dtype" if "torch_dtype" in config else "dtype"] = kind
    return config


def tokenizer_folder(base: ModelFiles, adapters: Sequence[AdapterFiles]) -> Path | None:
    """Whose tokenizer the merged model has: the last adapter's that brings one, or the base's."""
    for folder in (*(adapter.folder for adapter in reversed(adapters)), base.side_folder):
        if (folder / TOKENIZER_MODEL).is_file() or (folder / TOKENIZER_JSON).is_file():
            return folder
    # Meta keeps one tokenizer.model beside the folders of all sizes.
    beside = base.side_folder.resolve().parent
    return beside if (beside / TOKENIZER_MODEL).is_file() else None


def write_hugging_face_side(
    folder: Path, *, base: ModelFiles, config: Mapping[str, Any], tokenizer: Path | None
) -> None:
    """Write configuration, tokenizer and what else lay beside the base's weights."""
    copy_side_files(base.side_folder, folder, leave_out=("config.json", PARAMS))
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    _copy_tokenizer(tokenizer, base, folder)


def write_meta_side(
    folder: Path, *, base: ModelFiles, config: Mapping[str, Any], tokenizer: Path | None
) -> None:
    """Write `params.json` and the tokenizer.

    Raises:
        ArtifactError: Meta's format cannot say what the configuration says.
    """
    (folder / PARAMS).write_text(json.dumps(params_of(config)) + "\n", encoding="utf-8")
    _copy_tokenizer(tokenizer, base, folder)


def _copy_tokenizer(tokenizer: Path | None, base: ModelFiles, folder: Path) -> None:
    if tokenizer is None:
        return
    if tokenizer != base.side_folder:
        remove_tokenizer(folder)
    copy_tokenizer(tokenizer, folder)
