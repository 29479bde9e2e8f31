"""Evaluation texts in training texts, against a search for the words themselves."""

import random

import regex

from hanpaca.data.cleaning.characters import codes_of, normalised
from hanpaca.data.cleaning.leaks import Grams

QUESTION = "下列哪一项不属于我国古代四大发明之一的是什么东西"
ENGLISH = "Which of the following is not one of the four great inventions of ancient China"


def found_in(evaluation: list[str], text: str, num_units: int = 13) -> bool:
    return Grams.of(evaluation, num_units=num_units).are_in(codes_of(normalised(text)))


def slow_units(text: str) -> list[str]:
    units: list[str] = regex.findall(
        r"[\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}]|[\p{Latin}\p{N}\p{M}]+", text
    )
    return units


def test_a_question_is_found_whatever_signs_and_spaces_stand_in_it() -> None:
    assert found_in([QUESTION], f"问：下列哪一项，不属于“我国 古代四大发明”之一的？{ENGLISH}")
    assert found_in(
        [normalised(ENGLISH)],
        "x: WHICH of the following,\nis not one of: the “four” great inventions, of",
    )
    assert not found_in([QUESTION], "下列哪一项不属于我国现代四大发明之一的是什么")


def test_thirteen_units_are_enough_and_twelve_are_not() -> None:
    assert found_in([QUESTION], "甲" + QUESTION[3:16] + "乙")
    assert not found_in([QUESTION], "甲" + QUESTION[3:15] + "乙")
    assert found_in([QUESTION], "甲" + QUESTION[3:9] + "乙", num_units=6)


def test_short_evaluation_texts_are_counted_and_not_looked_for() -> None:
    grams = Grams.of(["春天", QUESTION, "", "A"], num_units=13)
    assert (grams.num_texts, grams.num_short) == (4, 3)
    assert not grams.are_in(codes_of("春天"))
    assert not Grams.of([], num_units=13).are_in(codes_of(QUESTION))


def test_words_that_begin_alike_or_hold_the_same_letters_are_other_words() -> None:
    words = "a ab abc abcd b ba bca c ca cab abcabc abcabcd dcba"
    assert found_in([words], words)
    assert not found_in([words], words.replace("abcabcd", "abcabcx"))
    assert not found_in([words], words.replace(" ", ""))


def test_leaks_are_those_that_a_search_for_runs_of_units_finds() -> None:
    random_ = random.Random(7)
    letters = "山水春花月 ab。"
    evaluation = ["".join(random_.choices(letters, k=30)) for _ in range(30)]
    runs = {
        tuple(units[i : i + 5])
        for units in map(slow_units, evaluation)
        for i in range(len(units) - 4)
    }
    grams = Grams.of(evaluation, num_units=5)
    answers = []
    for _ in range(300):
        text = "".join(random_.choices(letters, k=12))
        units = slow_units(text)
        expected = any(tuple(units[i : i + 5]) in runs for i in range(len(units) - 4))
        assert grams.are_in(codes_of(text)) == expected
        answers.append(expected)
    assert 20 < sum(answers) < 280
