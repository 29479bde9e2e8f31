"""What an adapter's configuration asks for, and what of it cannot be merged."""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import inf, isfinite
from pathlib import Path
from typing import Any

import regex

from hanpaca.errors import ArtifactError

ADAPTER_CONFIG = "adapter_config.json"
# fmt: off
KNOWN_FIELDS = frozenset({
    "alora_invocation_tokens", "alpha_pattern", "arrow_config", "auto_mapping",
    "base_model_name_or_path", "bias", "corda_config", "ensure_weight_tying", "eva_config",
    "exclude_modules", "fan_in_fan_out", "inference_mode", "init_lora_weights", "init_weights",
    "kasa_config", "layer_replication", "layers_pattern", "layers_to_transform", "loftq_config",
    "lora_alpha", "lora_bias", "lora_dropout", "lora_ga_config", "megatron_config",
    "megatron_core", "modules_to_save", "monteclora_config", "peft_type", "peft_version",
    "qalora_group_size", "r", "rank_pattern", "revision", "runtime_config", "target_modules",
    "target_parameters", "task_type", "token_indices", "trainable_token_indices", "use_bdlora",
    "use_dora", "use_qalora", "use_rslora", "velora_config",
})
# fmt: on
"""Fields of LoraConfig and TrainableTokensConfig in peft 0.21."""
OLD_FIELDS = {"enable_lora": None, "merge_weights": False}
"""Fields of early 2023 that peft has dropped, and the value that means nothing."""
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
_SECONDS = 2.0
"""For all patterns of an adapter together: those of a real one take a few milliseconds."""
_MAX_PATTERN = 2000


class Matcher:
    """Regular expressions of a file that is not trusted, which may take no more than a moment."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.end = time.monotonic() + _SECONDS

    def fits(self, pattern: str, text: str) -> bool:
        """Whether a pattern matches the whole of a text.

        Raises:
            ArtifactError: It is no regular expression, or takes too long.
        """
        left = self.end - time.monotonic()
        try:
            if left > 0 and len(pattern) <= _MAX_PATTERN:
                return regex.fullmatch(pattern, text, timeout=left) is not None
        except regex.error as error:
            raise ArtifactError(f"{self.file}: pattern {pattern[:80]!r}: {error}") from error
        except TimeoutError:
            pass
        raise ArtifactError(
            f"{self.file}: pattern {pattern[:80]!r} takes too long to match; name the modules "
            "themselves"
        )


@dataclass(frozen=True)
class AdapterSettings:
    """The fields of `adapter_config.json` that decide about a merge."""

    file: Path
    rank: int | None = None
    """None: as large as the factors are."""
    alpha: float | None = None
    rank_pattern: Mapping[str, float] = field(default_factory=dict)
    alpha_pattern: Mapping[str, float] = field(default_factory=dict)
    rank_stabilized: bool = False
    scales_rows: bool = False
    """DoRA."""
    ties_weights: bool = False
    """Whether peft kept embedding and head one matrix while it trained them."""
    row_ids: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    """Which rows are trained, by module; key "" for embedding and tied head alike."""
    saved_modules: Sequence[str] = ()
    """Last names of the modules that were trained whole."""
    targets: str | Sequence[str] | None = None
    """Which modules have factors: a pattern, or ends of names; None: those that are in the file."""
    excluded: str | Sequence[str] = ()
    layers: Sequence[int] = ()
    """Of which layers; empty: of all."""
    layer_patterns: Sequence[str] = ()
    base_name: str | None = None

    def rows_of(self, module: str) -> tuple[int, ...] | None:
        """The ids of a module's trained rows; None where the configuration has none for it."""
        for key, ids in self.row_ids.items():
            if not key or f".{module}".endswith(f".{key}"):
                return ids
        return None

    def has_factors(self, module: str, matcher: Matcher) -> bool:
        """Whether peft, loading this configuration, gives a module factors.

        Source: `check_target_module_exists` of peft 0.21.

        Raises:
            ArtifactError: A pattern is none, or takes too long.
        """
        if self._excludes(module, matcher):
            return False
        if self.targets is None or self.targets == "all-linear":
            return True
        if isinstance(self.targets, str):
            return matcher.fits(self.targets, module)
        if module in self.targets:
            return True
        if not any(module.endswith(f".{name}") for name in self.targets):
            return False
        return not self.layers or self._layer_of(module, matcher) in self.layers

    def _excludes(self, module: str, matcher: Matcher) -> bool:
        if isinstance(self.excluded, str):
            return bool(self.excluded) and matcher.fits(self.excluded, module)
        return any(f".{module}".endswith(f".{name}") for name in self.excluded)

    def _layer_of(self, module: str, matcher: Matcher) -> int | None:
        parts = module.split(".")
        for place, part in enumerate(parts[:-1]):
            before = parts[:place]
            named = not self.layer_patterns or any(
                matcher.fits(rf"(?:.*\.)?(?:{pattern})", ".".join(before))
                for pattern in self.layer_patterns
            )
            if part.isdecimal() and len(part) < 7 and before and named:
                return int(part)
        return None

    def scaling(self, module: str, rank: int, matcher: Matcher) -> float:
        """Alpha / r, or alpha / sqrt(r) for rank-stabilised LoRA (arXiv 2312.03732).

        Args:
            module: Such as `model.layers.0.self_attn.q_proj`.
            rank: Of the factors in the file.
            matcher: For the patterns.

        Raises:
            ArtifactError: The configuration has another rank, or no alpha.
        """
        ranks = matching(self.rank_pattern, module, matcher)
        wanted = ranks[0] if ranks else self.rank
        if wanted is not None and wanted != rank:
            several = " (several patterns match it, and the first counts)" if ranks[1:] else ""
            raise ArtifactError(
                f"{self.file}: says rank {wanted} for {module}{several}, but its factors have "
                f"{rank}: the configuration is of another adapter"
            )
        alphas = matching(self.alpha_pattern, module, matcher)
        alpha = alphas[0] if alphas else self.alpha
        if alpha is None:
            raise ArtifactError(f"{self.file}: no lora_alpha for {module}", "give {alpha}")
        if rank == 0 or not isfinite(alpha):
            raise ArtifactError(
                f"{self.file}: rank {rank} and lora_alpha {alpha} for {module} give no scaling; "
                "copy the configuration of the training again"
            )
        return alpha / (rank**0.5 if self.rank_stabilized else rank)


def matching(pattern: Mapping[str, float], module: str, matcher: Matcher) -> list[float]:
    """The values whose keys match the end of a name (peft's `get_pattern_key` takes the first)."""
    return [
        value
        for key, value in pattern.items()
        if f".{module}".endswith(f".{key}") or matcher.fits(rf"(.*\.)?({key})", module)
    ]


def parse_settings(
    file: Path, tree: Mapping[str, Any]
) -> tuple[AdapterSettings, list[ArtifactError], list[str]]:
    """Read the tree of an `adapter_config.json`.

    Returns:
        The settings; what forbids a merge, the cause of all else first; and what is odd.
    """
    faults = list(_refused(file, tree))
    if not faults:
        fields = _Fields(file, tree)
        return fields.settings(), fields.faults, list(_oddities(tree))
    name = tree.get("base_model_name_or_path")
    known = AdapterSettings(file, base_name=name if isinstance(name, str) and name else None)
    return known, faults, list(_oddities(tree))


def _refused(file: Path, tree: Mapping[str, Any]) -> Iterator[ArtifactError]:
    kind = tree.get("peft_type")
    if kind not in _KINDS:
        yield ArtifactError(
            f"{file}: not the configuration of a LoRA adapter: peft_type is {str(kind)[:40]!r}; "
            "merge it with peft"
        )
        return
    for setting, harmless in _REFUSED.items():
        if tree.get(setting) not in harmless:
            yield ArtifactError(
                f"{file}: {setting} = {str(tree[setting])[:80]!r} cannot be merged here; merge it "
                "with peft"
            )
    start = tree.get("init_lora_weights")
    if isinstance(start, dict | list) or start not in _HARMLESS_STARTS:
        yield ArtifactError(
            f"{file}: init_lora_weights = {str(start)[:80]!r} changed the base as well; save the "
            "adapter with peft's path_initial_model_for_weight_conversion"
        )


def _oddities(tree: Mapping[str, Any]) -> Iterator[str]:
    for name, value in tree.items():
        known = name in KNOWN_FIELDS or (name in OLD_FIELDS and value == OLD_FIELDS[name])
        if not known and value:  # peft's new fields are harmless where they are off
            yield f"{ADAPTER_CONFIG}: field {name[:80]!r} is not known here; check what it means"
    if tree.get("fan_in_fan_out") is True:
        yield f"{ADAPTER_CONFIG}: fan_in_fan_out is ignored, as peft ignores it on these matrices"


class _Fields:
    """Takes fields out of a tree, one by one, and keeps what is wrong with them."""

    def __init__(self, file: Path, tree: Mapping[str, Any]) -> None:
        self.file, self.tree = file, tree
        self.faults: list[ArtifactError] = []

    def settings(self) -> AdapterSettings:
        name = self.tree.get("base_model_name_or_path")
        return AdapterSettings(
            self.file,
            rank=self.rank(),
            alpha=self.alpha(),
            rank_pattern=self.pattern("rank_pattern"),
            alpha_pattern=self.pattern("alpha_pattern"),
            rank_stabilized=self.flag("use_rslora"),
            scales_rows=self.flag("use_dora"),
            ties_weights=self.flag("ensure_weight_tying"),
            row_ids=self.row_ids(),
            saved_modules=self.names("modules_to_save"),
            targets=self.names_or_pattern("target_modules") or None,
            excluded=self.names_or_pattern("exclude_modules"),
            layers=self.layers(),
            layer_patterns=_listed(self.names_or_pattern("layers_pattern")),
            base_name=name if isinstance(name, str) and name else None,
        )

    def wrong(self, name: str, wanted: str) -> None:
        found = str(self.tree.get(name))[:80]
        self.faults.append(ArtifactError(f"{self.file}: {name} = {found!r} must be {wanted}"))

    def rank(self) -> int | None:
        value = self.tree.get("r")
        if value is None or type(value) is int:
            return value
        self.wrong("r", "a number")
        return None

    def alpha(self) -> float | None:
        value = self.tree.get("lora_alpha")
        if value is None or _is_number(value):
            return None if value is None else _as_float(value)
        self.wrong("lora_alpha", "a number")
        return None

    def flag(self, name: str) -> bool:
        value = self.tree.get(name)
        if not isinstance(value, bool | None):
            self.wrong(name, "true or false")
        return value is True

    def names(self, name: str) -> list[str]:
        value = self.tree.get(name)
        if value is None:
            return []
        if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
            self.wrong(name, "a list of names")
            return []
        return value

    def names_or_pattern(self, name: str) -> str | list[str]:
        value = self.tree.get(name)
        return value if isinstance(value, str) else self.names(name)

    def layers(self) -> list[int]:
        value = self.tree.get("layers_to_transform")
        listed = [value] if type(value) is int else [] if value is None else value
        if isinstance(listed, list) and all(type(one) is int for one in listed):
            return listed
        self.wrong("layers_to_transform", "a list of numbers")
        return []

    def pattern(self, name: str) -> dict[str, float]:
        value = self.tree.get(name)
        if value is None:
            return {}
        if not isinstance(value, dict) or not all(_is_number(one) for one in value.values()):
            self.wrong(name, "numbers by names")
            return {}
        return {
            key: one if type(one) is int and one < 1 << 32 else _as_float(one)
            for key, one in value.items()
        }

    def row_ids(self) -> dict[str, tuple[int, ...]]:
        """In peft's LoRA `trainable_token_indices`; alone, as TRAINABLE_TOKENS, another name."""
        name = "trainable_token_indices"
        if self.tree.get(name) is None:
            name = "token_indices"
        value = self.tree.get(name)
        by_module = value if isinstance(value, dict) else {} if value is None else {"": value}
        for ids in by_module.values():
            if not isinstance(ids, list) or not all(type(i) is int and i >= 0 for i in ids):
                self.wrong(name, "lists of piece ids")
                return {}
        return {module: tuple(ids) for module, ids in by_module.items()}


def _listed(value: str | list[str]) -> list[str]:
    return [value] if isinstance(value, str) and value else list(value)


def _is_number(value: object) -> bool:
    return type(value) in (int, float)


def _as_float(value: float) -> float:
    try:
        return float(value)
    except OverflowError:
        return inf
