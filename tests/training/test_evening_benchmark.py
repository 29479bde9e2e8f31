"""The comparison of an evening's arms, on numbers that are known."""

from typing import Any

import pytest

from benchmarks.evening import gap, meetings

LENGTHS = [10, 20, 30, 40]


def arm(bits_per_character: list[float], *, tokens: float = 2.0) -> dict[str, Any]:
    bits = [each * length for each, length in zip(bits_per_character, LENGTHS, strict=True)]
    return {
        "heldout_bits": bits,
        "heldout_characters": LENGTHS,
        "tokens_per_han_character": tokens,
    }


def test_a_gap_that_every_text_has_is_certain() -> None:
    found = gap(arm([4, 5, 6, 7]), arm([4.25, 5.25, 6.25, 7.25], tokens=1.25))
    assert found["zh"] == pytest.approx(0.25)
    assert found["interval"] == pytest.approx([0.25, 0.25])
    assert found["fewer_tokens"] == 1.6


def test_a_gap_of_some_texts_has_an_interval_around_it() -> None:
    low, high = (found := gap(arm([4, 4, 4, 4]), arm([5, 3, 5, 4])))["interval"]
    assert found["zh"] == pytest.approx((10 - 20 + 30) / 100)
    assert low < found["zh"] < high
    assert low < 0


def curve(behind: list[float], *, uneven: float = 0.0) -> dict[str, Any]:
    """Probes after 0, 100, 200, 400 and 800 steps of an arm so many bits behind 5 a character."""
    each = [uneven, -uneven, uneven, -uneven / 2]  # sums to nothing, weighed by length
    return {
        "probed_characters": LENGTHS,
        "points": [
            {
                "step": step,
                "text_bits": [
                    (5 + late + own) * length for own, length in zip(each, LENGTHS, strict=True)
                ],
            }
            for step, late in zip((0, 100, 200, 400, 800), behind, strict=True)
        ],
    }


def test_curves_meet_where_the_gap_is_gone_on_every_axis() -> None:
    arms = {"plain": curve([0] * 5), "twins": curve([9, 1.5, 1, 0.5, -0.5])}
    lasts = {
        "steps": {"plain": 1.0, "twins": 1.0},
        "seconds": {"plain": 1.0, "twins": 1.0},
        "characters": {"plain": 200.0},
    }
    found = meetings("plain", "twins", arms, lasts)
    assert set(found) == {"steps", "seconds"}  # characters are not known of both
    assert found["steps"]["met"] == pytest.approx(400 * 2**0.5, rel=0.02)
    assert found["steps"]["share_of_redraws_that_met"] == 1
    assert found["steps"]["gap_there"] == pytest.approx(-0.5)


def test_a_step_that_lasts_longer_is_met_later_in_seconds() -> None:
    falling = {"plain": curve([0, 0, -0.2, -0.4, -0.6]), "twins": curve([9, 1, 0.2, -0.3, -0.9])}
    lasts = {"steps": {"plain": 1.0, "twins": 1.0}, "seconds": {"plain": 1.0, "twins": 1.04}}
    found = meetings("plain", "twins", falling, lasts)
    assert 400 < found["steps"]["met"] < found["seconds"]["met"] / 1.04


def test_texts_that_differ_make_the_meeting_uncertain() -> None:
    arms = {"plain": curve([0] * 5), "twins": curve([9, 1.5, 1, 0.5, -0.1], uneven=1.0)}
    found = meetings("plain", "twins", arms, {"steps": {"plain": 1.0, "twins": 1.0}})["steps"]
    low, high = found["interval"]
    assert low < found["met"]
    assert high is None or high > found["met"]
    assert 0 < found["share_of_redraws_that_met"] < 1
