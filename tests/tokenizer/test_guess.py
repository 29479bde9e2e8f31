"""Scripts told from a text, or from the tag of its language."""

import unicodedata
from collections.abc import Iterator
from pathlib import Path

import pytest

from hanpaca.errors import DataError
from hanpaca.languages import scripts_of_language
from hanpaca.tokenizer.audits.audit import audit_tokenizers
from hanpaca.tokenizer.extension.extend import extend_tokenizer
from hanpaca.tokenizer.extension.guess import guess_scripts, named_or_guessed
from hanpaca.tokenizer.open import open_tokenizer

THAI = ["ภาษาไทย"] * 9


@pytest.mark.parametrize(
    ("text", "scripts"),
    [
        ("白日依山尽，黄河入海流。", ("Han",)),
        ("漢字とひらがなとカタカナ", ("Han", "Hiragana", "Katakana")),
        ("한국어 문장", ("Hangul",)),
        ("Съешь ещё этих мягких булок", ("Cyrillic",)),
        ("def main(): # 主函数, and much more English than Chinese", ("Han",)),
    ],
)
def test_the_letters_tell_the_scripts(text: str, scripts: tuple[str, ...]) -> None:
    assert guess_scripts([text]) == scripts


def test_a_quotation_is_no_script_of_the_language() -> None:
    assert guess_scripts(["白日依山尽" * 100 + "ひらがな"]) == ("Han",)


@pytest.mark.parametrize("text", ["", "only English", "Tiếng Việt", "12 %, …"])
def test_latin_letters_are_never_guessed(text: str) -> None:
    with pytest.raises(DataError, match="no letters of a script"):
        guess_scripts([text])


def test_texts_come_back_whole_after_a_guess() -> None:
    def texts() -> Iterator[str]:
        yield from ("白" * 300_000, "a", "b")

    names, again = named_or_guessed((), texts())
    assert (names, [len(text) for text in again]) == (("Han",), [300_000, 1, 1])


@pytest.mark.parametrize(
    ("tag", "letters"),
    [("zh", "汉"), ("zh-Hant-TW", "漢"), ("ja", "字かカ"), ("ko", "한"), ("th", "ไ"), ("bo", "བ"),
     ("ru", "щ"), ("el", "ω"), ("hi", "ह"), ("am", "አ"), ("my", "မ"), ("or", "ଓ")],
)  # fmt: skip
def test_a_language_names_the_scripts_of_its_letters(tag: str, letters: str) -> None:
    scripts = scripts_of_language(tag)
    names = {"Han": "CJK"}
    assert len(scripts) == len(letters)
    for script, letter in zip(scripts, letters, strict=True):
        assert unicodedata.name(letter).startswith(names.get(script, script).upper())


@pytest.mark.parametrize("tag", ["vi", "sr", "sr-Cyrl", "zh-Latn", "xx"])
def test_other_languages_are_told_from_their_text(tag: str) -> None:
    assert scripts_of_language(tag) == ()


def test_an_extension_says_what_it_guessed(pico_base: Path) -> None:
    guessed = extend_tokenizer(pico_base, THAI, num_pieces=2)
    named = extend_tokenizer(pico_base, THAI, num_pieces=2, scripts=["Thai"])
    assert guessed.pieces == named.pieces
    assert (guessed.notes, named.notes) == (("scripts guessed from the text: Thai",), ())


def test_an_audit_goes_by_what_was_added(pico_base: Path) -> None:
    base = open_tokenizer(pico_base)
    extended = extend_tokenizer(pico_base, THAI, num_pieces=2).tokenizer
    assert audit_tokenizers(base, extended, texts={}, protected={}).scripts == ("Thai",)
    assert audit_tokenizers(base, base, texts={"a": ["白"]}, protected={}).scripts == ("Han",)
    assert audit_tokenizers(base, base, texts={}, protected={}).scripts == ("Latin",)
