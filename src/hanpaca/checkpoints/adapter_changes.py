"""What the tensors of an adapter change, sorted by module and by what they are there for."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import nan

from hanpaca.checkpoints.adapter_names import in_larger_model, tensor_role
from hanpaca.checkpoints.adapter_settings import (
    ADAPTER_CONFIG,
    AdapterSettings,
    Matcher,
    matching,
)
from hanpaca.checkpoints.tensors import Stored
from hanpaca.checkpoints.weights import Weights, check_readable
from hanpaca.errors import ArtifactError

TABLES = ("embed_tokens", "lm_head")


@dataclass(frozen=True)
class AdapterTensor:
    """A tensor of an adapter's file."""

    name: str
    """As it stands there."""
    stored: Stored

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the tensor."""
        return self.stored.shape


@dataclass(frozen=True)
class Update:
    """A low-rank update: `W + scaling * B A`; with DoRA its rows are then given the magnitudes."""

    a: AdapterTensor
    """(rank, in)"""
    b: AdapterTensor
    """(out, rank)"""
    scaling: float
    """NaN where a fault of the adapter says why there is none."""
    transposed: bool
    """Of an embedding: the base has (in, out)."""
    magnitude: AdapterTensor | None
    """(out,): DoRA (arXiv 2402.09353)."""

    @property
    def rank(self) -> int:
        """Of the factors."""
        return self.a.shape[0]

    @property
    def shape(self) -> tuple[int, int]:
        """Of the matrix this fits."""
        shape = self.b.shape[0], self.a.shape[1]
        return shape[::-1] if self.transposed else shape


@dataclass(frozen=True)
class Change:
    """What an adapter does to one tensor of its base, in this order."""

    replacement: AdapterTensor | None = None
    update: Update | None = None
    row_ids: tuple[int, ...] = ()
    rows: AdapterTensor | None = None
    """(row_ids, columns): what peft calls `trainable_tokens_delta` are the rows themselves."""


class Reading:
    """An adapter's tensors, sorted by module and by what they are there for."""

    def __init__(self, weights: Weights, settings: AdapterSettings) -> None:
        self.file, self.tensors, self.settings = weights.files[0], weights.tensors, settings
        self.weights, self.lost = weights, weights.missing
        self.matcher = Matcher(settings.file)
        self.modules: dict[str, dict[str, AdapterTensor]] = {}
        self.changes: dict[str, Change] = {}
        self.faults: list[ArtifactError] = []
        self.notes: list[str] = []

    @property
    def has_factors(self) -> bool:
        """Whether there is an update whose scaling must be known."""
        return any(one.update for one in self.changes.values())

    def wrong(self, told: str) -> None:
        """Keep a fault of the file."""
        self.faults.append(ArtifactError(f"{self.file}: {told}"))

    def read(self) -> None:
        """Turn the tensors into changes."""
        if self.lost:
            self.wrong(f"not whole: {', '.join(self.lost[:3])} missing; download it again")
        if not self.tensors:
            self.wrong("the adapter is empty: the training did not save it; save it again")
        self._sort()
        self._check_saved()
        try:
            self._drop_untargeted()
            for module, parts in self.modules.items():
                self.changes[f"{module}.weight"] = self._change(module, parts)
            self._note_patterns()
            check_readable(self.weights)
        except ArtifactError as error:  # of a pattern: none of them can be trusted
            self.faults.append(error)

    def _sort(self) -> None:
        unknown = []
        for name, stored in self.tensors.items():
            found = tensor_role(name)
            if found is None:
                unknown.append(name)
                continue
            module, role = found
            parts = self.modules.setdefault(module, {})
            if role in parts:
                self.wrong(f"{name} is there twice, under two spellings")
            parts[role] = AdapterTensor(name, stored)
        if unknown:
            self.wrong(
                f"tensor {unknown[0]} is of a kind that cannot be merged ({len(unknown)} such "
                "tensors); merge it with peft, or save the adapter again"
            )
        if inside := [name for name in self.tensors if in_larger_model(name)]:
            self.notes.append(f"{inside[0]}: taken as of the language model by itself")

    def _check_saved(self) -> None:
        saved = {
            module for module, parts in self.modules.items() if {"saved", "plain"} & set(parts)
        }
        for name in self.settings.saved_modules:
            tied = TABLES if self.settings.ties_weights and name in TABLES else ()
            if not any(
                f".{module}".endswith(f".{one}") for module in saved for one in (name, *tied)
            ):
                self.wrong(
                    f"modules_to_save names {name}, but its matrix is not there: the training did "
                    "not save the whole adapter"
                )

    def _drop_untargeted(self) -> None:
        """Leave out the factors that peft, loading this configuration, has no place for."""
        dropped = []
        for module, parts in list(self.modules.items()):
            factors = [role for role in parts if role.startswith("lora_")]
            if len(factors) < 2 or self._is_targeted(module):  # half a pair is damage
                continue
            dropped.append(module)
            for role in factors:
                del parts[role]
            parts.pop("copy", None)
            if not parts:
                del self.modules[module]
        if dropped:
            self.notes.append(
                f"{len(dropped)} updates are left out, as peft leaves them out: the configuration "
                f"(target_modules, exclude_modules, layers_to_transform) is not of {dropped[0]}"
            )

    def _is_targeted(self, module: str) -> bool:
        tied = self.settings.ties_weights and module.endswith(TABLES)
        names = [one for one in self.modules if one.endswith(TABLES)] if tied else [module]
        return any(self.settings.has_factors(name, self.matcher) for name in names)

    def _change(self, module: str, parts: Mapping[str, AdapterTensor]) -> Change:
        """Take the matrix peft would load, where it is there under several names.

        Peft of today writes a grown embedding as `plain`, again as `saved`, and the base's own as
        `copy`.
        """
        whole = [parts[role] for role in ("plain", "saved", "copy") if role in parts]
        if "saved" in parts and whole[0].shape != parts["saved"].shape:
            self.wrong(f"{module} is there twice, with different shapes")
        rows = parts.get("rows")
        return Change(
            replacement=whole[0] if whole else None,
            update=self._update(module, parts),
            row_ids=self._row_ids(module, rows) if rows else (),
            rows=rows,
        )

    def _update(self, module: str, parts: Mapping[str, AdapterTensor]) -> Update | None:
        embedding = any(role.startswith("lora_embedding") for role in parts)
        roles = ("lora_embedding_A", "lora_embedding_B") if embedding else ("lora_A", "lora_B")
        a, b = (parts.get(role) for role in roles)
        magnitude = parts.get("lora_magnitude_vector")
        if a is b is magnitude is None:
            return None
        if a is None or b is None:
            self.wrong(f"only one of {' and '.join(roles)} is there for {module}")
            return None
        if len(a.shape) != 2 or len(b.shape) != 2 or a.shape[0] != b.shape[1]:
            self.wrong(
                f"{roles[0]} {a.shape} and {roles[1]} {b.shape} of {module} do not fit each other"
            )
            return None
        if told := self._wrong_magnitude(magnitude, b, embedding=embedding):
            self.wrong(f"{module} {told}")
        return Update(a, b, self._scaling(module, a.shape[0]), embedding, magnitude)

    def _scaling(self, module: str, rank: int) -> float:
        if self.settings.alpha is None and not self.settings.file.is_file():
            return nan
        try:
            return self.settings.scaling(module, rank, self.matcher)
        except ArtifactError as error:
            if not self.faults:  # one wrong number is wrong for every module
                self.faults.append(error)
            return nan

    def _wrong_magnitude(
        self, magnitude: AdapterTensor | None, b: AdapterTensor, *, embedding: bool
    ) -> str:
        if (magnitude is not None) != self.settings.scales_rows:
            told = "has magnitudes" if magnitude is not None else "has no magnitudes"
            return f"{told}, but the configuration says use_dora = {self.settings.scales_rows}"
        if magnitude is None:
            return ""
        if embedding:
            return "is scaled by use_dora: on an embedding it cannot be merged; merge it with peft"
        rows = b.shape[0]
        wrong = magnitude.shape not in ((rows,), (rows, 1))
        return f"has magnitudes {magnitude.shape} for {rows} rows" if wrong else ""

    def _row_ids(self, module: str, rows: AdapterTensor) -> tuple[int, ...]:
        ids = self.settings.rows_of(module) or ()
        if len(rows.shape) != 2 or not 0 < len(ids) == len(set(ids)) == rows.shape[0]:
            self.wrong(
                f"new rows {list(rows.shape)} for {module}, but trainable_token_indices lists "
                f"{len(set(ids))}; copy its own adapter_config.json"
            )
        return ids

    def _note_patterns(self) -> None:
        """Say where the order of the patterns decides: peft saves them in another one."""
        for name, pattern in (
            ("alpha_pattern", self.settings.alpha_pattern),
            ("rank_pattern", self.settings.rank_pattern),
        ):
            for tensor in self._with_factors() if len(set(pattern.values())) > 1 else ():
                values = matching(pattern, tensor.removesuffix(".weight"), self.matcher)
                if len(set(values)) > 1:
                    self.notes.append(
                        f"{ADAPTER_CONFIG}: several keys of {name} match {tensor}; the first "
                        f"counts, {values[0]:g}, as when peft loads it. Peft sorts them on saving, "
                        "so the training may have used another"
                    )
                    break

    def _with_factors(self) -> Iterable[str]:
        return [name for name, one in self.changes.items() if one.update]
