"""How many tokens a character takes, by the number of pieces added; on text held out for it."""

import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from hanpaca.errors import DataError, RecipeError
from hanpaca.progress import Progress, Tell, silent
from hanpaca.tokenizer.extension.grow import extensions_of_sizes
from hanpaca.tokenizer.extension.guess import named_or_guessed
from hanpaca.tokenizer.extension.scripts import target_script
from hanpaca.tokenizer.open import open_tokenizer
from hanpaca.tokenizer.vocabulary import Vocabulary

_HELD_OUT = 20  # one document in so many
_MAX_HELD_OUT_CHARACTERS = 1_000_000
_SMALLEST = 250
_WELL_TRAINED = 0.9  # share of the new pieces that must have been seen often enough
_OFTEN_ENOUGH = 100  # uses; below, a row is as rare as the tail of the published Chinese LLaMA's


@dataclass(frozen=True)
class CurvePoint:
    """What one number of pieces does."""

    num_pieces: int
    """Pieces added; 0 is the base."""
    text_tokens_per_character: float
    """Over the whole held-out texts."""
    target_tokens_per_character: float
    """Over their runs of target characters alone."""
    training_characters: int
    """Characters of such text in which nine of ten new pieces are met a hundred times: what
    training the new rows takes at least. 0 for the base."""


@dataclass(frozen=True)
class LengthCurve:
    """Points from the base up, and what they were measured on."""

    points: tuple[CurvePoint, ...]
    """The base first."""
    num_entries: int
    """Vocabulary entries of the base."""
    num_learned_characters: int
    """Of the text that the pieces were learned from."""
    num_held_out_characters: int
    """Of the text that the points were measured on."""


def measure_curve(
    base: Path,
    texts: Iterable[str],
    *,
    max_pieces: int,
    scripts: Sequence[str] = (),
    tell: Tell = silent,
) -> LengthCurve:
    """Learn pieces once, and measure vocabularies of 250, 500, 1,000 … `max_pieces` of them.

    One document in twenty, chosen by its content alone, is measured on and not learned from; of
    those the first million characters.

    Args:
        base: Folder of the base tokenizer.
        texts: Documents, read once.
        max_pieces: The largest extension; where the texts are not enough for it, what they give.
        scripts: Unicode script names of the target language; none to have them guessed.
        tell: Called before each size is measured.

    Raises:
        RecipeError: `max_pieces` or `scripts` make no sense.
        DataError: The texts have no target text, or too few documents to hold some out.
        ArtifactError: The base cannot be used.
    """
    if max_pieces < 1:
        raise RecipeError(f"num_pieces is {max_pieces}: ask for at least 1 new piece")
    old = open_tokenizer(base)
    names, texts = named_or_guessed(scripts, texts)
    script, split = target_script(names), _Split(texts)
    sizes = _sizes(max_pieces)
    extended = extensions_of_sizes(old, split.learned(), sizes=sizes, script=script)
    runs = [run for text in split.held_out for run in script.runs.findall(text)]
    if not runs:
        raise DataError(
            f"too few documents with {'/'.join(names)} text to hold one in {_HELD_OUT} out "
            f"({split.num_held_out} held out); give more (in .txt a blank line ends a document)"
        )

    def point(tokenizer: Vocabulary, final_uses: Sequence[int]) -> CurvePoint:
        note = f"measuring {len(final_uses):,} new pieces"
        tell(Progress(len(final_uses), sizes[-1], "pieces", note))
        return CurvePoint(
            len(final_uses),
            _tokens_per_character(tokenizer, split.held_out),
            _tokens_per_character(tokenizer, runs),
            training_characters(final_uses, split.num_learned),
        )

    points = [point(old, ())]
    points += [point(one.tokenizer, one.final_uses) for one in extended]
    return LengthCurve(
        tuple(points), len(old.ids), split.num_learned, sum(map(len, split.held_out))
    )


def training_characters(uses: Sequence[int], num_characters: int) -> int:
    """Return how much text it takes to meet nine of ten pieces a hundred times.

    Args:
        uses: How often each piece occurs in a text.
        num_characters: Of that text.

    >>> training_characters([50] * 9 + [1], 1000)
    2000
    """
    if not uses:
        return 0
    rare = sorted(uses, reverse=True)[max(0, round(_WELL_TRAINED * len(uses)) - 1)]
    return round(_OFTEN_ENOUGH * num_characters / max(rare, 1))


class _Split:
    """Texts to learn from, read once; one in twenty is kept back on the way."""

    def __init__(self, texts: Iterable[str]) -> None:
        self.texts = texts
        self.held_out: list[str] = []
        self.num_held_out = self.num_learned = 0

    def learned(self) -> Iterator[str]:
        room = _MAX_HELD_OUT_CHARACTERS
        for text in self.texts:
            if zlib.crc32(text.encode()) % _HELD_OUT:
                self.num_learned += len(text)
                yield text
                continue
            self.num_held_out += 1
            if room > 0:
                self.held_out.append(text[:room])
                room -= len(text)


def _sizes(max_pieces: int) -> list[int]:
    """Doubling sizes, and the largest.

    >>> _sizes(1200)
    [250, 500, 1000, 1200]
    """
    sizes = []
    size = _SMALLEST
    while size < max_pieces:
        sizes.append(size)
        size *= 2
    return [*sizes, max_pieces]


def _tokens_per_character(tokenizer: Vocabulary, texts: Sequence[str]) -> float:
    return sum(map(len, tokenizer.encode(texts))) / sum(map(len, texts))
