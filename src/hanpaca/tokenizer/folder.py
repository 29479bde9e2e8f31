"""The files beside a tokenizer in a Hugging Face folder: its configuration and its companions."""

import json
import shutil
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from hanpaca.checkpoints.headers import TOKENIZER_FILES
from hanpaca.errors import ArtifactError
from hanpaca.files import check_small, read_json
from hanpaca.tokenizer.byte_bpe import read_spec
from hanpaca.tokenizer.chat_templates import NAMED_FOLDER
from hanpaca.tokenizer.sentencepiece_bpe import FILE_NAME

CONFIG = "tokenizer_config.json"
ADDED = "added_tokens.json"
# vocab.json and merges.txt say the same as tokenizer.json and would be out of date, so they stay.
_REMADE = (FILE_NAME, "tokenizer.json", CONFIG, "vocab.json", "merges.txt")
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


def token_text(token: object) -> str | None:
    """A token's text, which transformers writes alone, or as the `content` of an object."""
    text = token.get("content") if isinstance(token, dict) else token
    return text if isinstance(text, str) else None


def write_side_files(
    config: dict[str, Any], base: Path, folder: Path, ids: Mapping[str, int]
) -> None:
    """Write the configuration, and copy special tokens and chat templates from the base's folder.

    Added tokens are listed under the ids that they have now.
    `tokenizer_class` is set to PreTrainedTokenizerFast, because transformers 5 rebuilds the
    normalizer or pre-tokenizer of some named classes (GPT2Tokenizer loses SmolLM2's digit
    splitting, LlamaTokenizer the space after a special token) and would give other ids.
    """
    kept = {key: value for key, value in config.items() if key not in _CONVERSION}
    if listed := listed_tokens(base) if "added_tokens_decoder" in kept else ():
        tokens = list(kept["added_tokens_decoder"].values())
        kept["added_tokens_decoder"] = {
            str(ids.get(text, number)): token
            for (text, number), token in zip(listed, tokens, strict=True)
        }
    write_json(folder / CONFIG, kept | {"tokenizer_class": "PreTrainedTokenizerFast"})
    copy_tokenizer(base, folder, without=_REMADE)
    if (base / ADDED).is_file():
        added = read_json(base / ADDED)
        if (moved := {one: ids.get(one, number) for one, number in added.items()}) != added:
            write_json(folder / ADDED, moved)


def tokenizer_files(folder: Path) -> list[Path]:
    """The files of a folder that make up its tokenizer, as paths inside it."""
    files = [Path(name) for name in TOKENIZER_FILES if (folder / name).is_file()]
    named = sorted((folder / NAMED_FOLDER).glob("*.jinja"))
    return files + [file.relative_to(folder) for file in named if file.is_file()]


def copy_tokenizer(source: Path, target: Path, *, without: Collection[str] = ()) -> None:
    """Copy a tokenizer with all that belongs to it, chat templates with names too.

    Args:
        source: A folder with a tokenizer, or without one.
        target: Another folder, which exists.
        without: Names of files that are not wanted.
    """
    for file in tokenizer_files(source):
        if file.name not in without:
            check_small(source / file)
            (target / file).parent.mkdir(exist_ok=True)
            shutil.copyfile(source / file, target / file)


def remove_tokenizer(folder: Path) -> None:
    """Remove the files that make up a folder's tokenizer."""
    for file in tokenizer_files(folder):
        (folder / file).unlink()


def write_json(path: Path, tree: dict[str, Any]) -> None:
    """Write a tree for people to read too."""
    path.write_text(json.dumps(tree, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
