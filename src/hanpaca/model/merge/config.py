"""What an adapter's configuration asks for, and what of it a merge must refuse."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Any, cast

from hanpaca.errors import ArtifactError

ADAPTER_CONFIG = "adapter_config.json"
_REFUSED = {
    "bias": (None, "none"),
    "lora_bias": (None, False),
    "use_qalora": (None, False),
    "use_bdlora": (None, False),
    "enable_lora": (None, False, []),
    "layer_replication": (None, []),
    "target_parameters": (None, []),
    "alora_invocation_tokens": (None, []),
    "arrow_config": (None,),
}
"""Settings that change what the factors mean, with the values that are harmless. Fields that are
not named here or read below say how the adapter was trained, or are of an older or newer peft."""
_KINDS = ("LORA", "TRAINABLE_TOKENS")
_HARMLESS_STARTS = (None, True, False, "gaussian", "orthogonal", "eva")
"""Starts of the factors that leave the base as it was. PiSSA, OLoRA, CorDA and LoftQ change it:
their factors belong to weights that are in no file (peft subtracts the start on loading)."""


@dataclass(frozen=True)
class AdapterConfig:
    """The fields of `adapter_config.json` that decide about a merge."""

    file: Path
    rank: int | None
    """None: as large as the factors are."""
    alpha: float | None
    rank_pattern: Mapping[str, float]
    alpha_pattern: Mapping[str, float]
    use_rslora: bool
    use_dora: bool
    fan_in_fan_out: bool
    token_indices: list[int] | dict[str, list[int]] | None
    modules_to_save: Sequence[str]
    """Last names of the modules that were trained whole."""
    ties_weights: bool
    """Whether peft kept embedding and head one matrix while it trained them."""

    def scaling(self, module: str, rank: int) -> float:
        """Alpha / r, or alpha / sqrt(r) for rank-stabilised LoRA (arXiv 2312.03732).

        Args:
            module: Such as `model.layers.0.self_attn.q_proj`.
            rank: Of the factors in the file.

        Raises:
            ArtifactError: The configuration has another rank, or no alpha.
        """
        wanted = self._by_pattern(self.rank_pattern, module) or self.rank
        if wanted is not None and wanted != rank:
            raise ArtifactError(
                f"{self.file}: says rank {wanted} for {module}, but its factors have {rank}: "
                "the configuration is of another adapter"
            )
        alpha = self._by_pattern(self.alpha_pattern, module) or self.alpha
        if alpha is None:
            raise ArtifactError(f"{self.file}: no lora_alpha for {module}: give --alpha")
        if rank == 0 or not isfinite(alpha):
            raise ArtifactError(
                f"{self.file}: rank {rank} and lora_alpha {alpha} for {module} give no scaling; "
                "copy the configuration of the training again"
            )
        return alpha / (rank**0.5 if self.use_rslora else rank)

    def _by_pattern(self, pattern: Mapping[str, float], module: str) -> float | None:
        """The first entry whose key matches the end of the name (peft's `get_pattern_key`)."""
        for key, value in pattern.items():
            try:
                if re.match(rf"(.*\.)?({key})$", module):
                    return value
            except re.error as error:
                raise ArtifactError(f"{self.file}: pattern {key!r}: {error}") from error
        return None


def read_adapter_config(folder: Path, *, alpha: float | None) -> AdapterConfig:
    """Read `adapter_config.json`; where there is none, take the rank from the factors.

    Args:
        folder: Of the adapter.
        alpha: For an adapter without a configuration.

    Raises:
        ArtifactError: It is damaged, not a LoRA's, or asks for what a merge cannot fold.
    """
    file = folder / ADAPTER_CONFIG
    if not file.is_file():
        if alpha is None:
            raise ArtifactError(
                f"{file}: missing, so the scaling is unknown: give --alpha (lora_alpha of the "
                "training; 32 for the first Chinese-LLaMA and Alpaca, 128 for Alpaca-Plus)"
            )
        return _parsed(file, {"lora_alpha": alpha})
    try:
        tree = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ArtifactError(f"{file}: cannot be read: {error}") from error
    if not isinstance(tree, dict) or tree.get("peft_type") not in _KINDS:
        raise ArtifactError(f"{file}: not the configuration of a LoRA adapter")
    for setting, harmless in _REFUSED.items():
        if tree.get(setting) not in harmless:
            raise ArtifactError(
                f"{file}: {setting} = {tree[setting]!r} cannot be merged here; merge it with peft"
            )
    if tree.get("init_lora_weights") not in _HARMLESS_STARTS:
        raise ArtifactError(
            f"{file}: init_lora_weights = {tree['init_lora_weights']!r} changed the base as well; "
            "save the adapter with peft's path_initial_model_for_weight_conversion"
        )
    return _parsed(file, tree)


def _parsed(file: Path, tree: Mapping[str, Any]) -> AdapterConfig:
    rank, alpha = tree.get("r"), tree.get("lora_alpha")
    if not (rank is None or type(rank) is int) or not (alpha is None or _is_number(alpha)):
        raise ArtifactError(f"{file}: r and lora_alpha must be numbers, not {rank!r}, {alpha!r}")
    return AdapterConfig(
        file,
        rank=rank,
        alpha=alpha,
        rank_pattern=_pattern(file, tree, "rank_pattern"),
        alpha_pattern=_pattern(file, tree, "alpha_pattern"),
        use_rslora=_flag(file, tree, "use_rslora"),
        use_dora=_flag(file, tree, "use_dora"),
        fan_in_fan_out=_flag(file, tree, "fan_in_fan_out"),
        token_indices=_token_indices(file, tree),
        modules_to_save=_names(file, tree, "modules_to_save"),
        ties_weights=_flag(file, tree, "ensure_weight_tying"),
    )


def _is_number(value: object) -> bool:
    return type(value) in (int, float)


def _flag(file: Path, tree: Mapping[str, Any], name: str) -> bool:
    value = tree.get(name)
    if not isinstance(value, bool | None):
        raise ArtifactError(f"{file}: {name} = {value!r:.80} must be true or false")
    return bool(value)


def _names(file: Path, tree: Mapping[str, Any], field: str) -> list[str]:
    value = tree.get(field) or []
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        raise ArtifactError(f"{file}: {field} = {value!r:.80} must be a list of names")
    return value


def _pattern(file: Path, tree: Mapping[str, Any], name: str) -> dict[str, float]:
    value = tree.get(name) or {}
    if not isinstance(value, dict) or not all(_is_number(entry) for entry in value.values()):
        raise ArtifactError(f"{file}: {name} = {value!r:.80} must give numbers for names")
    return value


def _token_indices(file: Path, tree: Mapping[str, Any]) -> list[int] | dict[str, list[int]] | None:
    """In peft's LoRA `trainable_token_indices`; alone, as peft's TRAINABLE_TOKENS, another name."""
    value: Any = tree.get("trainable_token_indices") or tree.get("token_indices")
    for ids in value.values() if isinstance(value, dict) else [value or []]:
        if not isinstance(ids, list) or not all(type(i) is int and i >= 0 for i in ids):
            raise ArtifactError(f"{file}: trainable_token_indices are not lists of piece ids")
    return cast(list[int] | dict[str, list[int]] | None, value)
