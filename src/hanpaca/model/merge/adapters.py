"""What an adapter changes, read from its headers: every dialect of LoRA files, one meaning.

The names of tensors differ by the program that wrote them: peft today, peft of 2023 (the adapter's
name inside, `modules_to_save`, `original_module`), whole state dictionaries of a trainer. All
become changes of tensors of the base, in the order they are applied:
replacement, then update, then rows.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from hanpaca.errors import ArtifactError
from hanpaca.model.adapter import tensor_role
from hanpaca.model.checkpoint import read_file_headers
from hanpaca.model.headers import read_safetensors
from hanpaca.model.merge.config import AdapterConfig, read_adapter_config
from hanpaca.model.pickled import read_pickled_headers
from hanpaca.model.stored import Stored, locate

WEIGHT_FILES = ("adapter_model.safetensors", "adapter_model.bin", "pytorch_model.bin")


@dataclass(frozen=True)
class Update:
    """A low-rank update: `W + scaling * B A`; with DoRA its rows are then given the magnitudes."""

    a: Stored
    """(rank, in)"""
    b: Stored
    """(out, rank)"""
    scaling: float
    transposed: bool
    """The base stores (in, out), as embeddings and GPT-2's layers do."""
    magnitude: Stored | None
    """(out,): DoRA (arXiv 2402.09353)."""

    @property
    def shape(self) -> tuple[int, int]:
        """Of the matrix this fits."""
        shape = self.b.shape[0], self.a.shape[1]
        return shape[::-1] if self.transposed else shape


@dataclass
class Change:
    """What an adapter does to one tensor of its base, in this order."""

    replacement: Stored | None = None
    update: Update | None = None
    row_ids: list[int] = field(default_factory=list)
    rows: Stored | None = None
    """(row_ids, columns): what peft calls `trainable_tokens_delta` are the rows themselves."""


@dataclass(frozen=True)
class Adapter:
    """An adapter on disk; nothing of its data has been read."""

    folder: Path
    file: Path
    config: AdapterConfig
    metadata: Mapping[str, str]
    """Of the safetensors header: ours carry the fingerprints of base and tokenizer."""
    changes: Mapping[str, Change]
    """By the name of the base's tensor."""


def read_adapter(folder: Path, *, alpha: float | None = None, weight: float = 1.0) -> Adapter:
    """Read what an adapter changes, from its configuration and headers only.

    Args:
        folder: Holds one of `WEIGHT_FILES` and, mostly, `adapter_config.json`.
        alpha: The training's `lora_alpha`, for an adapter without configuration.
        weight: Share of its updates that counts.

    Raises:
        ArtifactError: A file is missing or damaged, or the adapter holds something that a merge
            cannot fold: names the tensor or the setting.
    """
    file = _weight_file(folder)
    config = read_adapter_config(folder, alpha=alpha)
    metadata: Mapping[str, str] = {}
    if file.suffix == ".safetensors":
        stored = locate(read_file_headers(file))
        metadata = read_safetensors(file)[1]
    else:
        stored = read_pickled_headers(file)
    if not stored:
        raise ArtifactError(f"{file}: is empty: the training did not save its adapter")
    parts = _Parts(file, config)
    for name, tensor in stored.items():
        parts.add(name, tensor)
    changes = parts.changes()
    if weight != 1.0:
        changes = {name: _scaled(name, one, weight, file) for name, one in changes.items()}
    return Adapter(folder, file, config, metadata, changes)


def _scaled(name: str, change: Change, weight: float, file: Path) -> Change:
    update = change.update
    if update is None or change.replacement or change.rows or update.magnitude:
        raise ArtifactError(
            f"{file}: {name} is set by this adapter, not added to, so it cannot count by "
            f"{weight:g}: leave the weight out"
        )
    return replace(change, update=replace(update, scaling=update.scaling * weight))


def _weight_file(folder: Path) -> Path:
    for name in WEIGHT_FILES:
        if (folder / name).is_file():
            return folder / name
    raise ArtifactError(
        f"{folder}: no adapter here: give a folder with adapter_config.json and one of "
        f"{', '.join(WEIGHT_FILES)}"
    )


class _Parts:
    """The tensors of an adapter, sorted by module and by what they are there for."""

    def __init__(self, file: Path, config: AdapterConfig) -> None:
        self.file, self.config = file, config
        self.modules: dict[str, dict[str, Stored]] = {}

    def add(self, name: str, tensor: Stored) -> None:
        if name.endswith(".bias"):
            raise ArtifactError(f"{self.file}: {name}: a trained bias cannot be merged here")
        found = tensor_role(name)
        if found is None:
            raise ArtifactError(f"{self.file}: tensor {name} is of a kind this merge does not know")
        module, kind = found
        parts = self.modules.setdefault(module, {})
        if kind in parts:
            raise ArtifactError(f"{self.file}: {name} is there twice, under two spellings")
        parts[kind] = tensor

    def changes(self) -> dict[str, Change]:
        saved = {
            module for module, parts in self.modules.items() if {"saved", "plain"} & set(parts)
        }
        for name in self.config.modules_to_save:
            if not any(f".{module}".endswith(f".{name}") for module in saved):
                raise ArtifactError(
                    f"{self.file}: modules_to_save names {name}, but its matrix is not there: "
                    "the training did not save the whole adapter"
                )
        return {
            f"{module}.weight": self._change(module, parts)
            for module, parts in self.modules.items()
        }

    def _change(self, module: str, parts: dict[str, Stored]) -> Change:
        """Take the matrix peft would load, where it is there under several names.

        Peft of today writes a grown embedding as `plain`, again as `saved`, and the base's own as
        `copy`.
        """
        saved = [parts[kind] for kind in ("plain", "saved", "copy") if kind in parts]
        if "saved" in parts and saved[0].shape != parts["saved"].shape:
            raise ArtifactError(f"{self.file}: {module} is there twice, with different shapes")
        rows = parts.get("rows")
        return Change(
            replacement=saved[0] if saved else None,
            update=self._update(module, parts),
            row_ids=self._row_ids(module, rows) if rows is not None else [],
            rows=rows,
        )

    def _update(self, module: str, parts: dict[str, Stored]) -> Update | None:
        embedding = any(kind.startswith("lora_embedding") for kind in parts)
        kinds = ("lora_embedding_A", "lora_embedding_B") if embedding else ("lora_A", "lora_B")
        found = [parts.get(kind) for kind in kinds]
        magnitude = parts.get("lora_magnitude_vector")
        if found == [None, None] and magnitude is None:
            return None
        a, b = found
        if a is None or b is None:
            raise ArtifactError(
                f"{self.file}: only one of {' and '.join(kinds)} is there for {module}"
            )
        if len(a.shape) != 2 or len(b.shape) != 2 or a.shape[0] != b.shape[1]:
            raise ArtifactError(
                f"{self.file}: {kinds[0]} {a.shape} and {kinds[1]} {b.shape} of {module} "
                "do not fit each other"
            )
        transposed = embedding or self.config.fan_in_fan_out
        self._check_dora(module, magnitude, rows=b.shape[0], transposed=transposed)
        scaling = self.config.scaling(module, a.shape[0])
        return Update(a, b, scaling, transposed, magnitude)

    def _check_dora(
        self, module: str, magnitude: Stored | None, *, rows: int, transposed: bool
    ) -> None:
        if (magnitude is not None) != self.config.use_dora:
            told = "has magnitudes" if magnitude is not None else "has no magnitudes"
            raise ArtifactError(
                f"{self.file}: {module} {told}, but the configuration says use_dora = "
                f"{self.config.use_dora}"
            )
        if magnitude is not None and transposed:
            raise ArtifactError(
                f"{self.file}: use_dora on {module}, whose matrix is transposed, cannot be merged "
                "here; merge it with peft"
            )
        if magnitude is not None and magnitude.shape not in ((rows,), (rows, 1)):
            raise ArtifactError(
                f"{self.file}: magnitudes of {module} are {magnitude.shape}, its rows {rows}"
            )

    def _row_ids(self, module: str, rows: Stored) -> list[int]:
        indices = self.config.token_indices
        if isinstance(indices, dict):
            last = module.rsplit(".", 1)[-1]
            indices = indices.get(last, indices.get(module))
        if not isinstance(indices, list):
            raise ArtifactError(
                f"{self.file}: rows for {module}, but no trainable_token_indices for it"
            )
        if (
            len(rows.shape) != 2
            or len(indices) != rows.shape[0]
            or len(set(indices)) != len(indices)
        ):
            raise ArtifactError(
                f"{self.file}: new rows of {module} are {rows.shape}; the configuration lists "
                f"{len(set(indices))} pieces"
            )
        return indices
