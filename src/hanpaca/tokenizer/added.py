"""Tokens that a LLaMA folder lists beside its `tokenizer.model`: [PAD], those of ChatML.

transformers appends them to the model's pieces, each with a row of its own. They are taken into the
model here, so that everybody counts from the same last id. sentencepiece finds special ones
(control pieces) in no text, as `<s>`; `tokenizer.json` and llama.cpp do where templates need it.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hanpaca.errors import ArtifactError
from hanpaca.files import read_json
from hanpaca.tokenizer.folder import ADDED, CONFIG, token_text
from hanpaca.tokenizer.sentencepiece_bpe import (
    CONTROL,
    USER_DEFINED,
    SentencePieceBPE,
    sentencepiece_of_proto,
)
from hanpaca.tokenizer.vocabulary import Vocabulary

_SPECIAL = "special_tokens_map.json"
_LISTS = ("additional_special_tokens", "extra_special_tokens", "model_specific_special_tokens")
"""Where a configuration names tokens without a role, or with one of the model's own."""


def with_added_tokens(tokenizer: SentencePieceBPE) -> SentencePieceBPE:
    """Append what the folder lists, if it goes on where the pieces end; else nothing.

    Raises:
        ArtifactError: A list is damaged.
    """
    folder = tokenizer.path.parent
    found = {
        number: (token, special)
        for token, number, special in listed_tokens(folder)
        if tokenizer.ids.get(token) != number
    }
    first = tokenizer.next_id
    texts = [token for token, _ in found.values()]
    goes_on = sorted(found) == list(range(first, first + len(found)))
    if not found or not goes_on or len({*texts, *tokenizer.ids}) < len(texts) + first:
        return tokenizer
    proto = type(tokenizer.proto)()
    proto.CopyFrom(tokenizer.proto)
    for _, (token, special) in sorted(found.items()):
        kind = CONTROL if special else USER_DEFINED
        proto.pieces.add(piece=token, score=0.0, type=kind)
    return sentencepiece_of_proto(proto, path=tokenizer.path)


def check_no_more_tokens(tokenizer: Vocabulary, why: str) -> None:
    """Refuse a folder with tokens that transformers adds to the vocabulary when it loads it.

    Args:
        tokenizer: The vocabulary as its own file has it.
        why: Such tokens are in the way.

    Raises:
        ArtifactError: There is one, or a list is damaged.
    """
    folder, file = tokenizer.path.parent, tokenizer.path.name
    for token, number, _ in listed_tokens(folder):
        if tokenizer.ids.get(token) != number:
            raise ArtifactError(
                f"{folder}: it adds {token!r} as id {number}, and {file} does not have it; {why}: "
                f"take it out, or put it into {file} first (added tokens of a LLaMA folder are "
                "taken in where their ids go on from its last piece without holes)"
            )
    for token in sorted(named_tokens(folder) - tokenizer.ids.keys()):
        raise ArtifactError(
            f"{folder}: it gives {token!r} a role, and {file} does not have it, so that loading "
            f"the folder adds it; {why}: take it out, or put it into {file} first"
        )


def named_tokens(folder: Path) -> set[str]:
    """Texts of the tokens that a folder's configuration names, with a role or without.

    Raises:
        ArtifactError: It is damaged.
    """
    found: list[object] = []
    for tree in (_tree(folder / name) for name in (CONFIG, _SPECIAL)):
        found += [value for key, value in tree.items() if key.endswith("_token")]
        for key in _LISTS:
            listed = tree.get(key) or []
            found += listed.values() if isinstance(listed, dict) else listed
    return set(filter(None, map(token_text, found)))


def role_tokens(folder: Path) -> dict[str, str]:
    """Text of the token of each role that a folder's configuration gives, such as "eos".

    Raises:
        ArtifactError: It is damaged.
    """
    found = {}
    for name in (CONFIG, _SPECIAL):
        for key, value in _tree(folder / name).items():
            if key.endswith("_token") and (text := token_text(value)):
                found[key.removesuffix("_token")] = text
    return found


def listed_tokens(folder: Path) -> Iterator[tuple[str, int, bool]]:
    """Read every added token of a folder: text, id, whether it is special.

    Raises:
        ArtifactError: A list is damaged; names its file.
    """
    config = _tree(folder / CONFIG)
    file = folder / ADDED
    special = named_tokens(folder)
    for token, number in _tree(file).items():
        yield _checked(file, token, number, special=token in special)
    table = config.get("added_tokens_decoder") or {}
    if not isinstance(table, dict):
        raise _damaged(folder / CONFIG, "added_tokens_decoder is no table of ids and tokens")
    for number, token in table.items():
        yield _described(folder / CONFIG, number, token)
    for token in _tree(folder / "tokenizer.json").get("added_tokens") or ():
        number = token.get("id") if isinstance(token, dict) else None
        yield _described(folder / "tokenizer.json", number, token)


def _described(file: Path, number: object, token: object) -> tuple[str, int, bool]:
    if not isinstance(token, dict):
        raise _damaged(file, f"added_tokens holds {str(token)[:40]!r}")
    if isinstance(number, str) and number.isascii() and number.isdigit():
        number = int(number)
    return _checked(file, token.get("content"), number, special=bool(token.get("special")))


def _checked(file: Path, token: object, number: object, *, special: bool) -> tuple[str, int, bool]:
    if not isinstance(token, str) or not token or type(number) is not int or number < 0:
        raise _damaged(file, f"added_tokens gives {str(token)[:40]!r} the id {str(number)[:40]}")
    return token, number, special


def _tree(file: Path) -> dict[str, Any]:
    return read_json(file) if file.is_file() else {}


def _damaged(file: Path, what: str) -> ArtifactError:
    return ArtifactError(f"{file}: damaged: {what}; copy the file again")
