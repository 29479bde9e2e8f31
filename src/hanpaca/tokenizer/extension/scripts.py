"""Which characters belong to the target language: sets of Unicode scripts and their punctuation."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal, get_args

import regex

from hanpaca.errors import RecipeError

Punctuation = Literal["none", "runs", "with_text"]
"""What of the script's punctuation new pieces may hold: nothing; runs of punctuation alone, such as
`。”`; or punctuation together with letters, such as `，但`."""

# U+3006 is used as a Chinese character but Unicode files it under Common; the other two are Han
# already and stand here so that no version of the script tables can drop them.
_HAN_EXTRA = "々〆〇"
_EAST_ASIAN = ("han", "hani", "hiragana", "hira", "katakana", "kana", "hangul", "hang", "bopomofo")
# Unicode's Script_Extensions do not name them, but they are the full-width forms of these scripts.
_FULL_WIDTH = r"！-／：-＠［-｀｛-･"
_SHARED = "“”‘’«»…—–·"
"""Signs of English too: a piece may hold one only beside a character of the target."""


@dataclass(frozen=True)
class TargetScript:
    """The characters that new pieces may be made of."""

    names: tuple[str, ...]
    """Unicode script names, as given."""
    runs: Any
    """Matches a stretch of text that new pieces are learned from."""
    characters: Any
    """Matches one character that only the target has. Each new piece holds one, so text without any
    keeps its ids."""
    with_unassigned: Any
    """Matches text of such characters and code points Unicode has not assigned."""
    in_english: bool
    """Whether English is written in these scripts too."""

    def owns(self, piece: str) -> bool:
        """Tell whether a piece holds a character that only the target has."""
        return self.characters.search(piece) is not None

    def owns_prefix(self, prefix: bytes) -> bool:
        """Tell whether every character whose UTF-8 form starts with `prefix` is a target character.

        Only then may a piece be such a half character: otherwise it would also appear in text of
        other scripts (`E0 B8` begins Thai letters, but the baht sign too). Unassigned code points
        do not count, as no text has them.

        Args:
            prefix: Two or three leading bytes of some longer character.
        """
        length = 2 + (prefix[0] >= 0xE0) + (prefix[0] >= 0xF0)
        num_missing = length - len(prefix)
        first = ord((prefix + b"\x80" * num_missing).decode())
        sharers = "".join(map(chr, range(first, first + 64**num_missing)))
        return bool(self.with_unassigned.fullmatch(sharers))


def target_script(
    scripts: Sequence[str], punctuation: Punctuation = "none", *, in_english: bool = False
) -> TargetScript:
    """Look up Unicode scripts (https://www.unicode.org/reports/tr24/) by name.

    Args:
        scripts: Names such as "Han", "Hangul", "Thai", "Cyrillic".
        punctuation: What of the scripts' punctuation belongs to the target.
        in_english: Allow scripts that English is written in too. Words then are taken with the
            space before them.

    Raises:
        RecipeError: No name given, a name Unicode does not have, or a script that English uses.
    """
    if not scripts:
        raise RecipeError('scripts is empty: name at least one Unicode script, such as "Han"')
    if punctuation not in get_args(Punctuation):
        known = ", ".join(get_args(Punctuation))
        raise RecipeError(f"punctuation is {punctuation!r}; it can be {known}")
    letters = "".join(_one_script(name) for name in scripts)
    shared = regex.search(f"[{letters}]", "".join(map(chr, range(128)))) is not None
    if shared and not in_english:
        raise RecipeError(
            f"scripts {list(scripts)} include letters or signs of English, so English could not "
            "stay as it is: name scripts that English does not use, or give text to protect"
        )
    signs = "" if punctuation == "none" else "".join(_signs(name) for name in scripts)
    return TargetScript(
        tuple(scripts),
        regex.compile(_runs(letters, signs, punctuation, shared=shared)),
        regex.compile(f"[{letters}{signs}]"),
        regex.compile(rf"[{letters}{signs}\p{{Cn}}]+"),
        shared,
    )


def _runs(letters: str, signs: str, punctuation: Punctuation, *, shared: bool) -> str:
    """Where signs of English stand side by side, a stretch ends: they must not join first."""
    words = rf" ?[{letters}\p{{Mn}}]+" if shared else f"[{letters}]+"
    if punctuation == "none":
        return words
    if punctuation == "runs":
        return f"{words}|[{_SHARED}]?[{signs}]+[{_SHARED}]?"
    space = " ?" if shared else ""
    return rf"{space}[{_SHARED}]?(?:[{letters}{signs}\p{{Mn}}]++[{_SHARED}]?)+"


def _one_script(name: str) -> str:
    inside = rf"\p{{Script={name}}}" + (_HAN_EXTRA if name.lower() in ("han", "hani") else "")
    if not regex.fullmatch("[A-Za-z_ ]+", name):
        raise RecipeError(f"{name!r} is not the name of a Unicode script: write Han, Thai, Hangul…")
    try:
        regex.compile(f"[{inside}]")
    except regex.error as error:
        raise RecipeError(
            f"{name!r} is not the name of a Unicode script: write Han, Thai, Hangul…"
        ) from error
    return inside


@cache
def _signs(name: str) -> str:
    """List a script's punctuation that Latin text does not use (its Script_Extensions)."""
    candidate = rf"(?V1)[\p{{scx={name}}}&&\p{{P}}--\p{{scx=Latin}}--\p{{ASCII}}--[{_SHARED}]]"
    every = "".join(chr(point) for point in range(0x80, 0x20000) if not 0xD800 <= point < 0xE000)
    own = "".join(regex.findall(candidate, every))
    return str(regex.escape(own)) + (_FULL_WIDTH if name.lower() in _EAST_ASIAN else "")
