"""What a path holds — a model, an adapter, a tokenizer — read from headers alone.

Nothing here trusts a file: no pickle is run, no count believed, no data of a tensor read.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hanpaca.errors import ArtifactError
from hanpaca.gguf.header import read_header
from hanpaca.gguf.names import hf_name
from hanpaca.model.adapter import AdapterParts, AdapterSettings, adapter_parts, adapter_settings
from hanpaca.model.headers import TensorHeader, read_json
from hanpaca.model.shape import ModelShape, model_shape
from hanpaca.model.weights import ADAPTER_FILES, MODEL_FILES, Weights, find_weights, read_weights
from hanpaca.runs import describe_file
from hanpaca.tokenizer.count import json_entries, num_sentencepieces

ADAPTER_CONFIG = "adapter_config.json"
BASE_KEY, TOKENIZER_KEY = "hanpaca.base.fingerprint", "hanpaca.tokenizer.fingerprint"
_WEIGHT_ENDINGS = (".safetensors", ".bin", ".pth", ".pt")


@dataclass(frozen=True)
class TokenizerContents:
    """A tokenizer, counted."""

    files: tuple[Path, ...]
    num_entries: int
    """One more than the largest id."""
    model_sha256: str | None
    """Of `tokenizer.model`, which is how the released ones are known."""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class ModelContents:
    """A model's headers and configuration."""

    path: Path
    weights: Weights
    shape: ModelShape | None
    config: Mapping[str, Any]
    """`config.json`, `params.json`, or the fields of a GGUF file; empty where there is none."""


@dataclass(frozen=True)
class AdapterContents:
    """An adapter's headers and configuration."""

    path: Path
    weights: Weights
    parts: AdapterParts
    settings: AdapterSettings | None
    """None where there is no adapter_config.json."""

    @property
    def base_fingerprint(self) -> str | None:
        """Of the model it was trained on, where it says so."""
        return self.weights.metadata.get(BASE_KEY)


def is_adapter(path: Path) -> bool:
    """Whether a path is to be read as an adapter: by its names, or else by its tensors."""
    if path.is_dir():
        names = (ADAPTER_CONFIG, *ADAPTER_FILES, *(f"{name}.index.json" for name in ADAPTER_FILES))
        if any((path / name).is_file() for name in names):
            return True
        weights = find_weights(path) if (path / MODEL_FILES[1]).is_file() else None
    else:
        weights = read_weights([path]) if path.suffix in _WEIGHT_ENDINGS else None
    return weights is not None and any(
        ".lora_" in name or "trainable_tokens_delta" in name for name in weights.tensors
    )


def open_adapter(path: Path) -> AdapterContents:
    """Read the headers of an adapter's folder or file.

    Raises:
        ArtifactError: There are no weights, or they or the configuration are damaged.
    """
    if path.is_dir():
        weights = find_weights(path, (*ADAPTER_FILES, MODEL_FILES[1]))
        if weights is None:
            raise ArtifactError(f"{path}: no adapter here: neither {' nor '.join(ADAPTER_FILES)}")
    else:
        weights = read_weights([path])
    config = (path if path.is_dir() else path.parent) / ADAPTER_CONFIG
    settings = adapter_settings(read_json(config)) if config.is_file() else None
    return AdapterContents(path, weights, adapter_parts(weights.tensors), settings)


def open_model(path: Path) -> ModelContents:
    """Read the headers of a model: a folder of any layout, a GGUF file, or a lone weights file.

    Raises:
        ArtifactError: There are no weights, or they are damaged.
    """
    if path.suffix == ".gguf" and path.is_file():
        return _open_gguf(path)
    weights = find_weights(path) if path.is_dir() else read_weights([path])
    if weights is None:
        raise ArtifactError(
            f"{path}: no weights here ({', '.join(MODEL_FILES)}, their indexes, or "
            "consolidated.*.pth); give the folder that has them, or a file"
        )
    folder = path if path.is_dir() else path.parent
    names = ("params.json", "config.json") if weights.layout == "meta" else ("config.json",)
    file = next((folder / name for name in names if (folder / name).is_file()), None)
    config = read_json(file) if file and path.is_dir() else {}
    return ModelContents(path, weights, model_shape(weights.tensors), config)


def open_tokenizer(path: Path) -> TokenizerContents | None:
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


def _open_gguf(path: Path) -> ModelContents:
    header = read_header(path)
    tensors = {
        hf_name(name) or name: TensorHeader(entry.kind.name, entry.shape)
        for name, entry in header.tensors.items()
    }
    metadata = {
        key: value
        for key, value in header.fields.items()
        if key.startswith("hanpaca.") and isinstance(value, str)
    }
    weights = Weights((path,), "gguf", tensors, metadata)
    return ModelContents(path, weights, model_shape(tensors), header.fields)
