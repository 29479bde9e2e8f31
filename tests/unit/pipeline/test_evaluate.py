"""What an evaluation concludes from its measurements."""

import dataclasses

import pytest

from hanpaca.evals.answers import VerdictCounts
from hanpaca.evals.results import BitsPerCharacter, ModelResult
from hanpaca.pipeline.evaluate import _up_to, goals


def model(name: str, zh: float, en: float, speed: float, passed: int | None = None) -> ModelResult:
    bits = [BitsPerCharacter(value, value, value, 10, 1_000) for value in (zh, en)]
    heldout = None if passed is None else VerdictCounts(20, 20, 20, 20, passed)
    return ModelResult(
        name=name,
        how="by hand",
        file_bytes=1,
        tokens_per_han_character=1.0,
        zh=bits[0],
        en=bits[1],
        characters_per_second=speed,
        heldout=heldout,
    )


MODELS = [
    model("base", 4.0, 1.00, 10.0),
    model("pretrained", 3.0, 1.01, 19.0),
    model("chat", 3.2, 1.02, 20.0, passed=19),
    model("chat q8_0", 3.2, 1.02, 50.0),
]


def test_goals_compare_the_right_models() -> None:
    found = goals(MODELS)
    assert [round(goal.measured, 6) for goal in found] == [25.0, 1.0, 2.0, 95.0]
    assert [goal.met for goal in found] == [True, True, True, True]


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
    assert [goal.met for goal in goals(models)] == [place != number for place in range(4)]


def test_what_was_not_measured_is_no_goal() -> None:
    unasked = [dataclasses.replace(one, heldout=None) for one in MODELS]
    assert len(goals(unasked)) == 3
    bare = [
        dataclasses.replace(one, zh=None, en=None, characters_per_second=None) for one in unasked
    ]
    assert goals(bare) == ()


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
