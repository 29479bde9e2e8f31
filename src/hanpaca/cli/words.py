"""What settings and steps are called on the command line, and in which language it speaks."""

import os
from contextvars import ContextVar

from hanpaca.errors import HanpacaError
from hanpaca.report.wording import ENGLISH, TERMINAL, checked_language, page_languages, words_of

_COMMANDS = {
    "write_gguf": "gguf",
    "imatrix": "gguf imatrix",
    "export": "gguf export",
    "write_gguf_adapter": "gguf adapter",
    "check_data": "data check",
    "clean_data": "data clean",
    "generate_data": "data generate",
    "answer_suite": "suite ask",
    "judge_suite": "suite judge",
    "review_suite": "suite review",
    "ask_add": "ask add",
}
"""Of steps whose command has another name."""
_spoken: ContextVar[str] = ContextVar("spoken", default=ENGLISH)
_LOCALE = ("LC_ALL", "LC_MESSAGES", "LANG")


def speak(language: str | None) -> None:
    """Say tables and results in this language from now on; None takes that of the locale.

    Raises:
        RecipeError: There are no words in this language.
    """
    _spoken.set(_of_locale() if language is None else checked_language(language))


def speak_as(page: str) -> str:
    """The tag of a page's language, which is spoken in the terminal too unless it is English.

    Raises:
        RecipeError: No page is written in this language.
    """
    tag = checked_language(page)
    if tag != ENGLISH:
        _spoken.set(tag)
    return tag


def word(text: str) -> str:
    """An English text in the language that is spoken; as it is where there are no words for it."""
    return words_of(_spoken.get(), TERMINAL)(text)


def _of_locale() -> str:
    """By the first variable that is set, as POSIX has it: `zh_CN.UTF-8` is Chinese."""
    named = next((os.environ[name] for name in _LOCALE if os.environ.get(name)), ENGLISH)
    tag = named.partition(".")[0].partition("_")[0].lower()
    return tag if tag in page_languages() else ENGLISH


def worded(error: HanpacaError) -> str:
    """An error's message and advice, as the command line calls things."""
    return error.worded(_option, _command)


def _option(setting: str) -> str:
    return "--" + setting.replace("_", "-")


def _command(step: str) -> str:
    return f"`hanpaca {_COMMANDS.get(step, step.replace('_', ' '))}`"
