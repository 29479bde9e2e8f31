"""Passages: short paragraphs together, long ones cut at sentences, nothing lost, places right."""

from hypothesis import given
from hypothesis import strategies as st

from hanpaca.data.passages import passages
from hanpaca.data.readers.parts import TextPart

SENTENCE = "春眠不觉晓，处处闻啼鸟。"


def test_short_paragraphs_that_follow_each_other_are_one_passage() -> None:
    parts = [TextPart(SENTENCE, "line", number) for number in (1, 3, 5)]
    assert list(passages(parts, characters=30)) == [
        TextPart(f"{SENTENCE}\n{SENTENCE}", "line", 1),
        TextPart(SENTENCE, "line", 5),
    ]


def test_rows_pages_and_chapters_are_never_joined() -> None:
    parts = [TextPart(SENTENCE, "page", 1), TextPart(SENTENCE, "page", 2), TextPart("一", "row", 1)]
    assert list(passages(parts)) == parts


def test_a_long_paragraph_is_cut_at_sentences_and_the_last_begins_the_next() -> None:
    sentences = [f"第{n}句话到这里为止！”" for n in range(10)]
    found = [one.text for one in passages([TextPart("".join(sentences), "page", 4)], characters=50)]
    assert found[0] == "".join(sentences[:4])
    assert found[1] == "".join(sentences[3:7])
    assert all(len(one) <= 50 for one in found)


def test_places_are_the_lines_where_passages_begin() -> None:
    lines = [f"{number:03}" + "字" * 45 for number in range(1, 41)]
    found = list(passages([TextPart("\n".join(lines), "line", 11)], characters=200))
    assert len(found) > 8
    assert [one.number - 10 for one in found] == [int(one.text[:3]) for one in found]


def test_english_is_cut_at_sentences_too() -> None:
    text = "Version 1.5 is out. It is good! Is it? " * 5
    found = [one.text for one in passages([TextPart(text, "page", 1)], characters=50)]
    assert found[0] == "Version 1.5 is out. It is good! Is it?"


@given(st.lists(st.text("字a。！\n ,", max_size=80), max_size=6), st.integers(5, 60))
def test_nothing_is_lost_and_nothing_is_too_long(texts: list[str], characters: int) -> None:
    for unit in ("line", "page"):
        parts = [TextPart(text, unit, n) for n, text in enumerate(texts, 1) if text.strip()]
        found = [one.text for one in passages(parts, characters=characters)]
        assert all(len(one) <= characters for one in found)
        rest = "".join("".join(found).split())
        for letter in "".join("".join(one.text for one in parts).split()):
            place = rest.find(letter)  # overlaps may stand between
            assert place >= 0
            rest = rest[place + 1 :]
