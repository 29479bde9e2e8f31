"""Tell from a text which scripts a language is written in that English does not use."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain

import regex

from hanpaca.errors import DataError

_READ_CHARACTERS = 200_000
_LEAST_SHARE = 0.02
"""Of the letters that are not Latin: a quotation is no script of the language."""
# In the order in which they are named; those that Unicode knows and living languages use.
_SCRIPTS = (
    "Han", "Hiragana", "Katakana", "Hangul", "Thai", "Lao", "Khmer", "Myanmar", "Tibetan",
    "Devanagari", "Bengali", "Gurmukhi", "Gujarati", "Oriya", "Tamil", "Telugu", "Kannada",
    "Malayalam", "Sinhala", "Arabic", "Hebrew", "Syriac", "Thaana", "Cyrillic", "Greek",
    "Armenian", "Georgian", "Ethiopic", "Mongolian", "Cherokee", "Canadian_Aboriginal",
    "Tifinagh", "Nko", "Yi", "Bopomofo", "Vai", "Javanese", "Balinese", "Sundanese",
)  # fmt: skip
_RUNS = regex.compile("|".join(rf"(\p{{Script={name}}}+)" for name in _SCRIPTS))


def named_or_guessed(
    scripts: Sequence[str], texts: Iterable[str], *, otherwise: Iterable[str] = ()
) -> tuple[tuple[str, ...], Iterator[str]]:
    """Take the scripts that are named, or those that the beginning of the texts is written in.

    Args:
        scripts: Unicode script names; none to have them guessed.
        texts: Documents or lines, read once.
        otherwise: What is guessed from where there are no texts.

    Returns:
        The scripts, and the texts again with nothing taken out of them.

    Raises:
        DataError: None is named, and the texts have none that English does not use too.
    """
    stream = iter(texts)
    if scripts:
        return tuple(scripts), stream
    head: list[str] = []
    room = _READ_CHARACTERS
    while room > 0 and (text := next(stream, None)) is not None:
        head.append(text)
        room -= len(text)
    return guess_scripts(head or otherwise), chain(head, stream)


def guess_scripts(texts: Iterable[str]) -> tuple[str, ...]:
    """Name the scripts of a text's letters, but Latin and those of a few letters only.

    >>> guess_scripts(["カタカナとひらがなと漢字", "and English"])
    ('Han', 'Hiragana', 'Katakana')

    Raises:
        DataError: There is none.
    """
    found: Counter[str] = Counter()
    for text in texts:
        for run in _RUNS.finditer(text):
            found[_SCRIPTS[run.lastindex - 1]] += len(run[0])
    if not found:
        raise DataError(
            "the texts have no letters of a script that English does not use",
            "give text of the target language, or name its {scripts}; with Latin also English text "
            "to {protect}",
        )
    least = _LEAST_SHARE * found.total()
    return tuple(name for name in _SCRIPTS if found[name] >= least)
