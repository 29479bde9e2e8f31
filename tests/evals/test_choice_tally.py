"""Shares, their intervals, and what they are compared with."""

import math
from collections import Counter

import pytest

from hanpaca.evals.choice.tally import Picked, baselines, tally, task_scores, wilson_interval

GROUPS = {"STEM": (143, 430), "Social": (111, 275), "Humanities": (100, 257), "Other": (140, 384)}
"""Right and all of each group, as the reference's notebook shows them for Alpaca-Plus-7B."""


def stored() -> list[Picked]:
    return [
        Picked(group, 0, 4, 0 if at < right else 1)
        for group, (right, total) in GROUPS.items()
        for at in range(total)
    ]


def test_the_numbers_of_the_notebook_come_out_of_its_picks() -> None:
    whole, *parts = task_scores(stored(), {name: name for name in GROUPS})
    assert (whole.num_items, round(whole.value, 2)) == (1346, 36.70)
    groups = [one for one in parts if one.level == "group"]
    assert [one.num_items for one in groups] == [430, 275, 257, 384]
    assert [round(one.value, 2) for one in groups] == [33.26, 40.36, 38.91, 36.46]
    assert whole.macro == pytest.approx(sum(one.value for one in groups) / 4)


def test_the_interval_is_where_wilsons_equation_holds() -> None:
    for right, total in ((354, 1346), (0, 20), (20, 20), (3, 7)):
        for bound in wilson_interval(right, total):
            # A bound p is where the share lies z standard errors of p away.
            apart = abs(right / total - bound)
            assert apart == pytest.approx(1.959964 * math.sqrt(bound * (1 - bound) / total))
    assert wilson_interval(0, 20)[0] == 0
    assert wilson_interval(20, 20)[1] == 1


def test_the_interval_holds_the_share_itself_of_none_and_of_all_right() -> None:
    """Rounding once took the lower bound of 0 of 138 past 0, and no chart could be drawn of it."""
    for total in range(1, 400):
        for right in (0, total):
            low, high = wilson_interval(right, total)
            assert low <= right / total <= high


def test_chance_and_the_best_constant_of_ceval() -> None:
    counts = {0: 310, 1: 338, 2: 344, 3: 354}
    picked = [Picked("x", answer, 4, None) for answer, n in counts.items() for _ in range(n)]
    found = baselines(picked)
    assert list(found) == ["chance", "always D"]
    assert [round(value, 2) for value in found.values()] == [25.0, 26.3]
    mixed = [Picked("x", 0, 2, None), Picked("x", 0, 4, None)]
    assert baselines(mixed)["chance"] == 37.5


def test_questions_that_did_not_fit_count_as_wrong_and_pick_nothing() -> None:
    picked = [Picked("x", 0, 4, 0), Picked("x", 1, 4, None), Picked("y", 2, 4, 3)]
    found = tally("model", picked, {"x": "X"}, how="", notes=["odd"])
    assert found.picks == {"A": 1, "B": 0, "C": 0, "D": 1}
    levels = Counter(one.level for one in found.scores)
    assert levels == {"all": 1, "group": 1, "subject": 2}
    assert found.scores[0].value == pytest.approx(100 / 3)
    assert found.scores[0].macro == pytest.approx(25.0)
    assert found.notes == ("odd",)
