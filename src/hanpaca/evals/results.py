"""The typed content of results.json: everything the report and the tables show."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import ConfigDict, TypeAdapter, ValidationError

from hanpaca.errors import ArtifactError
from hanpaca.evals.answers import HeldoutResult, VerdictCounts

Language = Literal["zh", "en"]
# A NaN would be written as null and read back as a fault: `write_results` says so at once.
_STRICT = ConfigDict(extra="forbid", allow_inf_nan=False)


@dataclass(frozen=True)
class BitsPerCharacter:
    """Bits per character of held-out texts with its 95 % bootstrap interval."""

    __pydantic_config__ = _STRICT
    value: float
    low: float
    high: float
    num_texts: int
    num_characters: int


@dataclass(frozen=True)
class Sample:
    """What a model answered to one of the fixed prompts."""

    __pydantic_config__ = _STRICT
    prompt: str
    answer: str


@dataclass(frozen=True)
class ModelResult:
    """All numbers of one model. None means that it was not measured for this model."""

    __pydantic_config__ = _STRICT
    name: str
    """Such as "base", "pretrained", "chat" or "chat q8_0"."""
    how: str
    """How it was measured: which program, number format, threads, number of texts."""
    file_bytes: int
    tokens_per_han_character: float
    zh: BitsPerCharacter | None = None
    en: BitsPerCharacter | None = None
    characters_per_second: float | None = None
    tokens_per_second: float | None = None
    samples: tuple[Sample, ...] = ()
    heldout: VerdictCounts | None = None
    file_type: str | None = None
    """Of the final model's files: the kind this one is of, such as "q4_k_m"."""


@dataclass(frozen=True)
class Curve:
    """Held-out bits per character while a model trained."""

    __pydantic_config__ = _STRICT
    name: str
    """The training it belongs to, such as "pretraining"."""
    language: Language
    x_name: Literal["seconds", "tokens"]
    points: tuple[tuple[float, float], ...]
    """`(seconds or tokens so far, bits per character)`, in order."""


@dataclass(frozen=True)
class Goal:
    """One thing the run set out to reach, as a number that is compared with a bound."""

    __pydantic_config__ = _STRICT
    name: str
    measured: float
    comparison: Literal["at most", "at least"]
    bound: float
    unit: str = ""

    @property
    def met(self) -> bool:
        """Whether the measured value keeps the bound; derived, so it cannot contradict it."""
        if self.comparison == "at most":
            return self.measured <= self.bound
        return self.measured >= self.bound


@dataclass(frozen=True)
class Provenance:
    """One fact a number can be traced by: a file's hash, a version, the machine."""

    __pydantic_config__ = _STRICT
    name: str
    value: str


@dataclass(frozen=True)
class RunResult:
    """What a whole run reached."""

    __pydantic_config__ = _STRICT
    title: str
    models: tuple[ModelResult, ...]
    curves: tuple[Curve, ...] = ()
    goals: tuple[Goal, ...] = ()
    heldout_examples: tuple[HeldoutResult, ...] = ()
    provenance: tuple[Provenance, ...] = ()
    notes: tuple[str, ...] = ()
    """What a reader should know beside the numbers of this run, a paragraph each."""
    schema_version: Literal[1] = 1


def write_results(result: RunResult, path: Path) -> None:
    """Write `result` to `path` as JSON, checked by reading it back.

    Raises:
        ArtifactError: A value cannot be written, such as a NaN.
    """
    content = TypeAdapter(RunResult).dump_json(result, indent=2)
    _parse(content, path)
    path.write_bytes(content + b"\n")


def read_results(path: Path) -> RunResult:
    """Read what `write_results` wrote.

    Raises:
        ArtifactError: The file is missing, not JSON, of another schema version, or has a field
            that is missing, unknown or of the wrong type.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ArtifactError(
            f"{path}: cannot be read ({error.strerror}): run `hanpaca eval`"
        ) from None
    return _parse(content, path)


def _parse(content: bytes, path: Path) -> RunResult:
    """JSON to RunResult; the first fault as one line."""
    try:
        return TypeAdapter(RunResult).validate_json(content)
    except ValidationError as error:
        fault = error.errors()[0]
        where = ".".join(map(str, fault["loc"])) or "the file"
        raise ArtifactError(
            f"{path}: {where}: {fault['msg']}: evaluate again with this version of hanpaca"
        ) from None
