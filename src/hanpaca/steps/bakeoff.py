"""Which start of the new rows is best for this base, tokenizer and text: tried, not believed.

Every candidate is scored before any training and after a short one on the same blocks, in bits per
character of held-out text of both languages.
"""

import shutil
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from hanpaca.data.sources import GivenTexts
from hanpaca.errors import DataError
from hanpaca.evals.bits import TextScore
from hanpaca.files import read_json
from hanpaca.merging import merge_adapters
from hanpaca.model.new_rows import Spelling
from hanpaca.progress import Progress, Tell, silent
from hanpaca.settings import PretrainSettings, RowsSettings
from hanpaca.steps.grow import extension_of, grow_in
from hanpaca.steps.pretrain import PretrainTexts, pretrain_in
from hanpaca.steps.text_scores import score_folder
from hanpaca.tokenizer.conversion.fast import with_fast_tokenizer

MOST_FORGETTING = 1.02
"""A candidate may cost the old language 2 % in bits per character, as the demo may."""
_MEASURED_DOCUMENTS = 50


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


def candidates(*, untied: bool, num_fit_steps: int) -> dict[str, RowsSettings]:
    """The starts that are tried; head rows of their own only where the head is untied."""
    found = {
        "mean": RowsSettings(input="mean", output="mean", untie=untied),
        "mean, rescaled": RowsSettings(input="mean", output="mean", rescale=True, untie=untied),
        "mean of all": RowsSettings(input="mean_of_all", output="mean_of_all", untie=untied),
        "normal": RowsSettings(input="normal", output="normal", untie=untied),
    }
    if untied:
        found["first piece"] = RowsSettings(untie=True)
        found["first piece, output fitted"] = RowsSettings(untie=True, fit_output_passes=1)
    if num_fit_steps:
        found["input fitted"] = RowsSettings(
            untie=untied, fit_input_steps=num_fit_steps, fit_output_passes=int(untied)
        )
    return found


def bake_off(
    base: Path | str,
    tokenizer: Path | str,
    texts: Iterable[str],
    *,
    protected: Iterable[str] = (),
    num_tokens: int = 20_000,
    fit_steps: int = 0,
    untie: bool = False,
    tell: Tell = silent,
) -> list[Score]:
    """Score every start of the new rows on a base and text; the best first.

    Best is the fewest bits per character of the new language at the end, among those that cost the
    old language no more than `MOST_FORGETTING`; if none is, among all.

    Args:
        base: Folder of the base model.
        tokenizer: Folder of its extended tokenizer.
        texts: Documents of the new language; one in ten, at most 50, is held out to measure on.
        protected: Documents of the old language; the first 50 are measured on.
        num_tokens: Of the short training; 0 scores the starts alone.
        fit_steps: Also try input rows fitted for so many steps.
        untie: Give a tied head rows of its own.
        tell: Called with each score as it comes.

    Raises:
        DataError: There are fewer than two documents.
        ArtifactError: The base cannot be read, or the tokenizer does not extend the base's.

    Examples:
        >>> scores = bake_off(base, extended, texts, num_tokens=0)
        >>> sorted(score.name for score in scores)
        ['mean', 'mean of all', 'mean, rescaled', 'normal']
    """
    base = with_fast_tokenizer(Path(base), lambda note: tell(Progress(0, note=note)))
    tokenizer = Path(tokenizer)
    spellings = extension_of(base, tokenizer)
    untied = untie or not read_json(base / "config.json").get("tie_word_embeddings", False)
    with tempfile.TemporaryDirectory(prefix="hanpaca-bakeoff-") as scratch:
        return score_starts(
            base,
            tokenizer,
            spellings,
            _held_out(list(texts), protected),
            starts=candidates(untied=untied, num_fit_steps=fit_steps),
            training=_short_training(num_tokens),
            scratch=Path(scratch),
            tell=tell,
        )


def score_starts(
    base: Path,
    extended: Path,
    spellings: Sequence[Spelling],
    texts: BakeoffTexts,
    *,
    starts: Mapping[str, RowsSettings],
    training: PretrainSettings | None,
    scratch: Path,
    tell: Tell,
) -> list[Score]:
    """Grow, measure, train and measure again with each of some starts; the best first.

    Args:
        base: The base model's folder.
        extended: The folder of its extended tokenizer.
        spellings: Base tokens of each new piece.
        texts: What is learned and measured.
        starts: Name and settings of each candidate.
        training: The short training; None scores the start alone.
        scratch: A folder for models on the way; each is removed when it is scored.
        tell: Called with each score as it comes.
    """
    limit = _bits(base, texts.protected)
    scores: list[Score] = []
    for name, rows in starts.items():
        folder = scratch / "candidate"
        shutil.rmtree(folder, ignore_errors=True)
        grown = folder / "grown"
        grown.mkdir(parents=True)
        grow_in(grown, base, extended, spellings, texts.learned, settings=rows, seed=0)
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
        tell(Progress(len(scores), len(starts), "starts", f"{name}: {score.start:.3f}"))
    return sorted(scores, key=lambda score: _rank(score, limit))


def _held_out(texts: Sequence[str], protected: Iterable[str]) -> BakeoffTexts:
    if len(texts) < 2:
        raise DataError(f"at least two documents are needed, one to measure on; got {len(texts)}")
    number = max(1, min(len(texts) // 10, _MEASURED_DOCUMENTS))
    old = list(islice(protected, _MEASURED_DOCUMENTS))
    return BakeoffTexts(texts[number:], texts[:number], old)


def _short_training(num_tokens: int) -> PretrainSettings | None:
    if num_tokens == 0:
        return None
    return PretrainSettings(
        num_tokens=num_tokens, learning_rate=1e-3, replay_fraction=0.0, sample_steps=1_000_000
    )


def _rank(score: Score, base_protected: float | None) -> tuple[bool, float]:
    forgets = (
        score.protected is not None
        and base_protected is not None
        and score.protected > MOST_FORGETTING * base_protected
    )
    return forgets, score.start if score.trained is None else score.trained


def _trained(
    grown: Path, texts: BakeoffTexts, training: PretrainSettings, num_new_rows: int
) -> Path:
    adapter, merged = grown.with_name("adapter"), grown.with_name("merged")
    pretrain_in(
        adapter,
        grown,
        PretrainTexts(GivenTexts(texts.learned), GivenTexts(()), texts.heldout[:1]),
        settings=training,
        new_rows=num_new_rows,
        seed=0,
    )
    merge_adapters(grown, [adapter], merged)
    return merged


def _bits(folder: Path, texts: Sequence[str]) -> float | None:
    if not texts:
        return None
    score: TextScore = score_folder(folder, texts, scripts=())
    return score.bits_per_character
