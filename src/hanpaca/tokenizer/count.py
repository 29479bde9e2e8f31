"""How many entries a tokenizer has, without loading it: for checks of files that fit each other."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hanpaca.checkpoints.gguf import read_header
from hanpaca.errors import ArtifactError
from hanpaca.files import describe_file, read_bytes, read_json

_PIECES = 1
"""The number of the field `pieces` in `sentencepiece_model.proto`."""


@dataclass(frozen=True)
class TokenizerContents:
    """A tokenizer, counted."""

    files: tuple[Path, ...]
    num_entries: int
    """One more than the largest id."""
    model_sha256: str | None
    """Of `tokenizer.model`, which is how the released ones are known."""
    notes: tuple[str, ...] = ()


def count_tokenizer(path: Path) -> TokenizerContents | None:
    """Count the entries of a tokenizer: of a folder, `tokenizer.json`, `.model` or GGUF file.

    Returns:
        None where a folder has no tokenizer.

    Raises:
        ArtifactError: It is damaged.
    """
    if path.suffix == ".gguf":
        tokens = read_header(path).fields.get("tokenizer.ggml.tokens")
        length = len(tokens) if isinstance(tokens, list) else 0
        return TokenizerContents((path,), length, None) if length else None
    files = [path / name for name in ("tokenizer.json", "tokenizer.model")]
    files = [file for file in files if file.is_file()] if path.is_dir() else [path]
    if not files:
        return None
    counts, sha256 = [], None
    for file in files:
        if file.suffix == ".json":
            counts.append(max(json_entries(read_json(file), path=file).values()) + 1)
        else:
            added = _added_entries(file.parent) if path.is_dir() else 0
            counts.append(max(num_sentencepieces(file), added))
            sha256 = describe_file(file, name=file.name).sha256
    notes: tuple[str, ...] = ()
    if len(set(counts)) > 1:
        notes = (
            f"tokenizer.json has {counts[0]:,} entries and tokenizer.model {counts[1]:,}: they "
            "are of different tokenizers; keep the one the model was trained with",
        )
    return TokenizerContents(tuple(files), counts[0], sha256, notes)


def _added_entries(folder: Path) -> int:
    """One more than the largest id of `added_tokens.json`, which old tokenizers have beside."""
    file = folder / "added_tokens.json"
    ids = read_json(file).values() if file.is_file() else ()
    return max((number for number in ids if type(number) is int), default=-1) + 1


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
    data = read_bytes(file)
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
