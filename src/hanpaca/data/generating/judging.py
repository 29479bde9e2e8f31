"""Which rows are kept: what is wrong with one by itself, and what it repeats."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, get_args

from hanpaca.data.cleaning.characters import codes_of, count_scripts, normalised, script_numbers
from hanpaca.data.cleaning.leaks import Grams
from hanpaca.data.generating.alike import NOBODY, KeptTexts, units_of
from hanpaca.data.generating.settings import GenerateSettings
from hanpaca.data.generating.talks import MadeRow
from hanpaca.data.generating.words import GeneratingWords

DropReason = Literal[
    "no JSON",
    "cut off",
    "too short",
    "too long",
    "other language",
    "refusal",
    "placeholder",
    "answer is the question",
    "loop",
    "leak",
    "like another",
]
"""Why a row goes; the first that fits."""
DROP_REASONS: tuple[DropReason, ...] = get_args(DropReason)


@dataclass(frozen=True)
class Dropped:
    """Why a row goes."""

    reason: DropReason
    detail: str = ""
    """What was found."""


@dataclass
class RowJudge:
    """Judges rows in order, each against those that are kept so far."""

    settings: GenerateSettings
    words: GeneratingWords
    loops: Callable[[str], bool]
    """Whether a text says the same over and over."""
    grams: Grams | None = None
    """Of evaluation texts."""
    counts: Counter[DropReason] = field(default_factory=Counter)
    kept: list[str] = field(default_factory=list)
    """Instructions."""

    def __post_init__(self) -> None:
        self._like = KeptTexts(self.settings.most_alike)
        self._scripts = script_numbers(self.words.scripts)

    def judge(self, row: MadeRow) -> Dropped | None:
        """None if the row is kept."""
        found = self._fault(row) or self._leak(row) or self._repeated(row)
        if found:
            self.counts[found.reason] += 1
        return found

    def _fault(self, row: MadeRow) -> Dropped | None:
        if row.fault:
            return Dropped(row.fault)
        if found := self._length(row):
            return found
        instruction, answer = row.instruction, row.answer
        both = f"{instruction}\n{answer}"
        letters = count_scripts(codes_of(both))
        if letters[self._scripts].sum() < self.settings.min_script_share * letters.sum():
            return Dropped("other language")
        if refusal := self.words.refusing.search(answer):
            return Dropped("refusal", refusal[0])
        if unfilled := self.words.unfilled.search(both):
            return Dropped("placeholder", unfilled[0])
        if normalised(instruction) == normalised(answer):
            return Dropped("answer is the question")
        if self.loops(answer) or self.loops(instruction):
            return Dropped("loop")
        return None

    def _length(self, row: MadeRow) -> Dropped | None:
        has = self.settings
        for what, text, least, most in (
            (
                "an instruction",
                row.instruction,
                has.min_instruction_characters,
                has.max_instruction_characters,
            ),
            ("an answer", row.answer, has.min_answer_characters, has.max_answer_characters),
        ):
            told = f"{what} of {len(text):,} characters"
            if len(text) < least:
                return Dropped("too short", told)
            if len(text) > most:
                return Dropped("too long", told)
        return None

    def _leak(self, row: MadeRow) -> Dropped | None:
        for text in (row.instruction, row.answer):
            if self.grams and self.grams.are_in(codes_of(normalised(text))):
                return Dropped("leak", text)
        return None

    def _repeated(self, row: MadeRow) -> Dropped | None:
        units = units_of(row.instruction)
        nearest = self._like.nearest(units)
        if nearest != NOBODY:
            return Dropped("like another", self.kept[nearest])
        self._like.add(units)
        self.kept.append(row.instruction)
        return None
