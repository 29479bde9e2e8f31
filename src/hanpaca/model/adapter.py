"""What an adapter changes and how, in any dialect, told by its tensors and its configuration.

Dialects: peft of 2023 (whole `embed_tokens` and `lm_head` beside the factors), peft with an
adapter's name inside (`.default.`, `modules_to_save.default`, a copy as `original_module`), new
rows alone (`trainable_tokens_delta`), LoRA of an embedding, DoRA.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hanpaca.model.headers import TensorHeader

# fmt: off
KNOWN_FIELDS = frozenset({
    "alora_invocation_tokens", "alpha_pattern", "arrow_config", "auto_mapping",
    "base_model_name_or_path", "bias", "corda_config", "ensure_weight_tying", "eva_config",
    "exclude_modules", "fan_in_fan_out", "inference_mode", "init_lora_weights", "kasa_config",
    "layer_replication", "layers_pattern", "layers_to_transform", "loftq_config", "lora_alpha",
    "lora_bias", "lora_dropout", "lora_ga_config", "megatron_config", "megatron_core",
    "modules_to_save", "monteclora_config", "peft_type", "peft_version", "qalora_group_size", "r",
    "rank_pattern", "revision", "runtime_config", "target_modules", "target_parameters",
    "task_type", "trainable_token_indices", "use_bdlora", "use_dora", "use_qalora", "use_rslora",
    "velora_config",
})
# fmt: on
"""Fields of peft 0.21's LoraConfig."""
OLD_FIELDS = {"enable_lora": None, "merge_weights": False}
"""Fields of early 2023 that peft has dropped, and the value that means nothing."""
_MAX_ALPHA = 1e6
_PREFIXES = ("module.", "base_model.model.")
_FACTOR = re.compile(
    r"(?P<module>.+)\."
    r"(?P<role>lora_A|lora_B|lora_embedding_A|lora_embedding_B|lora_magnitude_vector)"
    r"(?:\.(?!weight$|bias$)[^.]+)?(?:\.weight)?"
)
_WHOLE = {
    "rows": re.compile(r"(?P<module>.+?)(?:\.token_adapter)?\.trainable_tokens_delta(?:\.[^.]+)?"),
    "saved": re.compile(r"(?P<module>.+)\.modules_to_save(?:\.(?!weight$)[^.]+)?\.weight"),
    "copy": re.compile(
        r"(?P<module>.+?)(?:\.token_adapter)?\.(?:original_module|base_layer)\.weight"
    ),
}
_PLAIN = re.compile(r"(?P<module>[\w.]+)\.weight")


def tensor_role(name: str) -> tuple[str, str] | None:
    """Of which module of the base a tensor is, and what it is there for; None if neither is known.

    The roles are `lora_A`, `lora_B`, `lora_embedding_A`, `lora_embedding_B`,
    `lora_magnitude_vector`, `rows` (new ones), `plain` and `saved` (the whole matrix, by two
    spellings) and `copy` (the base's own).

    >>> tensor_role("base_model.model.model.norm.modules_to_save.default.weight")
    ('model.norm', 'saved')
    """
    for prefix in _PREFIXES:
        name = name.removeprefix(prefix)
    if match := _FACTOR.fullmatch(name):
        return match["module"], match["role"]
    for role, pattern in _WHOLE.items():
        if match := pattern.fullmatch(name):
            return match["module"], role
    match = _PLAIN.fullmatch(name)
    return None if match is None or "lora" in name or "adapter" in name else (match[1], "plain")


@dataclass(frozen=True, slots=True)
class Update:
    """What a pair of factors adds to one matrix of the base."""

    rank: int
    shape: tuple[int, int]
    """Of B A."""


@dataclass(frozen=True)
class AdapterParts:
    """An adapter's tensors by what they do, each under the name of the base's tensor."""

    updates: Mapping[str, Update]
    replaced: Mapping[str, tuple[int, ...]]
    """Whole tensors that take the place of the base's."""
    rows: Mapping[str, tuple[int, ...]]
    """Rows that take the place of some of the base's."""
    magnitudes: frozenset[str]
    """Matrices that DoRA scales."""
    unknown: tuple[str, ...]
    """Tensors of no kind known here, and factors whose partner is missing or does not fit."""

    @property
    def rank(self) -> int | None:
        """The commonest rank, told by the shapes."""
        ranks = [update.rank for update in self.updates.values()]
        return max(set(ranks), key=ranks.count) if ranks else None

    @property
    def vocab_rows(self) -> int | None:
        """How many rows a replaced embedding or head has."""
        shapes = (shape for name, shape in self.replaced.items() if _of_vocabulary(name))
        return next((shape[0] for shape in shapes if len(shape) == 2), None)

    @property
    def hidden_size(self) -> int | None:
        """Of the model it belongs to: what q_proj reads, or the width of embedding rows."""
        for name, update in self.updates.items():
            if name.endswith(("q_proj.weight", "k_proj.weight", "v_proj.weight")):
                return update.shape[1]
        shapes = {**self.replaced, **self.rows}.items()
        return next((shape[1] for name, shape in shapes if len(shape) == 2), None)


def adapter_parts(tensors: Mapping[str, TensorHeader]) -> AdapterParts:
    """Sort an adapter's tensors by what they do to the base."""
    factors: dict[str, dict[str, TensorHeader]] = {}
    whole: dict[str, dict[str, tuple[int, ...]]] = {}
    rows: dict[str, tuple[int, ...]] = {}
    magnitudes, unknown = set(), []
    for full_name, header in tensors.items():
        module, role = tensor_role(full_name) or ("", "")
        name = f"{module}.weight"
        match role:
            case "":
                unknown.append(full_name)
            case "lora_magnitude_vector":
                magnitudes.add(name)
            case "rows":
                rows[name] = header.shape
            case "plain" | "saved" | "copy":
                whole.setdefault(name, {})[role] = header.shape
            case _:
                factors.setdefault(name, {})[role.removeprefix("lora_")] = header
    replaced = {
        name: next(shapes[role] for role in ("plain", "saved", "copy") if role in shapes)
        for name, shapes in whole.items()
    }
    updates = {name: _update(pair) for name, pair in factors.items()}
    unknown += [f"{name}: lora factors that do not fit" for name, one in updates.items() if not one]
    known = {name: one for name, one in updates.items() if one}
    return AdapterParts(known, replaced, rows, frozenset(magnitudes), tuple(unknown))


@dataclass(frozen=True)
class AdapterSettings:
    """`adapter_config.json`, as far as a merge needs it."""

    rank: int | None
    alpha: float | None
    rank_stabilized: bool
    transposed: bool
    """fan_in_fan_out: the base stores its matrices as (in, out)."""
    row_ids: Mapping[str, tuple[int, ...]]
    """Which rows `AdapterParts.rows` are, by module; key "" for embedding and tied head alike."""
    base_name: str | None
    notes: tuple[str, ...]
    """What in it is odd: one line each."""


def adapter_settings(tree: Mapping[str, Any]) -> AdapterSettings:
    """Read the tree of an `adapter_config.json`; what is odd is noted and not fatal."""
    notes = [
        f"adapter_config.json: field {name!r} is not known here; check what it means"
        for name, value in tree.items()
        if name not in KNOWN_FIELDS and not (name in OLD_FIELDS and value == OLD_FIELDS[name])
    ]
    if tree.get("peft_type") != "LORA":
        notes.append(f"adapter_config.json: peft_type is {tree.get('peft_type')!r}, not 'LORA'")
    if tree.get("bias", "none") != "none":
        notes.append(f"adapter_config.json: bias is {tree['bias']!r}; a merge refuses biases")
    rank, alpha = tree.get("r"), tree.get("lora_alpha")
    if type(rank) is not int or rank < 1:
        notes.append(f"adapter_config.json: r is {str(rank)[:40]}, not a number")
        rank = None
    if isinstance(alpha, bool) or not isinstance(alpha, int | float) or not 0 < alpha < _MAX_ALPHA:
        notes.append(f"adapter_config.json: lora_alpha is {str(alpha)[:40]}, not a number")
        alpha = None
    name = tree.get("base_model_name_or_path")
    return AdapterSettings(
        rank=rank,
        alpha=None if alpha is None else float(alpha),
        rank_stabilized=bool(tree.get("use_rslora")),
        transposed=bool(tree.get("fan_in_fan_out")),
        row_ids=_row_ids(tree.get("trainable_token_indices"), notes),
        base_name=name if isinstance(name, str) and name else None,
        notes=tuple(notes),
    )


def _row_ids(indices: object, notes: list[str]) -> dict[str, tuple[int, ...]]:
    if indices is None:
        return {}
    by_module: dict[str, Any] = indices if isinstance(indices, dict) else {"": indices}
    for module, ids in by_module.items():
        if not isinstance(ids, list) or not all(type(i) is int and i >= 0 for i in ids):
            notes.append(f"adapter_config.json: trainable_token_indices {module} is no list of ids")
            return {}
    return {module: tuple(ids) for module, ids in by_module.items()}


def _update(pair: Mapping[str, TensorHeader]) -> Update | None:
    swapped = "embedding_A" in pair
    sides = ("embedding_A", "embedding_B") if swapped else ("A", "B")
    match [pair[side].shape if side in pair else () for side in sides]:
        case [(rank, num_in), (num_out, other)] if rank == other:
            return Update(rank, (num_in, num_out) if swapped else (num_out, num_in))
    return None


def _of_vocabulary(name: str) -> bool:
    return name.removesuffix(".weight").endswith(("embed_tokens", "lm_head"))
