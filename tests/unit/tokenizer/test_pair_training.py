"""Training in flat arrays, against the `tokenizers` library and worked examples."""

import json

from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

from hanpaca.tokenizer.pair_training import Joined, train_pairs


def train(words: dict[str, int], num_made: int = 100, max_letters: int = 15) -> list[Joined]:
    letters = sorted({letter for word in words for letter in word})
    return train_pairs(
        list(words.items()), letters, num_made=num_made, min_uses=2, max_letters=max_letters
    )


def library_pairs(words: dict[str, int], num_made: int) -> list[tuple[str, str]]:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    num_letters = len({letter for word in words for letter in word})
    trainer = trainers.BpeTrainer(
        vocab_size=num_letters + num_made,
        min_frequency=2,
        max_token_length=16,  # the library joins what is shorter
        show_progress=False,
    )
    lines = [" ".join([word] * count) for word, count in words.items()]
    tokenizer.train_from_iterator(lines, trainer)
    return [(left, right) for left, right in json.loads(tokenizer.to_str())["model"]["merges"]]


def library_uses(words: dict[str, int], pairs: list[tuple[str, str]]) -> list[int]:
    """Encode with the library, and walk back from what stands at the end."""
    entries = [*sorted({c for word in words for c in word}), *(a + b for a, b in pairs)]
    ids = {entry: number for number, entry in enumerate(dict.fromkeys(entries))}
    tokenizer = Tokenizer(models.BPE(vocab=ids, merges=pairs))
    made = dict.fromkeys(ids, 0)
    for word, count in words.items():
        for token in tokenizer.encode(word).tokens:
            made[token] += count
    uses = []
    for left, right in reversed(pairs):
        uses.append(made[left + right])
        made[left] += uses[-1]
        made[right] += uses[-1]
    return uses[::-1]


def corpora(letters: str) -> st.SearchStrategy[dict[str, int]]:
    words = st.text(letters, min_size=1, max_size=24)
    return st.dictionaries(words, st.integers(1, 9), min_size=1, max_size=40)


@given(corpora("ab") | corpora("白日依山尽黄河") | corpora("abcdefghijklmnop"), st.integers(1, 60))
@settings(max_examples=400, deadline=None)
def test_merges_and_uses_are_the_librarys(words: dict[str, int], num_made: int) -> None:
    joined = train(words, num_made)
    pairs = library_pairs(words, num_made)
    assert [(one.left, one.right) for one in joined] == pairs
    assert [one.uses for one in joined] == library_uses(words, pairs)


def test_the_most_frequent_pair_comes_first_and_ties_fall_by_letter() -> None:
    assert train({"abab": 3, "cd": 6, "ce": 6}) == [
        Joined("a", "b", 6),
        Joined("c", "d", 6),
        Joined("c", "e", 6),
        Joined("ab", "ab", 3),
    ]


def test_a_row_of_one_letter_is_joined_from_the_left() -> None:
    assert train({"aaaaa": 2}) == [
        Joined("a", "a", 4),
        Joined("aa", "a", 2),
        Joined("aa", "aaa", 2),
    ]


def test_words_do_not_touch_and_rare_pairs_stay() -> None:
    assert train({"ab": 1, "cd": 1, "a": 5, "b": 5}) == []


def test_pieces_and_their_number_are_limited() -> None:
    assert max(len(one.left + one.right) for one in train({"abcdefgh": 9}, max_letters=4)) == 4
    assert len(train({"abcdefgh": 9}, num_made=3)) == 3


def test_no_words_give_no_merges() -> None:
    assert train({}) == []
    assert train({"a": 4}) == []
