"""What an adapter changes, read from its headers: every dialect of LoRA files, one meaning.

The names of tensors differ by the program that wrote them: peft today, peft of 2023 (the adapter's
name inside, `modules_to_save`, `original_module`), whole state dictionaries of a trainer. All
become changes of tensors of the base, in the order they are applied: replacement, then update,
then rows. Nothing needs torch, and nothing of the data is read.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from hanpaca.checkpoints.adapter_changes import TABLES, Change, Reading, Update
from hanpaca.checkpoints.adapter_settings import (
    ADAPTER_CONFIG,
    AdapterSettings,
    parse_settings,
)
from hanpaca.checkpoints.weights import (
    ADAPTER_FILES,
    MODEL_FILES,
    WEIGHT_ENDINGS,
    Weights,
    find_weights,
    read_weights,
)
from hanpaca.errors import ArtifactError
from hanpaca.files import read_json

WEIGHT_FILES = (*ADAPTER_FILES, MODEL_FILES[1])
BASE_KEY, TOKENIZER_KEY = "hanpaca.base.fingerprint", "hanpaca.tokenizer.fingerprint"
_MORE_FILES = ("trainable_params.bin", "non_lora_trainables.bin")
"""Whole tensors that a training kept beside its factors, as LongLoRA's and LLaVA's do."""
_STATE_OF_TRAINING = ("training_args", "optimizer", "scheduler", "rng_state", "scaler")


@dataclass(frozen=True)
class AdapterFiles:
    """An adapter on disk; nothing of its data has been read."""

    path: Path
    """Folder, or lone file of weights."""
    weights: Weights
    settings: AdapterSettings
    changes: Mapping[str, Change]
    """By the name of the base's tensor."""
    faults: tuple[ArtifactError, ...]
    """Why it cannot be merged, the cause of all else first."""
    notes: tuple[str, ...]
    """What is odd."""

    @property
    def folder(self) -> Path:
        """Where configuration and tokenizer are."""
        return self.path if self.path.is_dir() else self.path.parent

    @property
    def file(self) -> Path:
        """Of weights, the first: for messages."""
        return self.weights.files[0]

    @property
    def metadata(self) -> Mapping[str, str]:
        """Of the safetensors header: ours carry the fingerprints of base and tokenizer."""
        return self.weights.metadata

    @property
    def base_fingerprint(self) -> str | None:
        """Of the model it was trained on, where it says so."""
        return self.metadata.get(BASE_KEY)

    @property
    def tokenizer_fingerprint(self) -> str | None:
        """Of the tokenizer it was trained with, where it says so."""
        return self.metadata.get(TOKENIZER_KEY)

    @property
    def updates(self) -> Mapping[str, Update]:
        """Its low-rank updates, by the name of the base's tensor."""
        return {name: one.update for name, one in self.changes.items() if one.update}

    @property
    def replaced(self) -> Mapping[str, tuple[int, ...]]:
        """Shapes of the tensors it brings whole."""
        found = {name: one.replacement for name, one in self.changes.items()}
        return {name: part.shape for name, part in found.items() if part}

    @property
    def rank(self) -> int | None:
        """The commonest rank, told by the shapes."""
        ranks = [update.rank for update in self.updates.values()]
        return max(set(ranks), key=ranks.count) if ranks else None

    @property
    def vocab_rows(self) -> int | None:
        """How many rows a replaced embedding or head has."""
        tables = (shape for name, shape in self.replaced.items() if _last(name) in TABLES)
        return next((shape[0] for shape in tables if len(shape) == 2), None)

    @property
    def hidden_size(self) -> int | None:
        """Of the model it belongs to."""
        return next(iter(self.hidden_sizes), None)

    @property
    def hidden_sizes(self) -> list[int]:
        """What q_proj, k_proj and v_proj read, or else the width of embedding rows."""
        attention = ("q_proj", "k_proj", "v_proj")
        found = [one.shape[1] for name, one in self.updates.items() if _last(name) in attention]
        rows = [one.rows.shape for one in self.changes.values() if one.rows]
        return found or [shape[1] for shape in [*self.replaced.values(), *rows] if shape[1:]]


def is_adapter(path: Path) -> bool:
    """Whether a path is to be read as an adapter: by its names, or else by its tensors."""
    if path.is_dir():
        names = (ADAPTER_CONFIG, *ADAPTER_FILES, *(f"{name}.index.json" for name in ADAPTER_FILES))
        if any((path / name).is_file() for name in names):
            return True
        weights = find_weights(path) if (path / MODEL_FILES[1]).is_file() else None
    else:
        weights = read_weights([path]) if path.suffix in WEIGHT_ENDINGS else None
    return weights is not None and any(
        ".lora_" in name or "trainable_tokens_delta" in name for name in weights.tensors
    )


def open_adapter(path: Path, *, alpha: float | None = None) -> AdapterFiles:
    """Read what an adapter changes, from its configuration and headers only.

    Args:
        path: Folder that holds one of `WEIGHT_FILES` and, mostly, `adapter_config.json`; or the
            file of weights.
        alpha: The training's `lora_alpha`, for an adapter without configuration.

    Raises:
        ArtifactError: A file is missing or damaged. What a merge cannot fold is no error here, but
            stands among the faults.
    """
    weights = find_weights(path, WEIGHT_FILES) if path.is_dir() else None
    if path.is_file():
        weights = read_weights([path])
    if weights is None:
        told = "no adapter here" if path.is_dir() else "no such file or folder"
        raise ArtifactError(
            f"{path}: {told}: give a folder with {ADAPTER_CONFIG} and one of "
            f"{', '.join(WEIGHT_FILES)}"
        )
    folder = path if path.is_dir() else path.parent
    notes: list[str] = []
    if path.is_dir():
        weights = _with_more(folder, weights, notes)
    file = folder / ADAPTER_CONFIG
    if file.is_file():
        settings, faults, odd = parse_settings(file, read_json(file))
    else:
        settings, faults, odd = AdapterSettings(file, alpha=alpha), [], []
    reading = Reading(weights, settings)
    if not faults:  # else its tensors mean something that is not known here
        reading.read()
        if not file.is_file() and alpha is None and reading.has_factors:
            reading.faults[:0] = [_no_settings(file)]
    return AdapterFiles(
        path,
        weights,
        settings,
        reading.changes,
        (*faults, *reading.faults),
        (*notes, *odd, *reading.notes),
    )


def _no_settings(file: Path) -> ArtifactError:
    return ArtifactError(
        f"{file}: missing, so the scaling is unknown",
        "give {alpha} (lora_alpha of the training; 32 for the first Chinese-LLaMA and Alpaca, 128 "
        "for Alpaca-Plus)",
    )


def _with_more(folder: Path, weights: Weights, notes: list[str]) -> Weights:
    """Add the tensors of the files that are known to belong to factors; name the others."""
    used = set(weights.files)
    others = sorted(
        file.name
        for file in folder.iterdir()
        if file.suffix in WEIGHT_ENDINGS
        and file not in used
        and not file.name.startswith(_STATE_OF_TRAINING)
    )
    for name in [name for name in _MORE_FILES if name in others]:
        others.remove(name)
        more = read_weights([folder / name])
        if twice := sorted(weights.tensors.keys() & more.tensors.keys()):
            raise ArtifactError(f"{folder / name}: tensor {twice[0]} is also in {weights.files[0]}")
        notes.append(f"the {len(more.tensors)} whole tensors of {name} beside it are taken too")
        tensors = {**weights.tensors, **more.tensors}
        weights = replace(weights, files=(*weights.files, *more.files), tensors=tensors)
    if others:
        notes.append(f"beside it, and not read: {', '.join(others[:5])}")
    return weights


def _last(name: str) -> str:
    return name.removesuffix(".weight").rsplit(".", 1)[-1]
