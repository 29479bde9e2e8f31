"""What can go wrong, by who can fix it.

Everything the package raises on purpose is a `HanpacaError`; the command line prints its message
and exits with its `exit_code`. Anything else is a bug and keeps its traceback. A message names
the file or field, says what was found, and says what to do.
"""

from typing import ClassVar


class HanpacaError(Exception):
    """Base of every deliberate error."""

    exit_code: ClassVar[int] = 1


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
