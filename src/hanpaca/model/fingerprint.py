"""Names for the content of a model and of a tokenizer, whatever files they lie in."""

import hashlib
import json
from pathlib import Path

import torch

from hanpaca.errors import ArtifactError
from hanpaca.model.checkpoint import opened, read_headers

_TOKENIZER_PARTS = ("normalizer", "pre_tokenizer", "model", "added_tokens", "decoder")


def model_fingerprint(folder: Path) -> str:
    """SHA-256 over every weight's name, type, shape and data; sharding does not matter.

    Raises:
        ArtifactError: The weights are missing or damaged.
    """
    headers = read_headers(folder)
    whole = hashlib.sha256()
    with opened(headers) as tensor_of:
        for name in sorted(headers):
            data = tensor_of(name).contiguous().reshape(-1).view(torch.uint8).numpy().data
            info = headers[name]
            whole.update(f"{name} {info.dtype} {list(info.shape)}\n".encode())
            whole.update(hashlib.sha256(data).digest())
    return whole.hexdigest()


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
