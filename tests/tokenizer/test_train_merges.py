"""The two trainers: the one in Python must find what the library finds."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hanpaca.tokenizer.extension.train_merges import (
    count_uses,
    join,
    train_pairs,
    train_pairs_avoiding,
)

WORDS = st.dictionaries(st.text("abcde", min_size=2, max_size=12), st.integers(1, 9), max_size=25)


@given(words=WORDS, num_pieces=st.integers(0, 30))
def test_with_nothing_to_avoid_both_trainers_agree(words: dict[str, int], num_pieces: int) -> None:
    expected = train_pairs(words, num_pieces)
    assert train_pairs_avoiding(words, num_pieces, lambda piece: False) == expected


@given(words=WORDS, avoided=st.sets(st.text("abcde", min_size=2, max_size=3), max_size=6))
def test_what_is_avoided_is_never_made(words: dict[str, int], avoided: set[str]) -> None:
    pairs = train_pairs_avoiding(words, 50, avoided.__contains__)
    letters = {letter for word in words for letter in word}
    made: set[str] = set()
    for left, right in pairs:
        assert {left, right} <= made | letters
        made.add(left + right)
    assert made.isdisjoint(avoided)


@pytest.mark.parametrize("length", [14, 15, 16, 40])
def test_long_pieces_are_left_out_by_both(length: int) -> None:
    for word in ("abcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyz"[:length], "a" * length):
        pairs = train_pairs({word: 9}, 99)
        assert train_pairs_avoiding({word: 9}, 99, lambda piece: False) == pairs
        assert max(len(left + right) for left, right in pairs) <= 15


def test_uses_count_each_application() -> None:
    words = {"abab": 3, "abc": 2}
    assert count_uses(words, [("a", "b"), ("ab", "ab"), ("ab", "c")]) == [8, 3, 2]


@pytest.mark.parametrize(
    ("word", "joined"), [("aaa", ["aa", "a"]), ("baab", ["b", "aa", "b"]), ("", [])]
)
def test_pairs_are_joined_from_the_left(word: str, joined: list[str]) -> None:
    parts = list(word)
    join(parts, ("a", "a"))
    assert parts == joined
