"""Weighing sizes, with numbers worked out by hand and with measured curves."""

import pytest

from hanpaca.tokenizer.advice.curve import CurvePoint, LengthCurve
from hanpaca.tokenizer.advice.speed import ParameterCounts
from hanpaca.tokenizer.advice.weigh import (
    WORTHWHILE_SPEED,
    MeasuredSpeeds,
    break_even,
    short_number,
    weigh,
)

SMALL = ParameterCounts(num_rows=100, hidden_size=10, num_body=3000, is_tied=True)
SMOLLM2 = ParameterCounts(49_152, 576, 106_203_456, is_tied=True)
LLAMA_3 = ParameterCounts(128_256, 4096, 6_979_588_096, is_tied=False)
QWEN = ParameterCounts(151_936, 896, 357_898_112, is_tied=True)


def curve(points: dict[int, float]) -> LengthCurve:
    return LengthCurve(
        tuple(CurvePoint(n, tokens, tokens, 1000 * n) for n, tokens in points.items()),
        num_entries=100,
        num_learned_characters=1_000_000,
        num_held_out_characters=50_000,
    )


def test_speed_is_fewer_tokens_over_longer_steps() -> None:
    advice = weigh(curve({0: 2.0, 100: 0.8, 300: 0.5}), SMALL)
    assert [option.speed for option in advice.options] == [
        pytest.approx(1.0),
        pytest.approx(2.0 / 0.8 * 4000 / 5000),  # 2.0
        pytest.approx(2.0 / 0.5 * 4000 / 7000),  # 2.29
    ]
    assert [option.added_parameters for option in advice.options] == [0, 1000, 3000]
    assert [option.added_share for option in advice.options] == [0, 0.25, 0.75]
    assert [option.head_share for option in advice.options] == [
        pytest.approx(share) for share in (1 / 4, 2 / 5, 4 / 7)
    ]


def test_the_smallest_with_nine_tenths_of_the_gain_is_advised() -> None:
    advice = weigh(curve({0: 2.0, 100: 0.8, 200: 0.6, 300: 0.5}), SMALL)
    # 1, 2, 2.22, 2.29: nine tenths of the gain are 2.157
    assert advice.num_pieces == 200
    assert advice.sentence.startswith(
        "Extend by 200 pieces: 0.60 tokens a character instead of 2.00, so about 2.22 times"
    )
    assert "300 pieces would bring it to only 2.29 times" in advice.sentence


def test_when_longer_steps_eat_the_gain_fewer_pieces_are_better() -> None:
    advice = weigh(curve({0: 2.0, 100: 0.8, 300: 0.7}), SMALL)
    assert advice.num_pieces == 100
    assert "at least 100,000 characters. With less than half a million" in advice.sentence


@pytest.mark.parametrize(
    ("tokens", "num_pieces"), [(2.0 / 1.49 * 0.8, 0), (2.0 / WORTHWHILE_SPEED * 0.8, 100)]
)
def test_below_one_and_a_half_times_the_speed_the_answer_is_no(
    tokens: float, num_pieces: int
) -> None:
    advice = weigh(curve({0: 2.0, 100: tokens}), SMALL)
    assert advice.num_pieces == num_pieces
    assert advice.sentence.startswith("Extend by" if num_pieces else "Do not extend: ")


def test_when_every_size_is_slower_that_is_the_reason() -> None:
    advice = weigh(curve({0: 1.0, 100: 0.95}), SMALL)
    assert advice.sentence == (
        "Do not extend: the tokenizer needs 1.00 tokens a character already; "
        "none of the sizes would make it faster."
    )
    assert weigh(curve({0: 1.0}), SMALL).num_pieces == 0


@pytest.mark.parametrize(
    ("points", "shape", "extends"),
    [
        # Tokens for a Chinese character of encyclopedic text outside the training corpus.
        ({0: 1.9748, 2000: 1.0532, 4000: 0.9321, 8000: 0.8425, 16000: 0.7761}, SMOLLM2, True),
        ({0: 0.9357, 2000: 0.8728, 8000: 0.7992, 16000: 0.7528}, LLAMA_3, False),
        ({0: 0.7150, 2000: 0.7028, 8000: 0.6855}, QWEN, False),
    ],
)
def test_a_tokenizer_that_knows_the_script_is_left_alone(
    points: dict[int, float], shape: ParameterCounts, extends: bool
) -> None:
    assert bool(weigh(curve(points), shape).num_pieces) == extends


def test_break_even_is_training_time_over_time_saved() -> None:
    base, point = CurvePoint(0, 2.0, 2.0, 0), CurvePoint(100, 0.8, 0.8, 50_000)
    speeds = MeasuredSpeeds(training=400.0, decoding=20.0)
    # 50,000 * 0.8 / 400 = 100 s of training; 2 / 20 * (1 - 1/2) = 0.05 s saved a character
    assert break_even(point, base, speed=2.0, speeds=speeds) == 2000
    assert break_even(point, base, speed=1.0, speeds=speeds) is None
    advice = weigh(curve({0: 2.0, 100: 0.8}), SMALL, speeds=speeds)
    assert [option.break_even_characters for option in advice.options] == [None, 4000]
    unknown = weigh(curve({0: 2.0, 100: 0.8}), SMALL).options
    assert {option.break_even_characters for option in unknown} == {None}


@pytest.mark.parametrize(
    ("number", "shown"),
    [
        (999_999, "999,999"),
        (1_234_567, "1.2 million"),
        (41_234_567, "41 million"),
        (2_500_000_000, "2.5 billion"),
    ],
)
def test_large_numbers_are_short(number: int, shown: str) -> None:
    assert short_number(number) == shown
