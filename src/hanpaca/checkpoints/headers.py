"""What a weights file says it holds, read without trusting it: names, types, shapes, no data.

Everything here is bounded: a header is refused by its claimed length before it is read, and a
shape before anything is multiplied. Nothing needs torch.
"""

import struct
from math import prod
from pathlib import Path
from typing import Any

from hanpaca.checkpoints.tensors import ELEMENT_BYTES, Stored, checked_shape, in_one_piece
from hanpaca.errors import ArtifactError
from hanpaca.files import BEGINNING_BYTES, check_itself, check_regular, parse_json

MAX_HEADER_BYTES = 16_000_000
"""Of a safetensors file; a real model of 10,000 tensors needs about 1 MB."""
TOKENIZER_FILES = (
    "tokenizer.model",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "chat_template.jinja",
    "chat_template.json",
)
"""What makes up a tokenizer in a model's folder, beside `additional_chat_templates/`."""


def read_safetensors(file: Path) -> tuple[dict[str, Stored], dict[str, str]]:
    """Read the header of one safetensors file: its tensors as they lie, and its metadata.

    Raises:
        ArtifactError: It is damaged, truncated, or not what its header says.
    """
    tree, header_bytes, num_bytes = _safetensors_tree(file)
    found = tree.pop("__metadata__", None)
    metadata = {} if found is None else found
    if not isinstance(metadata, dict) or not all(isinstance(v, str) for v in metadata.values()):
        raise ArtifactError(f"{file}: damaged safetensors header: __metadata__ is no map of texts")
    placed = sorted((*_place(entry, name, file), name) for name, entry in tree.items())
    at = 0
    for begin, end, name in placed:
        if begin != at:
            raise ArtifactError(f"{file}: tensor {name} does not begin where the last one ends")
        at = end
    if num_bytes != 8 + header_bytes + at:
        raise ArtifactError(
            f"{file}: truncated or damaged: {num_bytes} bytes, but its header needs "
            f"{8 + header_bytes + at}; download it again"
        )
    tensors = {
        name: in_one_piece(
            file, 8 + header_bytes + begin, tuple(tree[name]["shape"]), dtype=tree[name]["dtype"]
        )
        for begin, _, name in placed
    }
    return tensors, metadata


def _safetensors_tree(file: Path) -> tuple[dict[str, Any], int, int]:
    try:
        num_bytes = check_regular(file)
        with file.open("rb") as stream:
            first = stream.read(BEGINNING_BYTES)
            check_itself(file, first)
            if len(first) < 8:
                raise ArtifactError(f"{file}: truncated, or no safetensors file: {num_bytes} bytes")
            (length,) = struct.unpack_from("<Q", first)
            if length > min(num_bytes - 8, MAX_HEADER_BYTES):
                raise ArtifactError(
                    f"{file}: damaged or truncated: its header claims {length} bytes; "
                    "download it again"
                )
            stream.seek(8)
            data = stream.read(length)
    except OSError as error:
        raise ArtifactError(f"{file}: cannot be read: {error.strerror}") from error
    return parse_json(data, f"{file}: safetensors header"), length, num_bytes


def _place(entry: object, name: str, file: Path) -> tuple[int, int]:
    """Where a tensor's data begins and ends, checked against its type and shape."""
    match entry:
        case {"dtype": str(dtype), "shape": shape, "data_offsets": [int(begin), int(end)]}:
            size = ELEMENT_BYTES.get(dtype)
            if size is None:
                raise ArtifactError(f"{file}: tensor {name} is of a type not known here: {dtype}")
            if begin < 0 or end - begin != size * prod(checked_shape(shape, f"{file}: {name}")):
                raise ArtifactError(f"{file}: tensor {name} does not lie where its shape says")
            return begin, end
    raise ArtifactError(f"{file}: damaged safetensors header at {name}; download it again")
