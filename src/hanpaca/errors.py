"""What can go wrong, by who can fix it.

Everything the package raises on purpose is a `HanpacaError`; anything else is a bug and keeps its
traceback. The message names the file or field and says what was found. What to do about it stands
in the same sentence where it is the same for everybody ("download it again"), and in `advice` where
a setting or a step mends it: the command line calls a setting `--dtype`, a run `sft.dtype`, Python
`dtype=`, and none of them is known where the error is raised.
"""

import re
from collections.abc import Callable
from typing import ClassVar, Self

_NAMES = re.compile(r"\{(\w+)(\(\))?\}")


class HanpacaError(Exception):
    """Base of every deliberate error.

    >>> error = HanpacaError("a.bin: alpha is unknown", "give {alpha}, or write it with {merge()}")
    >>> str(error)
    'a.bin: alpha is unknown: give alpha=, or write it with hanpaca.merge()'
    >>> error.worded(lambda name: f"--{name}", lambda name: f"`hanpaca {name}`")
    'a.bin: alpha is unknown: give --alpha, or write it with `hanpaca merge`'
    """

    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, advice: str = "") -> None:
        """Args: `message`, what was found; `advice`, with `{setting}` and `{step()}` in it."""
        super().__init__(message, advice)
        self.message = message
        self.advice = advice

    def worded(self, setting: Callable[[str], str], step: Callable[[str], str]) -> str:
        """Message and advice, with the names a face has for settings and steps."""
        if not self.advice:
            return self.message
        advice = _NAMES.sub(
            lambda found: step(found[1]) if found[2] else setting(found[1]), self.advice
        )
        return f"{self.message}: {advice}"

    def naming(self, setting: Callable[[str], str]) -> Self:
        """The same error, whose advice names settings as `setting` does; steps stay as they are."""
        advice = _NAMES.sub(lambda found: found[0] if found[2] else setting(found[1]), self.advice)
        return type(self)(self.message, advice)

    def __str__(self) -> str:
        """As Python names things: keywords and functions."""
        return self.worded(lambda name: f"{name}=", lambda name: f"hanpaca.{name}()")


class RecipeError(HanpacaError):
    """The recipe or command line asks for something impossible or misspelled."""

    exit_code = 2


class DataError(HanpacaError):
    """A text or conversation file is missing or malformed: fix the named line of the named file."""

    exit_code = 3


class ArtifactError(HanpacaError):
    """A model, adapter or tokenizer is missing, corrupt, or does not fit its partner."""

    exit_code = 4


class ResourceError(HanpacaError):
    """This machine lacks what the work needs: disk, memory, or an optional package."""

    exit_code = 5
