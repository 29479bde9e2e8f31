"""Changed stretches: complete, minimal, counted."""

from hypothesis import given
from hypothesis import strategies as st

from hanpaca.tokenizer.audits.changes import ChangedStretch, Changes, Token, differing_spans

TEXT = "白日 依山尽 abc".encode()
CUTS = st.sets(st.integers(1, len(TEXT) - 1)).map(sorted)


def tokens(cuts: list[int]) -> list[Token]:
    ends = [*cuts, len(TEXT)]
    return [(1, TEXT[start:end]) for start, end in zip([0, *cuts], ends, strict=True)]


def test_a_changed_word_is_found_with_its_place() -> None:
    changes = Changes()
    for _ in range(2):
        changes.add(
            [(1, b"many"), (2, b" people"), (3, b"!")],
            [(1, b"many"), (4, b" p"), (5, b"eople"), (3, b"!")],
        )
    assert changes.most_common(5) == (
        ChangedStretch((" people",), (" p", "eople"), 2, "many people!"),
    )


def test_another_id_for_the_same_bytes_is_a_change() -> None:
    spans = list(differing_spans([(1, b"a"), (2, b"b")], [(1, b"a"), (9, b"b")]))
    assert spans == [(1, 2, ((b"b",), (b"b",)))]


def test_texts_of_other_bytes_end_in_one_span() -> None:
    spans = list(differing_spans([(1, b"a"), (2, b"bc")], [(1, b"a"), (2, b"b")]))
    assert spans == [(1, 3, ((b"bc",), (b"b",)))]


@given(before=CUTS, after=CUTS)
def test_spans_hold_every_difference_and_no_common_cut(before: list[int], after: list[int]) -> None:
    spans = list(differing_spans(tokens(before), tokens(after)))
    common = set(before) & set(after)
    covered: set[int] = set()
    for start, end, (old, new) in spans:
        assert b"".join(old) == b"".join(new) == TEXT[start:end]
        assert not common & set(range(start + 1, end))
        covered |= set(range(start + 1, end))
    assert set(before) ^ set(after) <= covered
