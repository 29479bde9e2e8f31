"""Runs beside each other: what may be compared, by how much they differ, and what to mind."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Literal

from hanpaca.evals.results import BITS, SPEED, ModelResult, RunResult
from hanpaca.evals.tasks.forgetting import BitsKept, bits_kept
from hanpaca.evals.tasks.languages import language_name

ABSENT = "–"


@dataclass(frozen=True)
class ComparedRun:
    """One run, as it is put beside others."""

    name: str
    results: RunResult
    settings: Mapping[str, str]
    """By the names recipes have for them; empty where only results are known."""
    sources: Mapping[str, str]
    """Files it was made from and files it made, to their hashes."""
    heldout: Mapping[str, str]
    """By language: the hash of the file that held-out text was taken from."""

    @property
    def final(self) -> ModelResult:
        """The model the run is made for."""
        return self.results.final

    @property
    def times_as_fast(self) -> float | None:
        """Characters per second of the final model against the run's own base."""
        language = self.results.languages[0] if self.results.languages else ""
        base, final = (one.get(language, SPEED) for one in (self.results.models[0], self.final))
        return final.value / base.value if base and final and base is not final else None

    @property
    def provenance(self) -> dict[str, str]:
        """All that its numbers can be traced by."""
        return {one.name: one.value for one in self.results.provenance} | dict(self.sources)


@dataclass(frozen=True)
class BitsPair:
    """The final models of two runs on the same texts."""

    language: str
    first: str
    other: str
    ratio: float
    """Bits of the other / bits of the first: above 1 is worse."""
    low: float
    high: float
    """Of its 95 % interval, texts drawn again with both their bits."""
    num_texts: int

    @property
    def judgement(self) -> Literal["better", "worse", "not shown either way"]:
        """What the interval says of the other run."""
        if self.high < 1:
            return "better"
        return "worse" if self.low > 1 else "not shown either way"


def pairs_of(runs: Sequence[ComparedRun], *, seed: int = 0) -> list[BitsPair]:
    """Every run against the first, on each language whose texts are the same in both."""
    first, *others = runs
    found = []
    for language in languages_of(runs):
        for other in others:
            if (kept := _kept(first, other, language, seed)) is not None:
                numbers = (kept.ratio, kept.low, kept.high, kept.num_texts)
                found.append(BitsPair(language, first.name, other.name, *numbers))
    return found


def languages_of(runs: Sequence[ComparedRun]) -> list[str]:
    """Tags of all languages that were measured."""
    return list(dict.fromkeys(chain.from_iterable(run.results.languages for run in runs)))


def differing(tables: Sequence[Mapping[str, str]]) -> list[tuple[str, ...]]:
    """Rows of what is not the same in all: its name, then its value in each."""
    return [row for row in beside(tables) if len(set(row[1:])) > 1]


def beside(tables: Sequence[Mapping[str, str]]) -> list[tuple[str, ...]]:
    """One row a name, with its value in each table.

    >>> beside([{"a": "1"}, {"a": "1", "b": "2"}])
    [('a', '1', '1'), ('b', '–', '2')]
    """
    names = dict.fromkeys(chain.from_iterable(tables))
    return [(name, *(table.get(name, ABSENT) for table in tables)) for name in names]


def cautions(runs: Sequence[ComparedRun]) -> list[str]:
    """What a reader should know before believing a difference, beside the runs' own notes."""
    return [
        *_other_texts(runs),
        *_other_bases(runs),
        *_other_versions(runs),
        "Intervals say what other held-out texts could change, not what another training run "
        "with the same settings would.",
        *_speeds(runs),
    ]


def own_notes(runs: Sequence[ComparedRun]) -> list[tuple[str, str]]:
    """What each run says of its own numbers, with the names of all that say it."""
    told: dict[str, list[str]] = {}
    for run in runs:
        for note in run.results.notes:
            told.setdefault(note, []).append(run.name)
    return [(", ".join(names), note) for note, names in told.items()]


def same_texts(first: ComparedRun, other: ComparedRun, language: str) -> bool:
    """Whether both were measured on the same held-out text, as far as can be told."""
    ours, theirs = (run.final.get(language, BITS) for run in (first, other))
    if ours is None or theirs is None:
        return False
    files = {run.heldout[language] for run in (first, other) if language in run.heldout}
    return len(files) < 2 and all(
        getattr(ours, what) == getattr(theirs, what) for what in ("num_texts", "num_characters")
    )


def _kept(first: ComparedRun, other: ComparedRun, language: str, seed: int) -> BitsKept | None:
    ours, theirs = (run.final.get(language, BITS) for run in (first, other))
    if ours is None or theirs is None or not same_texts(first, other, language):
        return None
    if len(ours.per_text) != len(theirs.per_text) or len(ours.per_text) < 2:
        return None
    return bits_kept(ours.per_text, theirs.per_text, seed=seed)


def _other_texts(runs: Sequence[ComparedRun]) -> Iterator[str]:
    for language in languages_of(runs):
        measured = [run for run in runs if run.final.get(language, BITS)]
        for other in measured[1:]:
            if not same_texts(measured[0], other, language):
                yield (
                    f"{other.name} was measured on other {language_name(language)} text than "
                    f"{measured[0].name}: their bits per character cannot be compared."
                )


def _other_bases(runs: Sequence[ComparedRun]) -> Iterator[str]:
    bases = {run.name: run.provenance.get("base") for run in runs}
    if len({base for base in bases.values() if base}) > 1:
        told = "; ".join(f"{name}: {base}" for name, base in bases.items())
        yield f"The runs start from different bases ({told})."


def _other_versions(runs: Sequence[ComparedRun]) -> Iterator[str]:
    """Of programs; hashes and files say so by themselves."""
    packages = ("hanpaca", "torch", "transformers", "xllamacpp")
    known = [run.provenance for run in runs if run.provenance]
    other = [name for name in packages if len({one.get(name, ABSENT) for one in known}) > 1]
    if other:
        yield f"They were made by different versions of {', '.join(other)}."


def _speeds(runs: Sequence[ComparedRun]) -> Iterator[str]:
    timed = [
        run
        for run in runs
        if any(run.final.get(language, SPEED) for language in run.results.languages)
    ]
    if len(timed) > 1:
        yield (
            "Speeds were measured when each run ended: what else the machine did then is in them. "
            "Compare a run's models with its own base."
        )
