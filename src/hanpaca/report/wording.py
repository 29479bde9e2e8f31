"""Pages in other languages than English: their words are data, a file a language in `words/`.

The terminal's own words stand in `terminal_words/`, so that no page is read by their patterns.

A line of such a file is an English text and the same in the other language. Both may have places,
such as `{name}`, for what differs from page to page; what stands there is put into words too.
"""

import re
from collections.abc import Callable, Mapping
from functools import cache, partial
from importlib.resources import files

import yaml

from hanpaca.errors import RecipeError

ENGLISH = "en"
Word = Callable[[str], str]
"""Gives an English text in the language of the page."""
PAGES = ("words",)
TERMINAL = ("terminal_words", "words")
"""Folders of words, of which the first that has a text counts."""
_PLACE = re.compile(r"\{(\w+)\}")


def words_of(language: str, folders: tuple[str, ...] = PAGES) -> Word:
    """The words of a page in this language; English for what they do not have.

    >>> words_of("en")("held-out answers")
    'held-out answers'
    """
    return partial(_translated, _short(language), folders)


def page_languages() -> tuple[str, ...]:
    """Tags of the languages that pages are written in, English first."""
    found = (file.name for file in files("hanpaca.report").joinpath("words").iterdir())
    return (ENGLISH, *sorted(name.removesuffix(".yaml") for name in found))


def own_language(language: str) -> tuple[str, ...]:
    """The languages, besides English, of the pages of a run that learns this language."""
    return tuple({_short(language)}.intersection(page_languages()) - {ENGLISH})


def checked_language(language: str) -> str:
    """The tag of a language that pages are written in.

    Raises:
        RecipeError: There are no words in this language.
    """
    if _short(language) not in page_languages():
        known = ", ".join(page_languages())
        raise RecipeError(f"no page is written in {language!r}", f"set {{lang}} to one of: {known}")
    return _short(language)


def _short(language: str) -> str:
    return language.lower().partition("-")[0]


@cache
def _words(language: str, folders: tuple[str, ...]) -> Mapping[str, str]:
    found: dict[str, str] = {}
    for folder in folders:
        file = files("hanpaca.report").joinpath(folder, f"{language}.yaml")
        if file.is_file():
            found = yaml.safe_load(file.read_text(encoding="utf-8")) | found
    return found


@cache
def _patterns(language: str, folders: tuple[str, ...]) -> tuple[tuple[re.Pattern[str], str], ...]:
    """The texts with places, as what they look like when these are filled."""
    return tuple(
        (re.compile(_filled(text), flags=re.DOTALL), other)
        for text, other in _words(language, folders).items()
        if _PLACE.search(text)
    )


def _filled(text: str) -> str:
    """A regular expression of a text, in which anything may stand in its places."""
    parts = _PLACE.split(text)
    parts[0::2] = map(re.escape, parts[0::2])
    parts[1::2] = [f"(?P<{name}>.+?)" for name in parts[1::2]]
    return "".join(parts)


def _translated(language: str, folders: tuple[str, ...], text: str) -> str:
    known = _words(language, folders).get(text)
    if known is not None:
        return known
    for pattern, other in _patterns(language, folders):
        found = pattern.fullmatch(text)
        if found:
            places = found.groupdict().items()
            return other.format(
                **{name: _translated(language, folders, part) for name, part in places}
            )
    return text
