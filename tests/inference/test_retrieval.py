"""Passages are found by pairs of characters, weighed by BM25, and leave with their file."""

import math
import random
import sqlite3
from collections import Counter
from pathlib import Path

import pytest

from hanpaca.data.asking import CHINESE, ENGLISH, subject_of, wording_for
from hanpaca.data.readers.parts import TextPart
from hanpaca.errors import ArtifactError, ResourceError
from hanpaca.inference.retrieval import search as searching
from hanpaca.inference.retrieval.index import Index, IndexedFile
from hanpaca.inference.retrieval.search import search
from hanpaca.inference.retrieval.terms import query_of, terms_of

FILE = IndexedFile("a.txt", "state", "")
TEXTS = (
    "画蛇添足：比喻做了多余的事，反而有害无益。",
    "守株待兔：比喻不主动努力，而存侥幸心理，希望得到意外的收获。",
    "龙井茶产于杭州，是绿茶。",
    "LoRA of rank 8 adapts Llama-2 without changing it.",
)


def index_of(path: Path, texts: tuple[str, ...] = TEXTS) -> Index:
    index = Index(path, make=True)
    with index.changing():
        index.replace(FILE, (TextPart(text, "row", n) for n, text in enumerate(texts, 1)))
    return index


@pytest.mark.parametrize(
    ("question", "number"),
    [
        ("画蛇", 1),
        ("兔", 2),
        ("茶", 3),
        ("龙井茶的产地", 3),
        ("ＬＯＲＡ", 4),
        ("what about llama 2", 4),
        ("股票", None),
        ("？！", None),
        ("", None),
        ('"a" OR NEAR( * ^', None),
    ],
)
def test_words_of_one_and_two_characters_are_found(
    tmp_path: Path, question: str, number: int | None
) -> None:
    with index_of(tmp_path / "i") as index:
        found = [hit.number for hit in search(index, question, num_hits=5)]
    assert found[:1] == ([number] if number else [])


def test_every_character_of_a_text_begins_a_term() -> None:
    for text in TEXTS:
        begun = {term[0] for term in terms_of(text)}
        assert {one.lower() for one in text if one.isalnum() and not one.isascii()} <= begun
    assert query_of("𠮷野家") == (["𠮷野", "野家"], [])


def bm25(texts: list[str], question: str) -> dict[int, float]:
    """As it is defined, over all texts."""
    bags = [Counter(terms_of(text)) for text in texts]
    mean = sum(map(Counter.total, bags)) / len(bags)
    scores = {}
    for number, bag in enumerate(bags, 1):
        score = 0.0
        for term in query_of(question)[0]:
            having = sum(term in one for one in bags)
            idf = math.log(1 + (len(bags) - having + 0.5) / (having + 0.5))
            long = 1 - 0.75 + 0.75 * bag.total() / mean
            score += idf * bag[term] * 2.2 / (bag[term] + 1.2 * long)
        scores[number] = score
    return scores


@pytest.mark.slow
def test_scores_are_bm25_and_the_best_are_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where only the rarest terms may be looked up."""
    draw = random.Random(0)
    letters = "甲乙丙丁戊己庚辛壬癸子丑"
    texts = [
        "".join(draw.choices(letters, range(12, 0, -1), k=draw.randint(4, 60))) for _ in range(300)
    ]
    with index_of(tmp_path / "i", tuple(texts)) as index:
        for most in (10_000, 120):
            monkeypatch.setattr(searching, "_MOST_ROWS", most)
            for _ in range(30):
                question = "".join(draw.choices(letters, k=5))
                truth = bm25(texts, question)
                hits = search(index, question, num_hits=3)
                assert all(hit.score == pytest.approx(truth[hit.number]) for hit in hits)
                assert all(0 < hit.share <= 1 for hit in hits)
                if most == 10_000:
                    best = sorted(truth.values(), reverse=True)[:3]
                    assert [hit.score for hit in hits] == pytest.approx(best)


def test_a_file_that_leaves_takes_its_terms_along(tmp_path: Path) -> None:
    other = IndexedFile("b.txt", "", "")
    with index_of(tmp_path / "i") as index:
        with index.changing():
            index.replace(other, [TextPart(TEXTS[0], "line", 1)])
            index.replace(FILE, [TextPart("新的", "line", 1)])
        assert [hit.number for hit in search(index, "画蛇添足", num_hits=9)] == [5]
        with index.changing():
            index.remove("b.txt")
        assert search(index, "画蛇添足", num_hits=9) == []
        assert index.totals() == (1, 2)
        index.database.execute("INSERT INTO words(words) VALUES('integrity-check')")


def test_what_fails_while_a_file_is_read_leaves_it_as_it_was(tmp_path: Path) -> None:
    def broken() -> object:
        yield TextPart("新的", "line", 1)
        raise OSError

    with index_of(tmp_path / "i") as index:
        with index.changing(), pytest.raises(OSError):  # noqa: PT011
            index.replace(FILE, broken())  # type: ignore[arg-type]
        assert index.num_passages == len(TEXTS)
        assert search(index, "新的", num_hits=1) == []


def test_what_is_no_index_is_said(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"no index of documents: make one with hanpaca\.ask_a"):
        Index(tmp_path / "none")
    (tmp_path / "text").write_text("a text, and no database at all" * 100)
    with pytest.raises(ArtifactError, match="not an index of documents"):
        Index(tmp_path / "text", make=True)
    with sqlite3.connect(tmp_path / "other") as other:
        other.execute("CREATE TABLE a(b)")
    with pytest.raises(ArtifactError, match="not an index of documents"):
        Index(tmp_path / "other")
    with pytest.raises(ResourceError, match="cannot be opened"):
        Index(tmp_path / "no/folder", make=True)


def test_two_at_once_are_told_apart(tmp_path: Path) -> None:
    with index_of(tmp_path / "i") as one, Index(tmp_path / "i") as other, one.changing():
        other.database.execute("PRAGMA busy_timeout = 1")
        with pytest.raises(ResourceError, match="locked"), other.changing():
            pass


@pytest.mark.parametrize(
    ("question", "subject"),
    [
        ("画蛇添足是什么意思？", "画蛇添足"),
        ("请问龙井茶产于哪里", "龙井茶产于"),
        ("Where is the tea from?", "tea"),
        ("誰的電腦", "電腦"),
    ],
)
def test_words_that_only_ask_are_not_looked_for(question: str, subject: str) -> None:
    assert query_of(subject_of(question)) == query_of(subject)


def test_a_question_is_asked_in_its_own_language() -> None:
    assert wording_for("LoRA是什么") is CHINESE
    assert wording_for("What is LoRA?") is wording_for("123") is ENGLISH


def test_the_counts_kept_are_those_of_the_words(tmp_path: Path) -> None:
    chance = random.Random(0)
    with Index(tmp_path / "i", make=True) as index:
        for turn in range(30):
            name = f"{chance.randrange(6)}.txt"
            texts = ["".join(chance.choices("茶树山水a b", k=12)) for _ in range(3)]
            parts = [TextPart(text, "row", n) for n, text in enumerate(texts, 1)]
            with index.changing():
                if turn % 4 == 0:
                    index.remove(name)
                else:
                    index.replace(IndexedFile(name, "", ""), parts)
            with pytest.raises(ZeroDivisionError), index.changing():
                index.replace(IndexedFile(name, "", ""), (parts[1 // (1 - n)] for n in range(2)))
        index.database.execute("CREATE VIRTUAL TABLE temp.v USING fts5vocab(main, words, row)")
        counted = dict(index.database.execute("SELECT term, doc FROM temp.v"))
        assert dict(index.database.execute("SELECT term, num_passages FROM terms")) == counted
        assert len(counted) > 20
