"""Learning and choosing merges, against a slow and simple BPE written out here."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from hanpaca.tokenizer.byte_bpe import piece_of_bytes, text_of_piece
from hanpaca.tokenizer.merges import Merge, choose_merges, learn_merges


def p(text: str) -> str:
    return piece_of_bytes(text.encode())


def split_lead(piece: str) -> list[str]:
    """A base that has every two-byte beginning of a character, and single bytes."""
    return [part for i in range(0, len(piece), 3) for part in (piece[i : i + 2], piece[i + 2])]


def learn(counts: dict[str, int], *, owned: bool = True) -> list[Merge]:
    pretokens = {p(text): count for text, count in counts.items()}
    return learn_merges(
        pretokens, split=list, owns_prefix=lambda prefix: owned, num_merges=100
    )  # fmt: skip


def uses_by_replay(words: list[tuple[list[str], int]], merges: list[Merge]) -> list[int]:
    """Apply the merges one after another, left to right, and count."""
    uses = []
    for merge in merges:
        total = 0
        for word, count in words:
            i = 0
            while i < len(word) - 1:
                if (word[i], word[i + 1]) == merge[:2]:
                    word[i : i + 2] = [merge.piece]
                    total += count
                i += 1
        uses.append(total)
    return uses


@given(
    st.dictionaries(
        st.text("白日依山尽", min_size=1, max_size=8), st.integers(1, 9), min_size=1, max_size=20
    )
)
def test_uses_are_what_a_replay_counts(counts: dict[str, int]) -> None:
    merges = learn(counts)
    words = [(list(p(text)), count) for text, count in counts.items()]
    assert [m.uses for m in merges] == uses_by_replay(words, merges)


def test_a_character_is_completed_from_left_to_right() -> None:
    lead, middle, last = list(p("白"))
    assert learn({"白": 3}) == [Merge(lead, middle, 3), Merge(lead + middle, last, 3)]


def test_half_characters_are_shared_by_the_characters_they_begin() -> None:
    pair = p("白")[:2]  # 百 begins with the same two bytes
    assert p("百").startswith(pair)
    assert {m.piece: m.uses for m in learn({"白": 3, "百": 4})}[pair] == 7


def test_a_prefix_that_others_share_leaves_its_characters_out() -> None:
    assert learn({"白日": 5}, owned=False) == []


def test_a_base_that_knows_the_prefix_needs_no_permission() -> None:
    merges = learn_merges(
        {p("白日"): 5}, split=split_lead, owns_prefix=lambda prefix: False, num_merges=10
    )
    assert [m.piece for m in merges] == [p("日"), p("白"), p("白日")]


def test_a_base_token_across_two_characters_ends_the_word() -> None:
    def straddle(piece: str) -> list[str]:
        return [
            piece[:3],
            piece[3:5],
            piece[5:7],
            piece[7:9],
            piece[9:],
        ]  # 白|日 依|山: 日依 shared

    merges = learn_merges(
        {p("白日依山"): 5}, split=straddle, owns_prefix=lambda prefix: True, num_merges=10
    )
    assert merges == []


def test_text_that_the_base_loses_is_left_out() -> None:
    merges = learn_merges(
        {p("白白"): 5}, split=lambda piece: [piece[:3]], owns_prefix=lambda _: True, num_merges=9
    )
    assert merges == []


def test_ties_fall_the_same_way_whatever_the_order_of_the_text() -> None:
    counts = dict.fromkeys(("白日", "依山", "黄河", "入海", "千里", "上楼"), 2)
    assert learn(counts) == learn(dict(reversed(counts.items())))


def test_a_long_repeated_word_is_counted_across_chunks() -> None:
    merges = learn({"白日依山尽黄河入海流": 20_000, "白日": 1})
    assert {m.uses for m in merges if m.piece == p("白日")} == {20_001}


def test_the_most_used_are_chosen_and_stay_in_order() -> None:
    merges = [Merge("a", "b", 9), Merge("c", "d", 5), Merge("ab", "x", 7), Merge("cd", "x", 2)]
    chosen, pieces = choose_merges(merges, known=set("abcdx"), num_pieces=3)
    assert chosen == merges[:3]
    assert pieces == ["ab", "cd", "abx"]


def test_a_piece_is_never_chosen_without_its_parts() -> None:
    chosen, _ = choose_merges([Merge("ab", "x", 9)], known=set("abx"), num_pieces=3)
    assert chosen == []


def test_a_merge_into_a_known_entry_costs_no_place() -> None:
    merges = [Merge("a", "b", 9), Merge("ab", "c", 8)]
    chosen, pieces = choose_merges(merges, known={"a", "b", "c", "ab"}, num_pieces=1)
    assert (chosen, pieces) == (merges, ["abc"])


def test_what_occurs_once_is_not_worth_a_row() -> None:
    assert choose_merges([Merge("a", "b", 1)], known=set("ab"), num_pieces=1) == ([], [])


@given(
    st.lists(st.text("白日依山尽黄河", min_size=1, max_size=9), min_size=1, max_size=30),
    st.integers(1, 60),
)
def test_every_chosen_piece_forms_from_its_own_bytes(texts: list[str], num_pieces: int) -> None:
    merges = learn(dict(Counter(texts)))
    known = set(piece_of_bytes(bytes(range(256))))
    chosen, pieces = choose_merges(merges, known=known, num_pieces=num_pieces)
    for piece in pieces:
        word = [(list(piece), 1)]
        uses_by_replay(word, chosen)
        assert word[0][0] == [piece], text_of_piece(piece)
