"""How often one model's answers are better, with intervals over prompts.

Prompts are what is drawn again, each with all that was judged about it: two orders of a prompt are
not two prompts, and an interval that takes them for such is too narrow.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hanpaca.errors import DataError

Numbers = NDArray[np.float64]
_DRAWS = 2_000
_STEPS = 30
"""Of Newton's method; it has converged after ten."""
_PRIOR = 0.02
"""Precision of the normal prior on the effect of length, which keeps it finite where length alone
tells who won."""
_MOST_LOGIT = 30.0


@dataclass(frozen=True)
class Rate:
    """A share of wins, ties counting half, in percent, and its 95 % interval."""

    value: float
    low: float
    high: float

    @property
    def shown(self) -> bool:
        """Whether the interval leaves 50 % out: only then one model is better."""
        return not self.low <= 50 <= self.high


def win_rate(scores: Sequence[float], *, seed: int = 0) -> Rate:
    """How often the first of two models won.

    Percentile bootstrap over prompts, 2,000 draws. Only how often each score is drawn matters, so
    these numbers are drawn, which is the same and quick.

    >>> win_rate([1, 1, 0.5, 0]).value
    62.5

    Args:
        scores: Of each prompt: 1, ½ or 0, or the mean where it was judged more than once.
        seed: Of the draws.

    Raises:
        DataError: There are fewer than two prompts.
    """
    number = _enough(len(scores))
    values, counts = np.unique(np.asarray(scores, float), return_counts=True)
    draws = np.random.default_rng(seed).multinomial(number, counts / number, size=_DRAWS)
    return _rate(float(np.mean(scores)), draws @ values / number)


def length_controlled_rate(
    scores: Sequence[float], lengths: Sequence[tuple[int, int]], *, seed: int = 0
) -> Rate:
    """How often the first model would win if its answers were as long as the other's.

    Logistic regression of the score on tanh(difference of lengths / its standard deviation), after
    Dubois et al. 2024; the rate is the prediction at difference 0. The interval is the bootstrap's
    over prompts, each draw fitted anew.

    Args:
        scores: As for `win_rate`.
        lengths: Characters of both answers to each prompt.
        seed: Of the draws.

    Raises:
        DataError: There are fewer than two prompts.
    """
    number = _enough(len(scores))
    differences = np.array([one - other for one, other in lengths], float)
    spread = float(differences.std())
    x = np.tanh(differences / spread) if spread else np.zeros(number)
    y = np.asarray(scores, float)
    draws = np.random.default_rng(seed).multinomial(number, np.full(number, 1 / number), _DRAWS)
    weights = np.vstack([np.ones(number), draws])
    rates = 1 / (1 + np.exp(-_intercepts(x, y, weights)))
    return _rate(float(rates[0]), rates[1:])


def strengths(wins: Numbers, *, seed: int = 0) -> list[tuple[float, float, float]]:
    """Bradley-Terry strengths of three models or more, in log-odds, with mean 0.

    Ties count half. Every pair is given one more game that ends in a tie, half a win each, so that
    a model that never lost has a strength too.

    Args:
        wins: (prompts, models, models): what the row's model won against the column's.
        seed: Of the draws of prompts.

    Returns:
        Of each model its strength, and the 95 % interval over prompts.

    Raises:
        DataError: There are fewer than two prompts.
    """
    number = _enough(len(wins))
    draws = np.random.default_rng(seed).multinomial(number, np.full(number, 1 / number), _DRAWS)
    weights = np.vstack([np.ones(number), draws])
    fitted = bradley_terry(np.einsum("dp,pij->dij", weights, wins))
    low, high = np.quantile(fitted[1:], [0.025, 0.975], axis=0)
    return [tuple(map(float, one)) for one in zip(fitted[0], low, high, strict=True)]  # type: ignore[misc]


def bradley_terry(wins: Numbers) -> Numbers:
    """Strengths of tables of wins (draws, models, models) by Newton's method: (draws, models)."""
    models = wins.shape[-1]
    wins = wins + 0.5 * (1 - np.eye(models))
    games = wins + wins.swapaxes(-1, -2)
    found = np.zeros(wins.shape[:-1])
    for _ in range(_STEPS):
        chance = 1 / (1 + np.exp(found[..., None, :] - found[..., :, None]))
        gradient = (wins - games * chance).sum(-1)
        shared = games * chance * (1 - chance)
        # Only differences count: the ones in the matrix hold the mean at 0.
        curve = np.eye(models) * shared.sum(-1)[..., None] - shared + 1 / models
        found = found + np.clip(np.linalg.solve(curve, gradient[..., None])[..., 0], -2, 2)
        found -= found.mean(-1, keepdims=True)
    return found


def _intercepts(x: Numbers, y: Numbers, weights: Numbers) -> Numbers:
    """Intercepts of logistic regressions of y on x, one for each row of weights."""
    level, slope = np.zeros(len(weights)), np.zeros(len(weights))
    for _ in range(_STEPS):
        logits = np.clip(level[:, None] + slope[:, None] * x, -_MOST_LOGIT, _MOST_LOGIT)
        chance = 1 / (1 + np.exp(-logits))
        left, curve = weights * (y - chance), weights * chance * (1 - chance)
        g0, g1 = left.sum(1) - _PRIOR * level, left @ x - _PRIOR * slope
        h00, h01, h11 = curve.sum(1) + _PRIOR, curve @ x, curve @ x**2 + _PRIOR
        determinant = h00 * h11 - h01**2
        level = level + np.clip((h11 * g0 - h01 * g1) / determinant, -2, 2)
        slope = slope + np.clip((h00 * g1 - h01 * g0) / determinant, -2, 2)
    return level


def _enough(number: int) -> int:
    if number < 2:
        raise DataError(f"an interval needs at least 2 prompts, got {number}")
    return number


def _rate(value: float, drawn: Numbers) -> Rate:
    low, high = np.quantile(drawn, [0.025, 0.975])
    return Rate(100 * value, 100 * float(low), 100 * float(high))
