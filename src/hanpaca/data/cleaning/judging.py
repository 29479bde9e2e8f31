"""What one row is like, and which rule it breaks by itself."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

from hanpaca.data.cleaning.characters import (
    SCRIPTS,
    Codes,
    codes_of,
    count_scripts,
    normalised,
    script_numbers,
)
from hanpaca.data.cleaning.leaks import Grams
from hanpaca.data.cleaning.minhash import NUM_VALUES, signatures_of
from hanpaca.data.cleaning.rows import Row
from hanpaca.data.cleaning.settings import CleanSettings

Verdict = Literal[
    "kept",
    "unreadable",
    "no text",
    "empty answer",
    "too short",
    "too long",
    "other script",
    "leak",
    "exact duplicate",
    "near duplicate",
]
"""What becomes of a row; the first that fits."""
VERDICTS: tuple[Verdict, ...] = get_args(Verdict)
KEPT = VERDICTS.index("kept")
CountTokens = Callable[[Sequence[str]], Sequence[int]]
"""Gives lengths of texts in tokens."""
NO_LETTERS = len(SCRIPTS) + 1
"""In place of the number of a script: a row has no letters."""
_NAMED_FAULTS = 1_000
_DIGEST_BYTES = 8


class Column:
    """Numbers of one type that grow where they lie."""

    def __init__(self, kind: type[np.generic]) -> None:
        self.kind = kind
        self.data = bytearray()

    def add(self, values: npt.ArrayLike) -> None:
        """Append numbers, row by row if they are a table."""
        self.data += np.ascontiguousarray(values, self.kind).tobytes()

    def array(self) -> npt.NDArray[np.generic]:
        """All of them, flat; not copied."""
        return np.frombuffer(self.data, self.kind)


@dataclass
class JudgedRows:
    """What is known of the rows so far, one entry a row unless said otherwise."""

    settings: CleanSettings
    grams: Grams | None
    count_tokens: CountTokens | None
    numbers: Column = field(default_factory=lambda: Column(np.uint32))
    """Line or row in its file."""
    verdicts: Column = field(default_factory=lambda: Column(np.uint8))
    """Places in `VERDICTS`."""
    characters: Column = field(default_factory=lambda: Column(np.uint32))
    tokens: Column = field(default_factory=lambda: Column(np.uint32))
    digests: Column = field(default_factory=lambda: Column(np.uint64))
    """Of the rows that are kept so far, what they say."""
    signatures: Column = field(default_factory=lambda: Column(np.uint8))
    """Likewise, `(rows, NUM_VALUES)`; none if near duplicates may stay."""
    script_letters: npt.NDArray[np.int64] = field(
        default_factory=lambda: np.zeros(len(SCRIPTS) + 1, np.int64)
    )
    """Letters of each of `SCRIPTS`, and of others."""
    main_scripts: npt.NDArray[np.int64] = field(
        default_factory=lambda: np.zeros(NO_LETTERS + 1, np.int64)
    )
    """Rows by the script that most of their letters are in; then of others; then without any."""
    faults: list[tuple[int, str]] = field(default_factory=list)
    """The first rows that cannot be read, by their number among all, and why."""
    num_rows: int = 0

    def __post_init__(self) -> None:
        self.wanted = script_numbers(self.settings.scripts)

    def add(self, rows: Sequence[Row]) -> None:
        """Judge some rows."""
        verdicts, kept = [], []
        for row in rows:
            codes = codes_of(row.text)
            verdict = self._verdict(row, codes)
            if verdict == "kept":
                text = normalised(row.text)
                compared = codes_of(text)
                if self.grams and self.grams.are_in(compared):
                    verdict = "leak"
                else:
                    kept.append((text, compared))
            verdicts.append(VERDICTS.index(verdict))
            if row.fault and len(self.faults) < _NAMED_FAULTS:
                self.faults.append((self.num_rows + len(verdicts) - 1, row.detail))
        self.num_rows += len(rows)
        self._keep(rows, verdicts, kept)

    def _verdict(self, row: Row, codes: Codes) -> Verdict:
        if row.fault:
            return row.fault
        letters = count_scripts(codes)
        num_letters = int(letters.sum())
        self.script_letters += letters
        self.main_scripts[int(letters.argmax()) if num_letters else NO_LETTERS] += 1
        if len(codes) < self.settings.min_characters:
            return "too short"
        if self.settings.max_characters is not None and len(codes) > self.settings.max_characters:
            return "too long"
        share = self.settings.min_script_share * num_letters
        if self.wanted and letters[self.wanted].sum() < share:
            return "other script"
        return "kept"

    def _keep(
        self, rows: Sequence[Row], verdicts: Sequence[int], kept: Sequence[tuple[str, Codes]]
    ) -> None:
        self.verdicts.add(verdicts)
        self.numbers.add([row.number for row in rows])
        self.characters.add([len(row.text) for row in rows])
        if self.count_tokens:
            self.tokens.add(self.count_tokens([row.text for row in rows]))
        self.digests.add([_digest(text) for text, _ in kept])
        if self.settings.near_duplicates and kept:
            self.signatures.add(signatures_of([codes for _, codes in kept]))

    @property
    def signature_table(self) -> npt.NDArray[np.generic]:
        """Signatures, `(rows, NUM_VALUES)`."""
        return self.signatures.array().reshape(-1, NUM_VALUES)


def _digest(text: str) -> int:
    found = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=_DIGEST_BYTES)
    return int.from_bytes(found.digest(), "little")
