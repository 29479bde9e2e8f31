"""Rates and intervals of judged pairs, against what is known of simulated ones."""

import math

import numpy as np
import pytest

from hanpaca.errors import DataError
from hanpaca.evals.judge.rates import (
    Numbers,
    bradley_terry,
    length_controlled_rate,
    strengths,
    win_rate,
)

STRENGTHS = np.array([0.8, 0.0, -0.8])


def test_the_interval_holds_the_truth_and_one_over_rows_does_not() -> None:
    """Two orders that agree are one prompt: drawn as two, the interval is too narrow."""
    generator = np.random.default_rng(7)
    held = by_rows = 0
    for number in range(1_000):
        won = (generator.random(200) < 0.6).astype(float)
        found = win_rate(won.tolist(), seed=number)
        held += found.low <= 60 <= found.high
        rows = win_rate(np.repeat(won, 2).tolist(), seed=number)
        by_rows += rows.low <= 60 <= rows.high
    assert 930 <= held <= 970
    assert by_rows < 900


def test_the_interval_is_that_of_prompts_drawn_one_by_one() -> None:
    scores = np.array([1.0] * 55 + [0.5] * 25 + [0.0] * 40)
    generator = np.random.default_rng(0)
    drawn = [generator.choice(scores, len(scores)).mean() for _ in range(4_000)]
    low, high = 100 * np.quantile(drawn, [0.025, 0.975])
    found = win_rate(scores.tolist())
    assert [found.low, found.high] == pytest.approx([low, high], abs=0.7)
    assert found.value == pytest.approx(100 * scores.mean())


def test_a_difference_is_shown_only_where_the_interval_leaves_half_out() -> None:
    assert win_rate([1.0] * 90 + [0.0] * 10).shown
    assert win_rate([0.0] * 90 + [1.0] * 10).shown
    assert not win_rate([1.0] * 55 + [0.0] * 45).shown
    assert not win_rate([0.5] * 20).shown
    with pytest.raises(DataError, match="at least 2 prompts"):
        win_rate([1.0])


def test_who_only_prefers_longer_answers_prefers_nobody_once_length_is_taken_out() -> None:
    generator = np.random.default_rng(3)
    lengths = [(int(a), int(b)) for a, b in generator.normal((260, 200), 70, (200, 2)).clip(1)]
    scores = [1.0 if a > b else 0.0 if a < b else 0.5 for a, b in lengths]
    raw = win_rate(scores)
    assert raw.shown
    assert raw.value > 60
    controlled = length_controlled_rate(scores, lengths)
    assert controlled.low <= 50 <= controlled.high
    assert abs(controlled.value - 50) < 15


def test_who_is_better_at_any_length_stays_better() -> None:
    generator = np.random.default_rng(4)
    lengths = [(int(a), int(b)) for a, b in generator.normal((220, 200), 50, (300, 2)).clip(1)]
    scores = [float(one) for one in generator.random(300) < 0.8]
    found = length_controlled_rate(scores, lengths)
    assert found.value == pytest.approx(80, abs=6)
    assert found.shown
    same = length_controlled_rate(scores, [(9, 9)] * 300)
    assert same.value == pytest.approx(100 * np.mean(scores), abs=0.2)


def test_swapping_the_models_mirrors_every_rate() -> None:
    generator = np.random.default_rng(5)
    scores = generator.choice([0, 0.5, 1], 150, p=[0.3, 0.2, 0.5])
    lengths = [(int(a), int(b)) for a, b in generator.integers(50, 400, (150, 2))]
    swapped = [(b, a) for a, b in lengths]
    ours = length_controlled_rate(scores.tolist(), lengths)
    theirs = length_controlled_rate((1 - scores).tolist(), swapped)
    assert theirs.value == pytest.approx(100 - ours.value)
    assert [theirs.low, theirs.high] == pytest.approx([100 - ours.high, 100 - ours.low])
    assert win_rate((1 - scores).tolist()).value == pytest.approx(
        100 - win_rate(scores.tolist()).value
    )


def table(chances: Numbers, games: int, generator: np.random.Generator | None) -> Numbers:
    """Wins of three models, as many as expected or drawn."""
    wins = np.zeros((3, 3))
    for i in range(3):
        for j in range(i):
            chance = 1 / (1 + math.exp(chances[j] - chances[i]))
            won = games * chance if generator is None else generator.binomial(games, chance)
            wins[i, j], wins[j, i] = won, games - won
    return wins


def test_known_strengths_are_recovered() -> None:
    expected = bradley_terry(table(STRENGTHS, 1_000, None)[None])[0]
    assert np.abs(expected - STRENGTHS).max() < 0.01
    generator = np.random.default_rng(1)
    drawn = np.stack([table(STRENGTHS, 1_000, generator) for _ in range(20)])
    assert np.abs(bradley_terry(drawn) - STRENGTHS).mean() < 0.05


def test_a_model_that_never_lost_has_a_strength() -> None:
    wins = np.array([[0, 50, 50], [0, 0, 25], [0, 25, 0]], float)
    found = bradley_terry(wins[None])[0]
    assert np.isfinite(found).all()
    # With half a win each, 50.5 of 51 games: the log-odds of that, as both others are equal.
    assert found[0] - found[1] == pytest.approx(math.log(50.5 / 0.5), abs=1e-6)


def test_strengths_have_intervals_over_prompts() -> None:
    generator = np.random.default_rng(2)
    wins = np.zeros((120, 3, 3))
    for one in wins:
        one += table(STRENGTHS, 1, generator)
    found = strengths(wins)
    assert [low < value < high for value, low, high in found] == [True] * 3
    assert all(low < truth < high for truth, (_, low, high) in zip(STRENGTHS, found, strict=True))
    assert sum(value for value, _, _ in found) == pytest.approx(0, abs=1e-9)
