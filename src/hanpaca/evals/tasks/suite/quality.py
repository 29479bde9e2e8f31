"""What can be said of any answer: ended by itself, in the language asked for, without a loop."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import regex

_MOST_FOREIGN = {"zh": 0.3, "en": 0.05}
"""Share of letters in another script: Chinese names things in Latin letters, English not in Han."""
_SCRIPTS = {"zh": regex.compile(r"\p{Han}"), "en": regex.compile(r"\p{Latin}")}
_LETTER = regex.compile(r"\p{L}")
_HAN = _SCRIPTS["zh"]
_RUN = regex.compile(r"(\p{L})\1{5}|(.{2,80}?)\2{2}")
_PART = regex.compile(r"[。！？!?\n]+|\.\s")
_LEAST_PART = 5
"""Characters of a sentence that nobody says three times."""
_LEAST_RUN = 6
"""The same of what is repeated at once, without white space and Han."""


@dataclass(frozen=True)
class Quality:
    """Of all answers of one prompt together."""

    stopped: bool
    """The model ended each by itself, before the limit of tokens."""
    in_language: bool | None
    """The last is in the language asked for; None where it has none, or no rule knows it."""
    no_loop: bool
    """None says the same three times over."""
    num_characters: int
    """Of the last."""


def quality_of(
    answers: Sequence[str], *, stopped: Sequence[bool], answer_in: str | None
) -> Quality:
    """Look at the answers of one prompt, of which the last is what was asked for."""
    last = answers[-1].strip()
    return Quality(
        stopped=all(stopped),
        in_language=None if answer_in not in _SCRIPTS else in_language(last, str(answer_in)),
        no_loop=not any(map(loops, answers)),
        num_characters=len(last),
    )


def in_language(text: str, language: str) -> bool:
    """Whether a text has letters, and hardly any of another script.

    >>> in_language("我喜欢用 Python 写程序。", "zh"), in_language("I like 春天 and 秋天.", "en")
    (True, False)
    """
    letters = _LETTER.findall(text)
    own = len(_SCRIPTS[language].findall(text))
    return own > 0 and len(letters) - own <= _MOST_FOREIGN[language] * len(letters)


def loops(text: str) -> bool:
    """Whether a letter comes six times in a row, a passage three times, or a sentence three times.

    >>> loops("很好很好很好"), loops("床前明月光，疑是地上霜。")
    (True, False)
    """
    runs = (found[2] or found[0] for found in _RUN.finditer("".join(text.split())))
    if any(_LETTER.search(run) and (_HAN.search(run) or len(run) >= _LEAST_RUN) for run in runs):
        return True
    parts = Counter(one.strip() for one in _PART.split(text))
    return any(number >= 3 and len(part) >= _LEAST_PART for part, number in parts.items())
