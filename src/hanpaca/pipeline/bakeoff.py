"""Which start of the new rows is best for this base, tokenizer and text: tried, not believed.

Every candidate is scored before any training and after a short one on the same blocks, in bits per
character of held-out text of both languages.
"""

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from hanpaca.evals.bits import TextScore
from hanpaca.model.merge import merge_adapters
from hanpaca.model.rows import Spelling
from hanpaca.pipeline.base import grow_base
from hanpaca.pipeline.evaluate import score_folder
from hanpaca.pipeline.pretrain import PretrainTexts, pretrain_on
from hanpaca.recipe import PretrainSection, RowsSection

MOST_FORGETTING = 1.02
"""A candidate may cost the old language 2 % in bits per character, as the demo may."""


@dataclass(frozen=True)
class BakeoffTexts:
    """What candidates learn from and what they are measured on."""

    learned: Sequence[str]
    heldout: Sequence[str]
    """Of the new language."""
    protected: Sequence[str]
    """Of the old language; may be empty."""


@dataclass(frozen=True)
class Score:
    """Bits per character of one candidate."""

    name: str
    start: float
    """Of the new language, before training."""
    trained: float | None
    """After the short training; None where there was none."""
    protected: float | None
    """Of the old language, at the end."""


def candidates(*, untied: bool, num_fit_steps: int) -> dict[str, RowsSection]:
    """The starts that are tried; head rows of their own only where the head is untied."""
    found = {
        "mean": RowsSection(input="mean", output="mean", untie=untied),
        "mean, rescaled": RowsSection(input="mean", output="mean", rescale=True, untie=untied),
        "mean of all": RowsSection(input="mean_of_all", output="mean_of_all", untie=untied),
        "normal": RowsSection(input="normal", output="normal", untie=untied),
    }
    if untied:
        found["first piece"] = RowsSection(untie=True)
        found["first piece, output fitted"] = RowsSection(untie=True, fit_output_passes=1)
    if num_fit_steps:
        found["input fitted"] = RowsSection(
            untie=untied, fit_input_steps=num_fit_steps, fit_output_passes=int(untied)
        )
    return found


def bake_off(
    base: Path,
    extended: Path,
    spellings: Sequence[Spelling],
    texts: BakeoffTexts,
    *,
    settings: Mapping[str, RowsSection],
    training: PretrainSection | None,
    scratch: Path,
    on_score: Callable[[Score], None],
) -> list[Score]:
    """Score every candidate; the best first.

    Best is the fewest bits per character of the new language at the end, among those that cost the
    old language no more than `MOST_FORGETTING`; if none is, among all.

    Args:
        base: The base model's folder.
        extended: The folder of its extended tokenizer.
        spellings: Base tokens of each new piece.
        texts: What is learned and measured.
        settings: Name and start of each candidate.
        training: The short training; None scores the start alone.
        scratch: A folder for models on the way; each is removed when it is scored.
        on_score: Called with each score as it comes.
    """
    limit = _bits(base, texts.protected)
    scores = []
    for name, rows in settings.items():
        folder = scratch / "candidate"
        shutil.rmtree(folder, ignore_errors=True)
        grown = folder / "grown"
        grown.mkdir(parents=True)
        grow_base(base, extended, spellings, texts.learned, settings=rows, seed=0, folder=grown)
        start = _bits(grown, texts.heldout)
        final = _trained(grown, texts, training, len(spellings)) if training else grown
        score = Score(
            name,
            start if start is not None else float("nan"),
            _bits(final, texts.heldout) if training else None,
            _bits(final, texts.protected),
        )
        shutil.rmtree(folder)
        scores.append(score)
        on_score(score)
    return sorted(scores, key=lambda score: _rank(score, limit))


def _rank(score: Score, base_protected: float | None) -> tuple[bool, float]:
    forgets = (
        score.protected is not None
        and base_protected is not None
        and score.protected > MOST_FORGETTING * base_protected
    )
    return forgets, score.start if score.trained is None else score.trained


def _trained(
    grown: Path, texts: BakeoffTexts, training: PretrainSection, num_new_rows: int
) -> Path:
    adapter, merged = grown.with_name("adapter"), grown.with_name("merged")
    pretrain_on(
        grown,
        PretrainTexts(texts.learned, (), texts.heldout[:1]),
        folder=adapter,
        settings=training,
        seed=0,
        num_new_rows=num_new_rows,
        on_progress=lambda progress, sample: None,
    )
    merge_adapters(grown, [adapter], merged)
    return merged


def _bits(folder: Path, texts: Sequence[str]) -> float | None:
    if not texts:
        return None
    score: TextScore = score_folder(folder, texts, scripts=())
    return score.bits_per_character
