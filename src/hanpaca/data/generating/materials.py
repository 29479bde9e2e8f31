"""What rows are made from: questions of conversations, and passages of documents."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from hanpaca.data.conversations import read_conversations
from hanpaca.data.passages import passages
from hanpaca.data.readers.parts import TextPart, read_parts
from hanpaca.data.readers.walk import find_papers
from hanpaca.errors import DataError, RecipeError, ResourceError

Note = Callable[[str], object]


def questions_of(paths: Sequence[Path | str]) -> list[str]:
    """The first question of each conversation, each once.

    Raises:
        DataError: A file or row is missing or malformed.
    """
    found = [
        next(turn.content for turn in conversation if turn.role == "user")
        for conversation, _ in read_conversations(paths)
    ]
    return list(dict.fromkeys(found))


def passages_of(paths: Sequence[Path | str], *, note: Note) -> list[tuple[str, TextPart]]:
    """Passages of documents, with the path of each from the folder that is given.

    Args:
        paths: Files and folders, of the kinds that `hanpaca.data.readers` reads.
        note: Called with a line for what cannot be read.

    Raises:
        RecipeError: There are no paths.
        DataError: A path is missing, or there is no text in any of them.
    """
    if not paths:
        raise RecipeError("questions are made about documents", "give {materials}")
    found: list[tuple[str, TextPart]] = []
    for given in map(Path, paths):
        if not given.exists():
            raise DataError(f"{given}: no such file or folder")
        papers = find_papers([given])
        for line in papers.faults:
            note(line)
        above = given.absolute().parent
        for file in papers.files:
            name = str(file.relative_to(above))
            found += [(name, one) for one in _passages(file, note)]
    if not found:
        raise DataError(f"{', '.join(map(str, paths))}: no text in it")
    return found


def _passages(file: Path, note: Note) -> Iterator[TextPart]:
    try:
        yield from passages(read_parts(file, note=lambda told: note(f"{file}: {told}")))
    except (DataError, ResourceError) as error:
        note(error.message)
