"""Names for the content of a model and of a tokenizer, whatever files they lie in."""

import hashlib
import json
from pathlib import Path

from hanpaca.errors import ArtifactError
from hanpaca.model.checkpoint import read_headers
from hanpaca.model.stored import Extent, locate

_PIECE_BYTES = 1 << 20
_TOKENIZER_PARTS = ("normalizer", "pre_tokenizer", "model", "added_tokens", "decoder")


def model_fingerprint(folder: Path) -> str:
    """SHA-256 over every weight's name, type, shape and data; sharding does not matter.

    Raises:
        ArtifactError: The weights are missing or damaged.
    """
    places = locate(read_headers(folder))
    whole = hashlib.sha256()
    for name in sorted(places):
        stored = places[name]
        whole.update(f"{name} {stored.dtype} {list(stored.shape)}\n".encode())
        whole.update(_digest(stored.extents[0]))
    return whole.hexdigest()


def _digest(extent: Extent) -> bytes:
    """Of the data, read piece by piece: mapped into memory it would count as the process's own."""
    content = hashlib.sha256()
    with extent.file.open("rb") as stream:
        stream.seek(extent.offset)
        left = extent.num_bytes
        while left:
            piece = stream.read(min(left, _PIECE_BYTES))
            if not piece:
                raise ArtifactError(f"{extent.file}: became shorter while it was read")
            content.update(piece)
            left -= len(piece)
    return content.digest()


def tokenizer_fingerprint(folder: Path) -> str:
    """SHA-256 over what decides how `tokenizer.json` encodes; its layout does not matter.

    Raises:
        ArtifactError: The file is missing or damaged.
    """
    file = folder / "tokenizer.json"
    try:
        tree = json.loads(file.read_text(encoding="utf-8"))
        parts = [tree.get(part) for part in _TOKENIZER_PARTS]
    except (OSError, ValueError, AttributeError) as error:
        raise ArtifactError(f"{file}: cannot be read: {error}") from error
    text = json.dumps(parts, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()
