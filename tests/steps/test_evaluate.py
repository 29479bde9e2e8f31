"""What an evaluation concludes from its measurements."""

import dataclasses

import pytest

from hanpaca.evals.answers import VerdictCounts
from hanpaca.evals.results import BITS, SPEED, Measured, ModelResult
from hanpaca.runs.measuring import _up_to
from hanpaca.steps.evaluate import goals

LANGUAGES = ("ko", "en")


def model(
    name: str, new: float, old: float, speed: float, passed: int | None = None
) -> ModelResult:
    first = {BITS.name: Measured(new), SPEED.name: Measured(speed)}
    heldout = None if passed is None else VerdictCounts(20, passed, {"stopped": 20})
    return ModelResult(
        name=name,
        how="by hand",
        file_bytes=1,
        measured={"ko": first, "en": {BITS.name: Measured(old)}},
        heldout=heldout,
    )


MODELS = [
    model("base", 4.0, 1.00, 10.0),
    model("pretrained", 3.0, 1.01, 19.0),
    model("chat", 3.2, 1.02, 20.0, passed=19),
    model("chat q8_0", 3.2, 1.02, 50.0),
]


def test_goals_compare_the_right_models() -> None:
    found = goals(MODELS, LANGUAGES)
    assert [round(goal.measured, 6) for goal in found] == [25.0, 1.0, 2.0, 95.0]
    assert [goal.met for goal in found] == [True, True, True, True]
    assert found[0].name == "bits per character of held-out Korean"
    assert found[2].name == "Korean characters per second, against the base"


@pytest.mark.parametrize(
    ("number", "worse"),
    [
        (0, {1: model("pretrained", 3.5, 1.01, 19.0)}),
        (1, {1: model("pretrained", 3.0, 1.03, 19.0)}),
        (2, {2: model("chat", 3.2, 1.02, 14.0, passed=19)}),
        (3, {2: model("chat", 3.2, 1.02, 20.0, passed=17)}),
    ],
)
def test_a_goal_that_is_missed_says_so(number: int, worse: dict[int, ModelResult]) -> None:
    models = [worse.get(place, one) for place, one in enumerate(MODELS)]
    assert [goal.met for goal in goals(models, LANGUAGES)] == [
        place != number for place in range(4)
    ]


def test_what_was_not_measured_is_no_goal() -> None:
    unasked = [dataclasses.replace(one, heldout=None) for one in MODELS]
    assert len(goals(unasked, LANGUAGES)) == 3
    bare = [dataclasses.replace(one, measured={}) for one in unasked]
    assert goals(bare, LANGUAGES) == ()


@pytest.mark.parametrize(
    ("lengths", "num_characters", "kept"),
    [
        ([10, 10, 10, 10], 25, [10, 10, 10]),
        ([10, 10, 10], 20, [10, 10]),
        ([10, 10], 500, [10, 10]),
        ([5_000, 5_000, 1], 3_000, [2_000, 2_000]),
        ([5_000, 10, 1], 100, [2_000, 10]),
        ([], 100, []),
    ],
)
def test_texts_are_taken_until_there_are_enough_characters(
    lengths: list[int], num_characters: int, kept: list[int]
) -> None:
    found = _up_to(["字" * length for length in lengths], num_characters)
    assert [len(text) for text in found] == kept
