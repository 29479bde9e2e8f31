"""Which fonts write the letters of a chart, and what stands for letters that none of them has."""

from collections.abc import Iterable, Sequence
from functools import cache, partial

import regex

from hanpaca.languages import LANGUAGE_OF_SCRIPT

FIRST = "DejaVu Sans"
"""Comes with the library that draws; has Latin, Greek, Cyrillic, Arabic and many signs."""
_PREFERRED = (
    *("Noto Sans CJK SC", "Noto Sans CJK JP", "Source Han Sans SC", "Source Han Sans CN"),
    *("WenQuanYi Micro Hei", "WenQuanYi Zen Hei", "PingFang SC", "Microsoft YaHei", "SimHei"),
    *("Malgun Gothic", "Apple SD Gothic Neo", "Leelawadee UI", "Thonburi", "Nirmala UI"),
)
_NO_LETTERS = ("Last Resort", "STIX", "cm", "DejaVu Sans Display", "DejaVu Math")
"""Begin the names of fonts that have boxes or formulas for letters."""


def fonts_for(texts: Iterable[str]) -> tuple[list[str], frozenset[str]]:
    """Choose fonts that together have the letters of texts.

    Returns:
        Their names, the usual one first, and the letters that no font of this machine has.
    """
    chosen = [FIRST]
    missing = _letters("".join(texts)) - letters_of(FIRST)
    for name in _candidates() if missing else ():
        found = missing & letters_of(name)
        if found:
            chosen.append(name)
            missing -= found
        if not missing:
            break
    return chosen, missing


def readable(label: str, missing: frozenset[str]) -> str:
    """A label in which tags of languages stand for what is written in letters that are missing.

    >>> readable("สวัสดี (test)", frozenset("สวัดี"))
    'th (test)'
    """
    if missing.isdisjoint(label):
        return label
    for script, tag in LANGUAGE_OF_SCRIPT.items():
        label = _words_in(script).sub(partial(_or_tag, missing, tag), label)
    return "".join("?" if letter in missing else letter for letter in label)


@cache
def _words_in(script: str) -> regex.Pattern[str]:
    """Words of a script, with the marks on their letters and the spaces between them."""
    letter = rf"\p{{Script={script}}}\p{{M}}*"
    return regex.compile(rf"(?:{letter})+(?:\s+(?:{letter})+)*")


def _or_tag(missing: frozenset[str], tag: str, found: "regex.Match[str]") -> str:
    words: str = found[0]
    return words if missing.isdisjoint(words) else tag


@cache
def letters_of(font: str) -> frozenset[str]:
    """All that a font of this machine can write."""
    from matplotlib import font_manager

    file = font_manager.get_font(font_manager.findfont(font, fallback_to_default=False))
    return frozenset(map(chr, file.get_charmap()))


@cache
def _candidates() -> Sequence[str]:
    """Fonts of this machine: those made for screens first, then all that have letters."""
    from matplotlib import font_manager

    known = {font.name for font in font_manager.fontManager.ttflist}
    letters = sorted(name for name in known if not name.startswith(_NO_LETTERS))
    sans = [name for name in letters if name.startswith("Noto Sans")]
    return tuple(dict.fromkeys([*(name for name in _PREFERRED if name in known), *sans, *letters]))


def _letters(text: str) -> frozenset[str]:
    return frozenset(letter for letter in text if letter.isprintable() and not letter.isspace())
