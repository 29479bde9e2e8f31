"""What a Hugging Face folder has beside the weights, made of a GGUF file's header."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hanpaca.checkpoints.gguf_model import GgufModel
from hanpaca.errors import ArtifactError
from hanpaca.tokenizer.conversion.gguf import Vocabulary
from hanpaca.tokenizer.conversion.gguf_fields import vocabulary_of
from hanpaca.tokenizer.conversion.vocabularies import write_vocabulary


def gguf_vocabulary(model: GgufModel) -> Vocabulary:
    """The tokenizer in a GGUF file.

    Raises:
        ArtifactError: Damaged, or of a kind that is not known here.
    """
    try:
        return vocabulary_of(model.fields)
    except ValueError as error:
        raise ArtifactError(f"{model.path}: {error}") from error


def write_gguf_side(model: GgufModel, folder: Path) -> None:
    """Write configuration and tokenizer into a folder.

    Raises:
        ArtifactError: The tokenizer is damaged or has no counterpart.
        ResourceError: The packages that write `tokenizer.model` are not installed.
    """
    vocabulary = gguf_vocabulary(model)
    write_vocabulary(vocabulary, folder, model.path)
    for name, tree in (
        ("config.json", dict(model.config)),
        ("generation_config.json", _generation_config(model.config, vocabulary)),
    ):
        (folder / name).write_text(json.dumps(tree, indent=2), encoding="utf-8")


def _generation_config(config: Mapping[str, Any], vocabulary: Vocabulary) -> dict[str, Any]:
    """Which tokens begin, end and fill a text; a list where several end it."""
    ids = {name: config[name] for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
    if vocabulary.ends:
        ends = (ids["eos_token_id"], *vocabulary.ends)
        ids["eos_token_id"] = [number for number in ends if number is not None]
    return ids
