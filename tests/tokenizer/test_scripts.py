"""Target scripts: which characters count, and which half characters are theirs alone."""

import unicodedata

import pytest

from hanpaca.errors import RecipeError
from hanpaca.tokenizer.extension.scripts import Punctuation, target_script


def test_han_takes_every_ideograph_and_the_three_odd_ones() -> None:
    # The names in Python's own Unicode tables are an oracle apart from the regex package.
    han = target_script(["Han"]).runs
    ideographs = [
        chr(i)
        for i in range(0x3400, 0x32000)
        if unicodedata.name(chr(i), "").startswith("CJK UNIFIED")
    ]
    assert len(ideographs) > 90_000
    assert han.fullmatch("".join(ideographs) + "々〆〇")


def test_han_takes_no_kana_no_punctuation_no_latin() -> None:
    assert target_script(["Han"]).runs.findall("白日，abc。カナかな「山」１２") == ["白日", "山"]


def test_scripts_can_be_joined() -> None:
    script = target_script(["Han", "Hiragana", "Katakana"])
    assert script.runs.findall("日本のカナ, ok") == ["日本のカナ"]


@pytest.mark.parametrize(
    ("script", "character", "owned"),
    [
        ("Han", "白", True),
        ("Han", "𠀀", True),
        ("Han", "々", False),  # E3 80 also begins 。 and 「
        ("Hangul", "한", True),
        ("Hangul", "힘", True),  # ED 9E also begins unassigned code points, which no text has
        ("Thai", "ก", False),  # E0 B8 also begins the baht sign
        ("Thai", "เ", True),
    ],
)
def test_a_prefix_is_owned_when_no_other_script_shares_it(
    script: str, character: str, owned: bool
) -> None:
    assert target_script([script]).owns_prefix(character.encode()[:2]) is owned


@pytest.mark.parametrize("name", ["Hann", "Chinese", "Han}\\p{L", "", "汉"])
def test_a_wrong_name_is_refused(name: str) -> None:
    with pytest.raises(RecipeError, match="not the name of a Unicode script"):
        target_script(["Han", name])


@pytest.mark.parametrize("name", ["Latin", "Common"])
def test_a_script_that_english_uses_is_refused(name: str) -> None:
    with pytest.raises(RecipeError, match="English"):
        target_script([name])


def test_no_script_is_refused() -> None:
    with pytest.raises(RecipeError, match="empty"):
        target_script([])


@pytest.mark.parametrize(
    ("punctuation", "found"),
    [
        ("none", ["白日", "黄河"]),
        ("runs", ["白日", "，“", "黄河", "。”", "《》"]),
        ("with_text", ["”白日，“黄河。”", "《》"]),
    ],
)
def test_stretches_with_punctuation(punctuation: Punctuation, found: list[str]) -> None:
    script = target_script(["Han"], punctuation)
    assert script.runs.findall("a, “b”白日，“黄河。”“…… — 3.《》x") == found


def test_signs_of_english_do_not_belong_to_any_target() -> None:
    for name in ("Han", "Thai", "Arabic", "Devanagari", "Cyrillic", "Hangul"):
        characters = target_script([name], "runs").characters
        assert not characters.search("“”‘’«»…—–·" + "".join(map(chr, range(0x250))))


@pytest.mark.parametrize(
    ("name", "sign"),
    [("Han", "。"), ("Han", "，"), ("Hangul", "！"), ("Arabic", "،"), ("Thai", "๏")],
)
def test_a_script_has_its_own_signs(name: str, sign: str) -> None:
    assert target_script([name], "runs").owns(sign)
    assert not target_script(["Cyrillic"], "runs").owns(sign)


def test_words_of_latin_script_take_the_space_before_them() -> None:
    script = target_script(["Latin"], in_english=True)
    assert script.in_english
    assert script.runs.findall("Tất cả, 3 người") == ["Tất", " cả", " người"]
