"""The typed content of results.json: everything the report and the tables show.

Numbers are keyed by language tag and measure, so that a run of any language is written the same
way. The first language of a result is the one that was learned, the second the one to be kept.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import ConfigDict, TypeAdapter, ValidationError

from hanpaca.errors import ArtifactError
from hanpaca.evals.answers import HeldoutResult, VerdictCounts
from hanpaca.evals.tasks.first_schema import second_schema
from hanpaca.files import parse_json, read_bytes

# A NaN would be written as null and read back as a fault: `write_results` says so at once.
_STRICT = ConfigDict(extra="forbid", allow_inf_nan=False)


@dataclass(frozen=True)
class Measure:
    """What a number says, in which unit, and which way is better."""

    __pydantic_config__ = _STRICT
    name: str
    unit: str
    better: Literal["lower", "higher"]


BITS = Measure("bits per character", "bits/char", "lower")
TOKENS = Measure("tokens per character", "tokens/char", "lower")
SPEED = Measure("characters per second", "chars/s", "higher")
TOKEN_SPEED = Measure("tokens per second", "tokens/s", "higher")
MEASURES = (TOKENS, BITS, SPEED, TOKEN_SPEED)


@dataclass(frozen=True)
class Measured:
    """One number; `low` and `high` are its 95 % bootstrap interval where texts were drawn again."""

    __pydantic_config__ = _STRICT
    value: float
    low: float | None = None
    high: float | None = None
    num_texts: int | None = None
    num_characters: int | None = None
    per_text: tuple[float, ...] = ()
    """Bits of each text, so that models can be compared text by text."""


@dataclass(frozen=True)
class Sample:
    """What a model answered to one of the fixed prompts."""

    __pydantic_config__ = _STRICT
    prompt: str
    answer: str


@dataclass(frozen=True)
class ModelResult:
    """All numbers of one model."""

    __pydantic_config__ = _STRICT
    name: str
    """Such as "base", "pretrained", "chat" or "chat q8_0"."""
    how: str
    """How it was measured: which program, number format, threads, number of texts."""
    file_bytes: int
    measured: Mapping[str, Mapping[str, Measured]]
    """By language tag, then by the name of the measure."""
    samples: tuple[Sample, ...] = ()
    heldout: VerdictCounts | None = None
    file_type: str | None = None
    """Of the final model's files: the kind this one is of, such as "q4_k_m"."""
    memory_bytes: int | None = None
    """By how much the process grew at most: of a file while llama.cpp wrote, else while torch
    computed bits; None where the system does not tell."""

    def get(self, language: str, measure: Measure) -> Measured | None:
        """The number; None if it was not measured for this model."""
        return self.measured.get(language, {}).get(measure.name)


@dataclass(frozen=True)
class Curve:
    """Held-out bits per character while a model trained."""

    __pydantic_config__ = _STRICT
    name: str
    """The training it belongs to, such as "pretraining"."""
    language: str
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
    change: Literal["fall", "rise"] | None = None
    """Where the number is a change of what `name` says: its direction. A negative one went the
    other way."""

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


Level = Literal["all", "group", "subject"]


@dataclass(frozen=True)
class TaskScore:
    """One number of a task: of all its items, of a group of subjects, or of a subject."""

    __pydantic_config__ = _STRICT
    part: str
    """The group's or subject's name."""
    level: Level
    value: float
    low: float
    high: float
    """The 95 % interval."""
    num_items: int
    macro: float | None = None
    """The mean over subjects, beside the mean over items."""


@dataclass(frozen=True)
class ModelTask:
    """What one model reached in a task."""

    __pydantic_config__ = _STRICT
    name: str
    how: str
    scores: tuple[TaskScore, ...]
    """The first is of all."""
    picks: Mapping[str, int]
    """How often it chose what."""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class TaskResult:
    """A task that several models were given."""

    __pydantic_config__ = _STRICT
    name: str
    version: str
    """Hash of its content."""
    how: str
    """By which rule, and how it was put."""
    unit: str
    """Of its numbers."""
    baselines: Mapping[str, float]
    """What would be reached without knowing anything."""
    models: tuple[ModelTask, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class RunResult:
    """What a whole run reached."""

    __pydantic_config__ = _STRICT
    title: str
    languages: tuple[str, ...]
    """Language tags: of the one learned, then of the one to be kept."""
    models: tuple[ModelResult, ...]
    measures: tuple[Measure, ...] = MEASURES
    """What the numbers of the models say."""
    curves: tuple[Curve, ...] = ()
    goals: tuple[Goal, ...] = ()
    heldout_examples: tuple[HeldoutResult, ...] = ()
    provenance: tuple[Provenance, ...] = ()
    notes: tuple[str, ...] = ()
    """What a reader should know beside the numbers of this run, a paragraph each."""
    tasks: tuple[TaskResult, ...] = ()
    """Multiple choice and the like, where it was asked for."""
    schema_version: Literal[2] = 2

    @property
    def final(self) -> ModelResult:
        """The model a run is made for: that of its files for llama.cpp, else the last measured."""
        return next((one for one in self.models if one.file_type), self.models[-1])


def write_results(result: RunResult, path: Path) -> None:
    """Write `result` to `path` as JSON, checked by reading it back.

    Raises:
        ArtifactError: A value cannot be written, such as a NaN.
    """
    content = results_json(result)
    _parse(content.encode(), path)
    path.write_text(content + "\n", encoding="utf-8")


def results_json(result: RunResult) -> str:
    """The file's text."""
    return TypeAdapter(RunResult).dump_json(result, indent=2).decode()


def read_results(path: Path) -> RunResult:
    """Read what `write_results` wrote, by this version or with the first schema.

    Raises:
        ArtifactError: The file is missing, not JSON, of another schema version, or has a field
            that is missing, unknown or of the wrong type.
    """
    return _parse(read_bytes(path), path)


def _parse(content: bytes, path: Path) -> RunResult:
    """JSON to RunResult; the first fault as one line."""
    tree: Any = parse_json(content, str(path))
    try:
        if isinstance(tree, dict) and tree.get("schema_version") == 1:
            tree = second_schema(tree)
        return TypeAdapter(RunResult).validate_python(tree, strict=False)
    except ValidationError as error:
        fault = error.errors()[0]
        where = ".".join(map(str, fault["loc"])) or "the file"
        message = f"{path}: {where}: {fault['msg']}: evaluate again with this version of hanpaca"
    except (KeyError, TypeError, AttributeError) as error:
        message = f"{path}: {error}: not results of the first schema: evaluate again"
    raise ArtifactError(message)
