"""Tokens per character and speed of one tokenizer on one text."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

from hanpaca.tokenizer.vocabulary import Vocabulary

_BATCH_TEXTS = 512
_LEAST_SECONDS = 0.5  # a text that is done sooner is encoded again, and the best time counts


@dataclass(frozen=True)
class Measurement:
    """What a tokenizer makes of a text."""

    num_characters: int
    """Unicode characters of the text."""
    num_tokens: int
    """Its tokens, without special ones."""
    seconds: float
    """The shortest time of encoding all of it, by the library that the tokenizer is meant for and
    as many threads as it likes."""

    @property
    def tokens_per_character(self) -> float:
        """The smaller, the more text fits into a context and the faster a model writes."""
        return self.num_tokens / self.num_characters

    @property
    def characters_per_second(self) -> float:
        """Of encoding."""
        return self.num_characters / self.seconds


def measure(tokenizer: Vocabulary, texts: Sequence[str]) -> Measurement:
    """Encode texts, at least one not empty, as often as a steady time needs."""
    num_tokens, shortest = _encode(tokenizer, texts)
    spent = shortest
    while spent < _LEAST_SECONDS:
        _, seconds = _encode(tokenizer, texts)
        shortest = min(shortest, seconds)
        spent += seconds
    return Measurement(sum(map(len, texts)), num_tokens, shortest)


def _encode(tokenizer: Vocabulary, texts: Sequence[str]) -> tuple[int, float]:
    num_tokens, seconds = 0, 0.0
    for start in range(0, len(texts), _BATCH_TEXTS):
        batch = texts[start : start + _BATCH_TEXTS]
        begin = time.perf_counter()
        encoded = tokenizer.encode(batch)
        seconds += time.perf_counter() - begin
        num_tokens += sum(map(len, encoded))
    return num_tokens, seconds
