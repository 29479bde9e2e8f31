"""Names of languages and what is asked in them, read from data files beside this module.

A language without a file of its own is asked in English, so that a run of any language works.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

import regex
import yaml

from hanpaca.languages import LANGUAGE_OF_SCRIPT

FALLBACK = "en"
UNDETERMINED = "und"
_NAMES = {
    UNDETERMINED: "old-language",
    **{"ar": "Arabic", "bn": "Bengali", "de": "German", "el": "Greek", "en": "English"},
    **{"es": "Spanish", "fa": "Persian", "fr": "French", "he": "Hebrew", "hi": "Hindi"},
    **{"id": "Indonesian", "it": "Italian", "ja": "Japanese", "km": "Khmer", "ko": "Korean"},
    **{"pl": "Polish", "pt": "Portuguese", "ru": "Russian", "sw": "Swahili", "ta": "Tamil"},
    **{"th": "Thai", "tr": "Turkish", "uk": "Ukrainian", "vi": "Vietnamese", "zh": "Chinese"},
}

# Japanese before Chinese, of which half its letters are.
_SCRIPTS = {"ja": regex.compile(r"[\p{Script=Hiragana}\p{Script=Katakana}]")} | {
    tag: regex.compile(rf"\p{{Script={script}}}")
    for script, tag in LANGUAGE_OF_SCRIPT.items()
    if tag != "ja"
}
_ENOUGH_LETTERS, _ENOUGH_SHARE = 20_000, 0.25


@dataclass(frozen=True)
class Prompt:
    """One fixed question. They show what answers look like; no number comes from them."""

    name: str
    text: str
    language: str


@cache
def _data(language: str) -> dict[str, object]:
    folder = files("hanpaca.evals.tasks").joinpath("prompts")
    file = folder.joinpath(f"{_short(language)}.yaml")
    if not file.is_file():
        file = folder.joinpath(f"{FALLBACK}.yaml")
    found: dict[str, object] = yaml.safe_load(file.read_text(encoding="utf-8"))
    return found


def language_name(language: str) -> str:
    """English name of a BCP 47 tag; the tag itself where it is not known.

    >>> language_name("ko"), language_name("zh-Hant"), language_name("xx")
    ('Korean', 'Chinese', 'xx')
    """
    return _NAMES.get(_short(language), language)


def language_of_texts(texts: Iterable[str], *, besides: str) -> str:
    """Guess which language texts are in by the script of their letters; English if it is Latin.

    >>> language_of_texts(["Привет, мир"], besides="ko"), language_of_texts(["A dog"], besides="en")
    ('ru', 'und')

    Args:
        texts: Looked at until there are enough letters.
        besides: The language they are not in; where the guess is the same, it is undetermined.
    """
    letters: Counter[str] = Counter()
    for text in texts:
        letters.update(one for one in text if one.isalpha())
        if letters.total() > _ENOUGH_LETTERS:
            break
    guess = FALLBACK
    for tag, script in _SCRIPTS.items():
        size = sum(times for letter, times in letters.items() if script.match(letter))
        if size > _ENOUGH_SHARE * letters.total():
            guess = tag
            break
    return UNDETERMINED if guess == _short(besides) else guess


def probe_prompt(language: str) -> str:
    """A greeting in this language, by which a freshly tuned model is tried."""
    return str(_data(language)["probe"])


def prompts(language: str) -> tuple[Prompt, ...]:
    """The fixed questions of a language, then those of English, which shows what was forgotten."""
    found = []
    for tag in dict.fromkeys((_asked_in(language), FALLBACK)):
        asked = _data(tag)["prompts"]
        found += [Prompt(name, text, tag) for name, text in dict(asked).items()]  # type: ignore[call-overload]
    return tuple(found)


def _short(language: str) -> str:
    return language.lower().partition("-")[0]


def _asked_in(language: str) -> str:
    known = files("hanpaca.evals.tasks").joinpath("prompts", f"{_short(language)}.yaml").is_file()
    return _short(language) if known else FALLBACK
