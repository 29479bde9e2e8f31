"""Dictionaries that say what a word means in English: CC-CEDICT's format, or two columns."""

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from hanpaca.errors import DataError

Translations = Mapping[str, Sequence[str]]
"""English glosses of each word, in the dictionary's order; lower-case letters and spaces."""
_ENTRY = re.compile(r"(\S+) (\S+) \[\[?([^\]]*)\]\]? /(.*)/\s*$")
"""CC-CEDICT: traditional, simplified, pinyin, meanings (cc-cedict.org/wiki/format:syntax); pinyin
may stand in two brackets."""
_NO_MEANING = re.compile(
    r"(surname|variant of|old variant|CL:|also written|abbr|see |used in|also pr)"
)
_ASIDE = re.compile(r"\(.*?\)|\[.*?\]")
_ARTICLE = re.compile(r"^(to be|to|a|an|the) ")
_ENGLISH = re.compile(r"[a-z][a-z '-]*")


def read_translations(file: Path) -> Translations:
    """Read a dictionary, `.u8` or `.txt` as CC-CEDICT or lines of a word, a tab and its glosses.

    Several glosses of a line are parted by `;` or `/`, in two columns by `,` too. What is no gloss
    is left out: names, variants, remarks in brackets, and whatever is not in English letters.

    Raises:
        DataError: The file cannot be read, or no line of it is an entry.
    """
    found: dict[str, list[str]] = defaultdict(list)
    try:
        with file.open(encoding="utf-8-sig") as lines:
            for line in lines:
                for word, meaning in _entries(line):
                    known = found[word]
                    known += [one for one in _glosses(meaning) if one not in known]
    except UnicodeDecodeError as error:
        raise DataError(f"{file}: a dictionary must be plain text in UTF-8: {error}") from error
    except OSError as error:
        raise DataError(f"{file}: cannot be read: {error}") from error
    if not any(found.values()):
        raise DataError(
            f"{file}: no line is an entry of a dictionary; each must be as in CC-CEDICT, "
            "`傳統 传统 [chuan2 tong3] /tradition/`, or a word, a tab and English glosses "
            "parted by `;`, `,` or `/`"
        )
    return found


def _entries(line: str) -> Iterator[tuple[str, str]]:
    if line.startswith("#"):
        return
    if entry := _ENTRY.match(line):
        traditional, simplified, pinyin, meanings = entry.groups()
        if not pinyin[:1].isupper():  # a name
            for word in dict.fromkeys((traditional, simplified)):
                yield word, meanings
    elif "\t" in line:
        word, _, meanings = line.strip().partition("\t")
        yield word.strip(), _ASIDE.sub("", meanings).replace(",", "/")


def _glosses(meanings: str) -> Iterator[str]:
    for meaning in meanings.split("/"):
        if _NO_MEANING.match(meaning):
            continue
        for gloss in _ASIDE.sub("", meaning).split(";"):
            plain = _ARTICLE.sub("", gloss.strip(" ,.").lower())
            if _ENGLISH.fullmatch(plain):
                yield plain
