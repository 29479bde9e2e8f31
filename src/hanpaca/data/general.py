"""Short general questions of our own, for a base to answer before it is trained."""

from importlib.resources import files

from hanpaca.errors import DataError
from hanpaca.files import digest_of

_VERSION = 1
"""Of how they are asked: raised where the same model comes to answer otherwise."""


def general_questions(language: str = "en") -> tuple[str, ...]:
    """The questions in a language; none is one of those that forgetting is measured with.

    Raises:
        DataError: There are none.
    """
    file = files("hanpaca.data").joinpath("questions", f"{language}.txt")
    if not file.is_file():
        raise DataError(f"there are no general questions in {language!r}")
    return tuple(file.read_text(encoding="utf-8").splitlines())


def general_version() -> str:
    """Hash of the questions and of how they are asked: with the model, it decides the answers."""
    return digest_of([_VERSION, general_questions()])
