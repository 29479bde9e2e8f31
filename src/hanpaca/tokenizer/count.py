"""How many entries a tokenizer has, without loading it: for checks of files that fit each other."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from hanpaca.errors import ArtifactError

_MAX_MODEL_BYTES = 50_000_000
_PIECES = 1
"""The number of the field `pieces` in `sentencepiece_model.proto`."""


def json_entries(tree: Mapping[str, Any], *, path: Path) -> dict[str, int]:
    """Every entry of a `tokenizer.json`, added ones too, and its id; `path` is for messages.

    Raises:
        ArtifactError: The tree has no vocabulary, or one whose ids are no numbers.
    """
    model = tree.get("model")
    vocab = model.get("vocab") if isinstance(model, dict) else None
    if isinstance(vocab, list):
        entries = {str(entry): number for number, entry in enumerate(vocab)}
    elif isinstance(vocab, dict):
        entries = dict(vocab)
    else:
        raise ArtifactError(f"{path}: damaged: it has no model.vocab; copy the file again")
    for token in tree.get("added_tokens") or ():
        match token:
            case {"content": str(content), "id": int(number)}:
                entries[content] = number
            case _:
                raise ArtifactError(f"{path}: damaged: added_tokens holds {str(token)[:60]}")
    if not entries or not all(type(number) is int for number in entries.values()):
        raise ArtifactError(f"{path}: damaged: model.vocab is empty or holds ids that are no ids")
    return entries


def num_sentencepieces(file: Path) -> int:
    """Count the pieces of a `tokenizer.model` by walking its protocol buffer.

    Raises:
        ArtifactError: It is missing, damaged, or not such a file.
    """
    try:
        num_bytes = file.stat().st_size
        if num_bytes > _MAX_MODEL_BYTES:
            raise ArtifactError(f"{file}: {num_bytes} bytes is too much for a tokenizer.model")
        data = file.read_bytes()
    except OSError as error:
        raise ArtifactError(f"{file}: cannot be read: {error.strerror}") from error
    try:
        found = sum(number == _PIECES for number in _fields(data))
    except (ValueError, IndexError) as error:
        raise ArtifactError(f"{file}: damaged or no SentencePiece model; copy it again") from error
    if not found:
        raise ArtifactError(f"{file}: no SentencePiece model: it has no pieces")
    return found


def _fields(data: bytes) -> Iterator[int]:
    """The numbers of the length-delimited fields of a message; others are damage here."""
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        if key & 7 != 2:
            raise ValueError("no message of sub-messages")
        length, at = _varint(data, at)
        at += length
        yield key >> 3
    if at != len(data):
        raise ValueError("truncated")


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise ValueError("a number that does not end")
