"""The files beside a tokenizer in a Hugging Face folder: its configuration and its companions."""

import json
import shutil
from pathlib import Path
from typing import Any

from hanpaca.errors import ArtifactError
from hanpaca.tokenizer.byte_bpe import read_spec

CONFIG = "tokenizer_config.json"
# vocab.json and merges.txt say the same as tokenizer.json and would be out of date, so they stay.
_COMPANIONS = ("special_tokens_map.json", "added_tokens.json", "chat_template.jinja")
# How transformers is to convert a tokenizer.model: it must not, as the folder has tokenizer.json.
_CONVERSION = ("add_prefix_space", "from_slow", "legacy", "sp_model_kwargs", "tokenizer_file")


def read_config(folder: Path) -> dict[str, Any]:
    """Read `tokenizer_config.json`; empty where there is none.

    Raises:
        ArtifactError: it is damaged.
    """
    path = folder / CONFIG
    config = read_spec(path) if path.is_file() else {}
    if not isinstance(config, dict):
        raise ArtifactError(f"{path}: damaged: it is no JSON object; copy the file again")
    return config


def listed_tokens(folder: Path) -> list[tuple[str, int]]:
    """Read the tokens that `tokenizer_config.json` lists, and their ids.

    Raises:
        ArtifactError: the file or its list is damaged.
    """
    listed = read_config(folder).get("added_tokens_decoder") or {}
    try:
        return [(token["content"], int(number)) for number, token in listed.items()]
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ArtifactError(
            f"{folder / CONFIG}: damaged: added_tokens_decoder is no table of ids and tokens; "
            "copy the file again"
        ) from error


def write_side_files(config: dict[str, Any], base: Path, folder: Path) -> None:
    """Write the configuration, and copy special tokens and chat template from the base's folder.

    `tokenizer_class` is set to PreTrainedTokenizerFast, because transformers 5 rebuilds the
    normalizer or pre-tokenizer of some named classes (GPT2Tokenizer loses SmolLM2's digit
    splitting, LlamaTokenizer the space after a special token) and would give other ids.
    """
    kept = {key: value for key, value in config.items() if key not in _CONVERSION}
    write_json(folder / CONFIG, kept | {"tokenizer_class": "PreTrainedTokenizerFast"})
    for name in _COMPANIONS:
        if (base / name).is_file():
            shutil.copyfile(base / name, folder / name)


def write_json(path: Path, tree: dict[str, Any]) -> None:
    """Write a tree for people to read too."""
    path.write_text(json.dumps(tree, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
