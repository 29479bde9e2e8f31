"""Bits per character and tokens per character: numbers that survive a tokenizer change.

Perplexity is a number per token, so a tokenizer with longer tokens makes it worse for the same
model of the text. A text's total negative log-likelihood does not depend on how it was cut, and
neither does its number of characters: their ratio compares models with different tokenizers.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import regex

from hanpaca.errors import DataError, RecipeError


@dataclass(frozen=True)
class TextScore:
    """How well one model predicts a set of texts, and into how many tokens it cuts them.

    `per_text_bits` and `per_text_characters` hold one value a text, for `bootstrap_interval`.
    The target part is the runs of the chosen scripts, or the whole text: see `score_texts`.
    """

    num_characters: int
    num_tokens: int
    bits: float
    num_target_characters: int
    num_target_tokens: int
    per_text_bits: tuple[float, ...]
    per_text_characters: tuple[int, ...]

    @property
    def bits_per_character(self) -> float:
        """Total bits over total characters; lower is better; tokenizers may differ."""
        return self.bits / self.num_characters

    @property
    def bits_per_token(self) -> float:
        """Total bits over total tokens; comparable only between models of one tokenizer."""
        return self.bits / self.num_tokens

    @property
    def tokens_per_character(self) -> float:
        """Tokens over characters of the target part; lower means shorter and faster answers."""
        return self.num_target_tokens / self.num_target_characters


def score_texts(
    texts: Sequence[str],
    *,
    encode: Callable[[str], list[int]],
    negative_log_likelihoods: Callable[[Sequence[Sequence[int]]], Sequence[float]],
    start_token: int,
    scripts: Sequence[str] = (),
) -> TextScore:
    """Measure bits per character and tokens per character of `texts`.

    Bits per character = sum over texts of -log2 p(text | start token) / number of Unicode
    characters. It is the character version of bits per byte (Gao et al. 2020, "The Pile",
    arXiv 2101.00027, section 3.1): the numerator is the cost of the whole text, so cutting the
    text into fewer or more tokens does not by itself change it.

    Args:
        texts: The held-out texts; none may be empty.
        encode: One text to its token ids, without a start token.
        negative_log_likelihoods: Takes token id lists that begin with `start_token` and returns,
            for each list, the summed nats of the tokens after the start token.
        start_token: What the model sees before the first token of a text.
        scripts: Unicode scripts of the target language, such as `("Han",)`: tokens per character
            is then counted on the maximal runs of these scripts, each encoded by itself, so
            that digits and Latin words do not blur it. Empty: counted on the whole texts.

    Raises:
        DataError: A text is empty, no character belongs to `scripts`, or the log-likelihoods are
            too few or not finite.
    """
    for index, text in enumerate(texts):
        if not text:
            raise DataError(f"text {index} of {len(texts)} is empty: remove it before scoring")
    encoded = [encode(text) for text in texts]
    nats = negative_log_likelihoods([[start_token, *ids] for ids in encoded])
    _check_nats(nats, num_texts=len(texts))
    runs = script_runs(texts, scripts) if scripts else list(texts)
    if not runs:
        raise DataError(
            f"none of the {len(texts)} texts holds character of script {'/'.join(scripts)}"
        )
    per_text_bits = tuple(float(value) / math.log(2) for value in nats)
    run_ids = [encode(run) for run in runs] if scripts else encoded
    return TextScore(
        num_characters=sum(map(len, texts)),
        num_tokens=sum(map(len, encoded)),
        bits=math.fsum(per_text_bits),
        num_target_characters=sum(map(len, runs)),
        num_target_tokens=sum(map(len, run_ids)),
        per_text_bits=per_text_bits,
        per_text_characters=tuple(map(len, texts)),
    )


def script_runs(texts: Sequence[str], scripts: Sequence[str]) -> list[str]:
    """Return the maximal runs of characters of Unicode `scripts`, in order of appearance.

    >>> script_runs(["λόγος3book νέα."], ["Greek"])
    ['λόγος', 'νέα']
    """
    one_of = "".join(rf"\p{{Script={script}}}" for script in scripts)
    try:
        pattern = regex.compile(f"[{one_of}]+")
    except regex.error as error:
        raise RecipeError(
            f"scripts: {', '.join(scripts)}: not all are Unicode scripts, such as Han or Hangul"
        ) from error
    return [run for text in texts for run in pattern.findall(text)]


def bootstrap_interval(
    per_text_bits: Sequence[float],
    per_text_characters: Sequence[int],
    *,
    seed: int,
    num_samples: int = 1000,
    level: float = 0.95,
) -> tuple[float, float]:
    """Return the interval that holds bits per character with probability `level`.

    Percentile bootstrap (Efron 1979): texts are drawn again with replacement `num_samples` times
    and the ratio of sums is taken each time. It says how much the number depends on which texts
    happened to be held out, not how much training runs differ.

    Raises:
        DataError: Fewer than two texts, or the two sequences differ in length.
    """
    num_texts = len(per_text_bits)
    if num_texts != len(per_text_characters):
        raise DataError(f"{num_texts} texts have bits but {len(per_text_characters)} have lengths")
    if num_texts < 2:
        raise DataError(f"an interval needs at least 2 held-out texts, got {num_texts}: add texts")
    generator = np.random.default_rng(seed)
    # How often each text is drawn, (num_samples, texts).
    draws = generator.multinomial(num_texts, np.full(num_texts, 1 / num_texts), size=num_samples)
    ratios = (draws @ np.asarray(per_text_bits)) / (draws @ np.asarray(per_text_characters))
    low, high = np.quantile(ratios, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def _check_nats(nats: Sequence[float], *, num_texts: int) -> None:
    """Refuse log-likelihoods that would make the report wrong or empty."""
    if num_texts == 0:
        raise DataError("there are no texts to score: give at least one held-out text")
    if len(nats) != num_texts:
        raise DataError(f"{num_texts} texts went in but {len(nats)} log-likelihoods came back")
    for index, value in enumerate(nats):
        if not math.isfinite(value):
            raise DataError(f"the log-likelihood of text {index} is {value}: the model is broken")
