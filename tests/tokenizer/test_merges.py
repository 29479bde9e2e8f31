"""Learning and choosing merges, against a slow and simple BPE written out here."""

from collections import Counter
from collections.abc import Callable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hanpaca.tokenizer.extension.merges import Merge, choose_merges, learn_merges

Split = Callable[[bytes], Sequence[bytes]]


def single_bytes(text: bytes) -> list[bytes]:
    return [text[i : i + 1] for i in range(len(text))]


def split_lead(text: bytes) -> list[bytes]:
    """A base that has every two-byte beginning of a character, and single bytes."""
    return [part for i in range(0, len(text), 3) for part in (text[i : i + 2], text[i + 2 : i + 3])]


def learn(
    counts: dict[str, int],
    *,
    split: Split = single_bytes,
    owned: bool | None = True,
    avoid: Sequence[str] = (),
) -> list[Merge]:
    """`owned` None is a base that completes characters at once, as SentencePiece does."""
    return learn_merges(
        ((split(text.encode()), count) for text, count in counts.items()),
        owns_prefix=None if owned is None else lambda prefix: owned,
        num_merges=100,
        avoid={piece.encode() for piece in avoid},
    )


def m(left: str, right: str, uses: int) -> Merge:
    return Merge((left.encode(), right.encode()), uses)


def chosen_of(
    merges: list[Merge], known: str, num_pieces: int, **options: object
) -> tuple[list[Merge], list[str]]:
    letters = {letter.encode() for letter in known}
    found = choose_merges(merges, known=letters, num_pieces=num_pieces, **options)  # type: ignore[arg-type]
    return found.merges, [piece.decode() for piece in found.pieces]


def uses_by_replay(words: list[tuple[list[bytes], int]], merges: Sequence[Merge]) -> list[int]:
    """Apply the merges one after another, left to right, and count."""
    uses = []
    for merge in merges:
        total = 0
        size = len(merge.parts)
        for word, count in words:
            i = 0
            while i <= len(word) - size:
                if tuple(word[i : i + size]) == merge.parts:
                    word[i : i + size] = [merge.piece]
                    total += count
                i += 1
        uses.append(total)
    return uses


@pytest.mark.parametrize("owned", [True, None])
@given(
    counts=st.dictionaries(
        st.text("白日依山尽", min_size=1, max_size=8), st.integers(1, 9), min_size=1, max_size=20
    )
)
def test_uses_are_what_a_replay_counts(owned: bool | None, counts: dict[str, int]) -> None:
    merges = learn(counts, owned=owned)
    words = [(single_bytes(text.encode()), count) for text, count in counts.items()]
    assert [merge.uses for merge in merges] == uses_by_replay(words, merges)


def test_a_character_is_completed_from_left_to_right() -> None:
    lead, middle, last = single_bytes("白".encode())
    assert learn({"白": 3}) == [Merge((lead, middle), 3), Merge((lead + middle, last), 3)]


def test_a_base_with_byte_fallback_completes_a_character_at_once() -> None:
    (merge,) = learn({"白": 3}, owned=None)
    assert merge == Merge(tuple(single_bytes("白".encode())), 3)
    assert (merge.piece.decode(), merge.saved) == ("白", 6)


def test_half_characters_are_shared_by_the_characters_they_begin() -> None:
    pair = "白".encode()[:2]  # 百 begins with the same two bytes
    assert "百".encode().startswith(pair)
    assert {merge.piece: merge.uses for merge in learn({"白": 3, "百": 4})}[pair] == 7


def test_a_prefix_that_others_share_leaves_its_characters_out() -> None:
    assert learn({"白日": 5}, owned=False) == []


def test_a_base_that_knows_the_prefix_needs_no_permission() -> None:
    merges = learn({"白日": 5}, split=split_lead, owned=False)
    assert [merge.piece.decode() for merge in merges] == ["日", "白", "白日"]


def test_a_base_token_across_two_characters_ends_the_word() -> None:
    def straddle(text: bytes) -> list[bytes]:
        return [text[:3], text[3:5], text[5:7], text[7:9], text[9:]]  # 白|日 依|山: 日依 shared

    assert learn({"白日依山": 5}, split=straddle) == []


def test_a_bare_space_ends_the_word() -> None:
    def letters(text: bytes) -> list[bytes]:
        return [letter.encode() for letter in text.decode()]

    assert [merge.parts for merge in learn({" ab": 5}, split=letters)] == [(b"a", b"b")]


def test_ties_fall_the_same_way_whatever_the_order_of_the_text() -> None:
    counts = dict.fromkeys(("白日", "依山", "黄河", "入海", "千里", "上楼"), 2)
    assert learn(counts) == learn(dict(reversed(counts.items())))


def test_a_long_repeated_word_is_counted_across_chunks() -> None:
    merges = learn({"白日依山尽黄河入海流": 20_000, "白日": 1})
    assert {merge.uses for merge in merges if merge.piece == "白日".encode()} == {20_001}


def test_a_count_of_0_gives_the_way_to_a_character() -> None:
    merges = learn({"白日": 2, "龘": 0}, owned=None)
    assert {merge.piece.decode(): merge.uses for merge in merges} == {
        "白": 2, "日": 2, "龘": 0, "白日": 2,
    }  # fmt: skip


def test_what_must_not_be_made_is_made_by_no_way() -> None:
    merges = learn({"abcab": 9, "xbc": 3}, avoid=["bc", "abc"])
    made = {merge.piece.decode() for merge in merges}
    assert made.isdisjoint({"bc", "abc"})
    assert made >= {"ab", "xbc"}  # by way of "xb"


def test_the_most_saving_are_chosen_and_stay_in_order() -> None:
    merges = [m("a", "b", 9), m("c", "d", 5), m("ab", "x", 7), m("cd", "x", 2)]
    assert chosen_of(merges, "abcdx", 3) == (merges[:3], ["ab", "cd", "abx"])


def test_a_piece_is_never_chosen_without_its_parts() -> None:
    assert chosen_of([m("ab", "x", 9)], "abx", 3) == ([], [])


def test_a_merge_into_a_known_entry_costs_no_place() -> None:
    merges = [m("a", "b", 9), m("ab", "c", 8)]
    known = {b"a", b"b", b"c", b"ab"}
    found = choose_merges(merges, known=known, num_pieces=1)
    assert (found.merges, found.pieces) == (merges, [b"abc"])


def test_what_occurs_once_is_not_worth_a_row() -> None:
    assert chosen_of([m("a", "b", 1)], "ab", 1) == ([], [])


def test_a_refused_piece_takes_what_is_made_of_it_along() -> None:
    merges = [m("a", "b", 9), m("ab", "x", 7), m("c", "d", 5)]
    assert chosen_of(merges, "abcdx", 3, refused=lambda piece: piece == b"ab")[1] == ["cd"]


def test_a_required_piece_comes_first_with_its_parts() -> None:
    merges = [m("a", "b", 9), m("c", "d", 0), m("cd", "x", 0)]
    assert chosen_of(merges, "abcdx", 2, required=[b"cdx"])[1] == ["cd", "cdx"]
    assert chosen_of(merges, "abcdx", 3, required=[b"cdx"])[1] == ["ab", "cd", "cdx"]


@pytest.mark.parametrize("owned", [True, None])
@given(
    texts=st.lists(st.text("白日依山尽黄河", min_size=1, max_size=9), min_size=1, max_size=30),
    num_pieces=st.integers(1, 60),
)
def test_every_chosen_piece_forms_from_its_own_bytes(
    owned: bool | None, texts: list[str], num_pieces: int
) -> None:
    merges = learn(dict(Counter(texts)), owned=owned)
    known = set(single_bytes(bytes(range(256))))
    chosen = choose_merges(merges, known=known, num_pieces=num_pieces)
    assert len(chosen.pieces) <= num_pieces
    for piece in chosen.pieces:
        word = [(single_bytes(piece), 1)]
        uses_by_replay(word, chosen.merges)
        assert word[0][0] == [piece]
