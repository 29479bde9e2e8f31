"""Cohen's kappa, against the examples of his measure's textbook page and simulated judges."""

import numpy as np
import pytest

from hanpaca.errors import DataError
from hanpaca.evals.judge.agreement import agreement, cohens_kappa


def judges(both: int, first: int, second: int, neither: int) -> tuple[list[float], list[float]]:
    """Two who say yes or no, as often together and alone as told."""
    pairs = [(1, 1)] * both + [(1, 0)] * first + [(0, 1)] * second + [(0, 0)] * neither
    return [float(one) for one, _ in pairs], [float(other) for _, other in pairs]


@pytest.mark.parametrize(
    ("counts", "kappa"),
    [
        # The three worked examples under "Cohen's kappa" in Wikipedia.
        *(((20, 5, 10, 15), 0.4), ((45, 15, 25, 15), 0.1304), ((25, 35, 5, 35), 0.2593)),
        *(((10, 0, 0, 10), 1.0), ((0, 10, 10, 0), -1.0), ((5, 5, 5, 5), 0.0)),
    ],
)
def test_kappa_is_that_of_the_worked_examples(
    counts: tuple[int, int, int, int], kappa: float
) -> None:
    assert cohens_kappa(*judges(*counts)) == pytest.approx(kappa, abs=5e-5)


def test_there_is_no_kappa_where_all_say_the_same() -> None:
    found = agreement({"a": 0.5, "b": 0.5}, {"a": 0.5, "b": 0.5})
    assert (found.kappa, found.low, found.num_prompts) == (None, None, 2)


def test_only_prompts_that_both_judged_count() -> None:
    found = agreement({"a": 1, "b": 0, "c": 1}, {"b": 0, "c": 1, "d": 0})
    assert (found.kappa, found.num_prompts) == (1.0, 2)
    with pytest.raises(DataError, match="no prompt in common"):
        agreement({"a": 1}, {"b": 1})


def test_the_interval_holds_what_was_simulated() -> None:
    generator = np.random.default_rng(0)
    truth = generator.choice([0, 0.5, 1], 300)
    noisy = np.where(generator.random(300) < 0.7, truth, generator.choice([0, 0.5, 1], 300))
    names = [str(one) for one in range(300)]
    one = dict(zip(names, truth.tolist(), strict=True))
    found = agreement(one, dict(zip(names, noisy.tolist(), strict=True)))
    assert found.low is not None
    assert found.high is not None
    # Seven tenths agree for sure, of the rest a third by chance: kappa is 0.7.
    assert found.low < 0.7 < found.high
    assert found.high - found.low < 0.2
