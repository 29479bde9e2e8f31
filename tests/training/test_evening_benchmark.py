"""The comparison of an evening's arms, on numbers that are known."""

from typing import Any

import pytest

from benchmarks.evening import gap

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
