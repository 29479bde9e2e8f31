import re

import pytest

from hanpaca.app.words import WORDS, language


def test_both_languages_have_every_word_and_the_same_places_for_numbers() -> None:
    english, chinese = WORDS["en"], WORDS["zh"]
    assert english.keys() == chinese.keys()
    for key, word in english.items():
        assert sorted(re.findall(r"{\w+}", word)) == sorted(re.findall(r"{\w+}", chinese[key]))


@pytest.mark.parametrize(
    ("accepted", "expected"),
    [
        (None, "en"),
        ("", "en"),
        ("zh-CN,zh;q=0.9,en;q=0.8", "zh"),
        ("zh-Hant-TW", "zh"),
        ("en-GB,en;q=0.9,zh;q=0.1", "en"),
        ("en;q=0.1, zh;q=0.2", "zh"),
        ("ja,fr", "en"),
        ("zh;q=much,en", "en"),
        ("zh;q=0", "en"),
    ],
)
def test_the_language_is_the_one_the_browser_likes_better(
    accepted: str | None, expected: str
) -> None:
    assert language(accepted) == expected
