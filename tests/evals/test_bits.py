import math
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hanpaca.errors import DataError
from hanpaca.evals.bits import bootstrap_interval, score_texts, script_runs
from hanpaca.evals.speed import characters_per_second


def uniform(sequences: Sequence[Sequence[int]]) -> list[float]:
    """A model that gives every byte the same probability."""
    return [(len(ids) - 1) * math.log(256) for ids in sequences]


def to_bytes(text: str) -> list[int]:
    return list(text.encode())


@given(st.lists(st.text(min_size=1), min_size=1, max_size=8))
def test_a_uniform_model_of_bytes_costs_eight_bits_a_byte(texts: list[str]) -> None:
    texts = [text.encode("utf-8", "ignore").decode() or "a" for text in texts]
    score = score_texts(texts, encode=to_bytes, negative_log_likelihoods=uniform, start_token=0)
    num_bytes = sum(len(text.encode()) for text in texts)
    num_characters = sum(map(len, texts))
    assert score.bits_per_character == pytest.approx(8 * num_bytes / num_characters)
    assert score.bits_per_token == pytest.approx(8)
    assert score.tokens_per_character == pytest.approx(num_bytes / num_characters)


def test_tokens_per_character_counts_only_the_target_script() -> None:
    score = score_texts(
        ["他有3本book。", "好"],
        encode=to_bytes,
        negative_log_likelihoods=uniform,
        start_token=0,
        scripts=("Han",),
    )
    assert score.tokens_per_character == 3
    assert score.num_target_characters == 4
    assert script_runs(["他有3本book书。"], ["Han"]) == ["他有", "本", "书"]


def test_impossible_scores_are_refused() -> None:
    for texts, nats in ((["a"], [math.nan]), (["a"], []), ([], []), ([""], [1.0])):
        with pytest.raises(DataError):
            score_texts(
                texts,
                encode=to_bytes,
                negative_log_likelihoods=lambda ids, nats=nats: nats,  # type: ignore[misc]
                start_token=0,
            )


def test_the_interval_holds_the_mean_and_shrinks_with_texts() -> None:
    few = bootstrap_interval([10.0, 20.0, 15.0, 13.0], [5, 5, 5, 5], seed=0)
    many = bootstrap_interval([10.0, 20.0, 15.0, 13.0] * 50, [5] * 200, seed=0)
    mean = 58 / 20
    assert few[0] < mean < few[1]
    assert many[0] < mean < many[1]
    assert many[1] - many[0] < few[1] - few[0]
    assert bootstrap_interval([10.0] * 9, [5] * 9, seed=1) == (2.0, 2.0)
    with pytest.raises(DataError):
        bootstrap_interval([1.0], [1], seed=0)


def test_speed_is_the_median_rate() -> None:
    assert characters_per_second([(10, 1.0), (30, 1.0), (20, 1.0)]) == 20
    with pytest.raises(DataError):
        characters_per_second([])
    with pytest.raises(DataError):
        characters_per_second([(3, 0.0)])
