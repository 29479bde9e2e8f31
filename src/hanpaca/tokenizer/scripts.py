"""Which characters belong to the target language: sets of Unicode scripts."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import regex

from hanpaca.errors import RecipeError

# U+3006 is used as a Chinese character but Unicode files it under Common; the other two are Han
# already and stand here so that no version of the script tables can drop them.
_HAN_EXTRA = "々〆〇"


@dataclass(frozen=True)
class TargetScript:
    """The characters that new pieces may be made of.

    Attributes:
        names: Unicode script names, as given.
        runs: matches a maximal run of target characters.
        with_unassigned: matches text of target characters and code points Unicode has not assigned.
    """

    names: tuple[str, ...]
    runs: Any
    with_unassigned: Any

    def owns_prefix(self, prefix: bytes) -> bool:
        """Tell whether every character whose UTF-8 form starts with `prefix` is a target character.

        Only then may a piece be such a half character: otherwise it would also appear in text of
        other scripts (`E0 B8` begins Thai letters, but the baht sign too). Unassigned code points
        do not count, as no text has them.

        Args:
            prefix: two or three leading bytes of some longer character.
        """
        length = 2 + (prefix[0] >= 0xE0) + (prefix[0] >= 0xF0)
        num_missing = length - len(prefix)
        first = ord((prefix + b"\x80" * num_missing).decode())
        sharers = "".join(map(chr, range(first, first + 64**num_missing)))
        return bool(self.with_unassigned.fullmatch(sharers))


def target_script(scripts: Sequence[str]) -> TargetScript:
    """Look up Unicode scripts (https://www.unicode.org/reports/tr24/) by name.

    Args:
        scripts: names such as "Han", "Hangul", "Thai", "Cyrillic".

    Raises:
        RecipeError: no name given, a name Unicode does not have, or a script that English uses.
    """
    if not scripts:
        raise RecipeError('scripts is empty: name at least one Unicode script, such as "Han"')
    inside = "".join(_one_script(name) for name in scripts)
    if regex.search(f"[{inside}]", "".join(map(chr, range(128)))):
        raise RecipeError(
            f"scripts {list(scripts)} include letters or signs of English, so English could not "
            "stay as it is: name scripts that English does not use"
        )
    return TargetScript(
        tuple(scripts), regex.compile(f"[{inside}]+"), regex.compile(rf"[{inside}\p{{Cn}}]+")
    )


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
