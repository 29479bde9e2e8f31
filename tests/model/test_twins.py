import itertools
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hanpaca.errors import DataError
from hanpaca.model.fit import spell_out
from hanpaca.model.load import CausalLM, load_model
from hanpaca.model.twins import language_directions, twin_head_rows, twin_ids

WORDS = ["water", "fire", "mountain", "river", "school", "learn", "of", "up", "gate"]
BYTE_LEVEL = {f"\u0120{word}": number for number, word in enumerate(WORDS)} | {
    "w": 90,
    "\u0120W": 91,
}
SENTENCEPIECE = {f"\u2581{word}": number for number, word in enumerate(WORDS)}
DICTIONARY = {
    "水": ["water"],
    "河": ["river", "water"],
    "山": ["big mountain", "mountain"],
    "学": ["learn"],
    "校": ["building of a school"],
    "学校": ["college"],
    "口": ["gate"],
    "江": ["river"],
}


def named(ids: list[int]) -> list[str]:
    return [WORDS[number] for number in ids]


@pytest.mark.parametrize("vocabulary", [BYTE_LEVEL, SENTENCEPIECE])
def test_a_piece_gets_the_word_that_translates_it(vocabulary: dict[str, int]) -> None:
    assert named(twin_ids(["水", "山", "河"], DICTIONARY, vocabulary)) == [
        "water",
        "mountain",
        "river",
    ]


def test_a_word_is_given_once_and_the_next_translation_is_taken() -> None:
    # river is gone, so 河 has its second meaning; 江 has none left and gets a word of another one.
    twins = named(twin_ids(["江", "河", "水"], DICTIONARY, BYTE_LEVEL))
    assert twins[:2] == ["river", "water"]
    assert twins[2] not in twins[:2]


def test_a_piece_without_an_entry_has_the_words_of_its_characters() -> None:
    assert named(twin_ids(["学校", "山口"], DICTIONARY, BYTE_LEVEL)) == ["learn", "mountain"]


def test_a_wide_sign_gets_the_narrow_one() -> None:
    assert twin_ids(["；", "水"], DICTIONARY, BYTE_LEVEL | {";": 44})[0] == 44


def test_a_letter_is_not_the_byte_of_its_name() -> None:
    assert twin_ids(["é", "水"], DICTIONARY, BYTE_LEVEL | {"é": 44})[0] != 44


def test_of_a_longer_gloss_the_last_word_counts() -> None:
    assert named(twin_ids(["校"], DICTIONARY, BYTE_LEVEL)) == ["school"]


@given(
    st.lists(
        st.text("水河山学校口江龙", min_size=1, max_size=4), min_size=1, max_size=9, unique=True
    )
)
def test_no_two_pieces_share_a_word_while_there_are_others(pieces: list[str]) -> None:
    pieces = list(dict.fromkeys([*pieces, "水"]))
    twins = twin_ids(pieces, DICTIONARY, BYTE_LEVEL)
    longer = sum(len(word) >= 4 for word in WORDS)
    assert len(set(twins)) >= min(len(pieces), longer)


def test_more_pieces_than_words_share_them_evenly() -> None:
    pieces = ["水", *("".join(pair) for pair in itertools.product("龘靐", "龘靐龗"))] * 3
    twins = twin_ids(pieces, DICTIONARY, BYTE_LEVEL)
    counts = [twins.count(number) for number in set(twins)]
    assert len(twins) == 21
    assert max(counts) <= 5


def test_a_vocabulary_without_english_words_is_told() -> None:
    with pytest.raises(DataError, match="the base's vocabulary has none"):
        twin_ids(["水"], DICTIONARY, {"a": 0, "\u0120": 1, "\u0120W": 2})


def test_a_dictionary_of_another_language_is_told() -> None:
    with pytest.raises(
        DataError, match=r"none of the new pieces, such as '학교'.* is dictionary= of"
    ):
        twin_ids(["\ufffd", "학교"], DICTIONARY, BYTE_LEVEL)


def test_directions_raise_one_language_and_leave_the_other() -> None:
    torch.manual_seed(0)
    new_td = torch.randn(4_000, 32) + 4 * torch.eye(32)[0]
    old_td = torch.randn(4_000, 32) + 4 * torch.eye(32)[1]
    raised_d, lowered_d = language_directions(new_td, old_td)
    for direction_d, raised, left in ((raised_d, new_td, old_td), (lowered_d, old_td, new_td)):
        assert (raised @ direction_d).mean() == pytest.approx(1, abs=0.15)
        assert (left @ direction_d).mean() == pytest.approx(0, abs=0.15)


def test_head_rows_give_each_piece_its_share_of_the_text(pico_untied: Path) -> None:
    model: CausalLM = load_model(pico_untied, dtype=torch.float32).requires_grad_(False)
    first = model.config.vocab_size
    spellings = [[20, 21], [22, 23, 24], [30, 31]]
    shares_n = torch.tensor([0.3, 0.1, 0.02])
    torch.manual_seed(0)
    drawn = torch.randint(0, 3, (40, 8)).tolist()
    texts = [
        spell_out([1, *(first + one for one in row)], spellings, first_id=first) for row in drawn
    ]
    old = [[1, *row] for row in torch.randint(100, 140, (40, 12)).tolist()]
    rows_nd = twin_head_rows(
        model, [50, 60, 70], num_old=first, texts=texts, old_texts=old, shares_n=shares_n
    )
    head = torch.cat([model.lm_head.weight, rows_nd])
    with torch.inference_mode():
        states = torch.cat(
            [
                model.model(torch.tensor([text.base_ids])).last_hidden_state[0][list(text.ends)][
                    :-1
                ]
                for text in texts
            ]
        )
        given_n = (states @ head.t()).softmax(dim=1)[:, first:].mean(dim=0)
    assert torch.allclose(given_n, shares_n, rtol=0.3)
