"""Fold a LoRA adapter into its base, one tensor at a time: plan, check, write.

    W' = round(W + (alpha / r) B A)        in float32, rounded once

New-vocabulary rows of the adapter replace the base's rows exactly. The files are peft's
(`adapter_config.json`, `adapter_model.safetensors`). What peft calls `trainable_tokens_delta` are
the rows themselves, not a difference (peft/tuners/trainable_tokens/layer.py).
"""

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor

from hanpaca.errors import ArtifactError
from hanpaca.model.checkpoint import (
    PlannedTensor,
    TensorInfo,
    copy_side_files,
    opened,
    read_headers,
    write_weights,
)
from hanpaca.model.fingerprint import model_fingerprint

_PREFIX = "base_model.model."
_ROWS = ".token_adapter.trainable_tokens_delta"
_PLAIN = {
    "use_dora": False,
    "use_qalora": False,
    "bias": "none",
    "fan_in_fan_out": False,
    "lora_bias": False,
    "modules_to_save": None,
    "layer_replication": None,
}
"""Settings this merge does not fold unless they have these values."""


@dataclass(frozen=True)
class MergeSummary:
    """What the merge changed."""

    num_tensors: int
    num_changed: int
    num_bytes: int
    largest_change: Mapping[str, float]
    """Largest absolute change of an element, for each changed matrix."""


@dataclass
class _Change:
    """What happens to one tensor of the base."""

    scaling: float = 0.0
    lora_a: Tensor | None = None
    lora_b: Tensor | None = None
    row_ids: list[int] = field(default_factory=list)
    rows: Tensor | None = None

    def apply(self, weight: Tensor) -> Tensor:
        merged = weight.float()
        if self.lora_a is not None and self.lora_b is not None:
            merged = merged + self.scaling * (self.lora_b.float() @ self.lora_a.float())
        if self.rows is not None:
            merged = merged.clone()
            merged[self.row_ids] = self.rows.float()
        return merged


def merge_adapter(
    base: Path,
    adapter: Path,
    output: Path,
    *,
    on_bytes: Callable[[int, int], None] = lambda done, total: None,
) -> MergeSummary:
    """Write base plus adapter as a Hugging Face folder, in the base's own dtypes.

    Memory stays at about one tensor in float32. `output` appears only when it is whole.

    Args:
        base: Safetensors folder the adapter was trained on.
        adapter: Folder in peft's format.
        output: Must not exist.
        on_bytes: Called with the bytes written so far and in all.

    Raises:
        ArtifactError: The adapter does not fit the base, or holds something this merge cannot
            fold: names the tensor or setting; nothing is written.
    """
    if output.exists():
        raise ArtifactError(f"{output}: already exists; remove it or give another output folder")
    headers = read_headers(base)
    changes = _plan(adapter, headers, base)
    largest: dict[str, float] = {}
    total = sum(info.num_bytes for info in headers.values())
    done = 0

    def count(num_bytes: int) -> None:
        nonlocal done
        done += num_bytes
        on_bytes(done, total)

    partial = output.with_name(output.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    with opened(headers) as tensor_of:

        def make(name: str) -> Tensor:
            weight = tensor_of(name)
            if name not in changes:
                return weight
            merged = changes[name].apply(weight).to(weight.dtype)
            largest[name] = float((merged.float() - weight.float()).abs().max())
            return merged

        plan = [
            PlannedTensor(name, info.dtype, info.shape, lambda name=name: make(name))  # type: ignore[misc]
            for name, info in headers.items()
        ]
        write_weights(partial, plan, on_bytes=count)
    copy_side_files(base, partial)
    partial.rename(output)
    return MergeSummary(len(headers), len(changes), total, largest)


def _plan(adapter: Path, headers: Mapping[str, TensorInfo], base: Path) -> dict[str, _Change]:
    config = _read_config(adapter / "adapter_config.json")
    file = adapter / "adapter_model.safetensors"
    try:
        with safe_open(file, framework="pt") as handle:
            metadata = handle.metadata() or {}
            tensors = {name: handle.get_tensor(name) for name in handle.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise ArtifactError(f"{file}: cannot be read: {error}") from error
    expected = metadata.get("hanpaca.base.fingerprint")
    if expected and expected != model_fingerprint(base):
        raise ArtifactError(
            f"{file}: this adapter was trained on another model than {base} (fingerprint "
            f"{expected[:12]}…); give the model it was trained on"
        )
    changes: dict[str, _Change] = {}
    for name, tensor in tensors.items():
        if not tensor.isfinite().all():
            raise ArtifactError(f"{file}: {name} holds NaN or infinite values; train it again")
        target, side = _target(name, file)
        if target not in headers:
            raise ArtifactError(f"{file}: {name} has no counterpart {target} in {base}")
        change = changes.setdefault(target, _Change())
        if side == "rows":
            change.rows, change.row_ids = tensor, _row_ids(config, target, file)
        elif side == "lora_A":
            change.lora_a = tensor
        else:
            change.lora_b = tensor
    for target, change in changes.items():
        change.scaling = _scaling(config, target, change)
        _check_shapes(target, change, headers[target], file)
    return changes


def _read_config(file: Path) -> dict[str, Any]:
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ArtifactError(f"{file}: cannot be read: {error}") from error
    if not isinstance(config, dict) or config.get("peft_type") != "LORA":
        raise ArtifactError(f"{file}: not the configuration of a LoRA adapter")
    for setting, plain in _PLAIN.items():
        if config.get(setting, plain) not in (plain, None):
            raise ArtifactError(
                f"{file}: {setting} = {config[setting]!r} cannot be merged here; merge it with peft"
            )
    if not isinstance(config.get("r"), int) or not isinstance(
        config.get("lora_alpha"), int | float
    ):
        raise ArtifactError(f"{file}: r and lora_alpha must be numbers")
    return config


def _target(name: str, file: Path) -> tuple[str, str]:
    """The base tensor an adapter tensor changes, and how."""
    bare = name.removeprefix(_PREFIX)
    if bare.endswith(_ROWS):
        return bare.removesuffix(_ROWS) + ".weight", "rows"
    for side in ("lora_A", "lora_B"):
        for ending in (f".{side}.weight", f".{side}.default.weight"):
            if bare.endswith(ending):
                return bare.removesuffix(ending) + ".weight", side
    raise ArtifactError(f"{file}: tensor {name} is of a kind this merge does not know")


def _row_ids(config: Mapping[str, Any], target: str, file: Path) -> list[int]:
    indices = config.get("trainable_token_indices")
    module = target.removesuffix(".weight").rsplit(".", 1)[-1]
    if isinstance(indices, dict):
        indices = indices.get(module)
    if not isinstance(indices, list):
        raise ArtifactError(f"{file}: rows for {module}, but no trainable_token_indices for it")
    return indices


def _scaling(config: Mapping[str, Any], target: str, change: _Change) -> float:
    """Alpha / r, or alpha / sqrt(r) for rank-stabilised LoRA (arXiv 2312.03732)."""
    module = target.removesuffix(".weight")
    rank = len(change.lora_a) if change.lora_a is not None else int(config["r"])
    alpha = float(config["lora_alpha"])
    for pattern, value in (config.get("alpha_pattern") or {}).items():
        if module == pattern or module.endswith(f".{pattern}"):
            alpha = float(value)
    return alpha / (rank**0.5 if config.get("use_rslora") else rank)


def _check_shapes(target: str, change: _Change, info: TensorInfo, file: Path) -> None:
    if (change.lora_a is None) != (change.lora_b is None):
        raise ArtifactError(f"{file}: only one of lora_A and lora_B is there for {target}")
    if change.lora_a is not None and change.lora_b is not None:
        found = (change.lora_b.shape[0], change.lora_a.shape[1])
        if found != info.shape or change.lora_a.shape[0] != change.lora_b.shape[1]:
            raise ArtifactError(
                f"{file}: the update of {target} is {found}, the base's matrix {info.shape}: "
                "this adapter belongs to another model"
            )
    if change.rows is not None:
        wanted = (len(change.row_ids), info.shape[1])
        if tuple(change.rows.shape) != wanted or max(change.row_ids) >= info.shape[0]:
            raise ArtifactError(
                f"{file}: new rows of {target} are {tuple(change.rows.shape)}; the base has "
                f"{info.shape} and the configuration lists {wanted[0]}"
            )
