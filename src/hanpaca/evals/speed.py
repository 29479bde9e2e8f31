"""How fast answers appear, for a reader (characters) and for the machine (tokens)."""

from collections.abc import Sequence
from statistics import median

from hanpaca.errors import DataError


def characters_per_second(answers: Sequence[tuple[int, float]]) -> float:
    """Return the median over answers of characters written per second.

    This is the speed a reader sees, and the one that a tokenizer with longer tokens improves.
    Seconds run from the first generated token's start to the last one's end, without loading
    the model and without reading the prompt. The median leaves out one slow start.

    Args:
        answers: One `(number of characters, seconds)` pair for each prompt.

    Raises:
        DataError: There are no answers, or one has no positive duration.
    """
    return _median_rate(answers)


def tokens_per_second(answers: Sequence[tuple[int, float]]) -> float:
    """Return the median over answers of tokens generated per second.

    It compares machines and file formats, not tokenizers: see `characters_per_second`.

    Args:
        answers: One `(number of tokens, seconds)` pair for each prompt.

    Raises:
        DataError: There are no answers, or one has no positive duration.
    """
    return _median_rate(answers)


def _median_rate(amounts: Sequence[tuple[int, float]]) -> float:
    """Median of amount / seconds."""
    if not amounts:
        raise DataError("there are no timed answers: ask at least one prompt")
    for index, (_, seconds) in enumerate(amounts):
        if seconds <= 0:
            raise DataError(f"answer {index} took {seconds} s: time it with a monotonic clock")
    return median(amount / seconds for amount, seconds in amounts)
