"""Cutting words at rare pairs: the same merges as without, down to the floor."""

from hypothesis import given
from hypothesis import strategies as st

from hanpaca.tokenizer.extension.rare_pairs import PairCounts
from hanpaca.tokenizer.extension.train_merges import count_uses, train_pairs

WORDS = st.dictionaries(
    st.text("白日依山尽黄", min_size=2, max_size=12), st.integers(1, 9), min_size=1, max_size=25
)


@given(words=WORDS, floor=st.integers(1, 20))
def test_merges_with_enough_uses_are_found_all_the_same(words: dict[str, int], floor: int) -> None:
    whole = train_pairs(words, 50)
    expected = [p for p in zip(whole, count_uses(words, whole), strict=True) if p[1] >= floor]
    cut = PairCounts(words).cut(words, floor)
    pairs = train_pairs(cut, 50)
    found = [p for p in zip(pairs, count_uses(cut, pairs), strict=True) if p[1] >= floor]
    assert found == expected


def test_words_are_cut_between_letters_that_rarely_meet() -> None:
    words = {"白日依山": 5, "日依": 1, "山尽": 2, "尽": 9}
    assert PairCounts(words).cut(words, 6) == {"日依": 6}
    assert PairCounts(words).cut(words, 5) == {"白日依山": 5, "日依": 1}
    assert PairCounts(words).cut(words, 1) == {"白日依山": 5, "日依": 1, "山尽": 2}


def test_the_floor_is_a_part_of_a_frequent_pairs_count() -> None:
    words = {"白日": 900, "依山": 600, "黄河": 300}
    assert [PairCounts(words).floor(n) for n in (1, 2, 3, 4)] == [300, 200, 100, 0]
