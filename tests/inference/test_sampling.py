import math
from typing import Any

import pytest

from hanpaca.errors import RecipeError
from hanpaca.inference.sampling import Sampling


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"temperature": -0.1}, "temperature is -0.1: --temperature must be 0 or more"),
        ({"temperature": math.nan}, "temperature is nan: --temperature must be 0 or more"),
        ({"max_tokens": 0}, "max tokens is 0: --max_tokens must be at least 1"),
        ({"top_k": -1}, "top k is -1: --top_k must be 0 or more"),
        ({"top_p": 0.0}, "top p is 0.0: --top_p must be above 0 and at most 1"),
        ({"top_p": 1.1}, "top p is 1.1: --top_p must be above 0 and at most 1"),
        ({"min_p": 1.5}, "min p is 1.5: --min_p must be from 0 to 1"),
        ({"repeat_penalty": 0.0}, "repeat penalty is 0.0: --repeat_penalty must be above 0"),
        ({"seed": -1}, "seed is -1: --seed must be from 0 to 4294967294"),
        ({"seed": 2**32 - 1}, "seed is 4294967295: --seed must be from 0 to 4294967294"),
    ],
)
def test_a_value_out_of_range_is_one_line(value: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError) as caught:
        Sampling(**value)
    assert caught.value.worded(lambda name: f"--{name}", str) == message


def test_a_value_is_read_from_text() -> None:
    assert Sampling().changed("temperature", "0.7") == Sampling(temperature=0.7)
    assert Sampling().changed("max_tokens", "7").max_tokens == 7
    with pytest.raises(RecipeError, match="'mood' is no setting; there are max_tokens, temper"):
        Sampling().changed("mood", "1")
    with pytest.raises(RecipeError, match=r"max_tokens: '1\.5' is no whole number"):
        Sampling().changed("max_tokens", "1.5")
    with pytest.raises(RecipeError, match="max tokens is 0"):
        Sampling().changed("max_tokens", "0")
