"""Extend a tokenizer's vocabulary."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Unpack

from hanpaca.files import whole
from hanpaca.progress import Tell, silent
from hanpaca.tokenizer.extension.extend import Extension, extend_tokenizer, write_extension
from hanpaca.tokenizer.extension.wishes import Wishes, WishKeywords


def extend(
    base: Path | str,
    texts: Iterable[str],
    output: Path | str | None = None,
    *,
    num_pieces: int,
    scripts: Sequence[str] = (),
    tell: Tell = silent,
    **wishes: Unpack[WishKeywords],
) -> Extension:
    """Add pieces of a language to a tokenizer, leaving all other text as it was.

    Text without characters of the target scripts and their punctuation keeps its ids; no new piece
    is dead; `tokenizer.model` and `tokenizer.json` agree. All of this is checked before anything is
    written.

    >>> found = extend(BASE, ["白日依山尽，黄河入海流。"] * 9, OUTPUT, num_pieces=8)
    >>> len(found.pieces), found.notes
    (8, ('scripts guessed from the text: Han',))

    Args:
        base: Folder with `tokenizer.json` or `tokenizer.model`, or one of these files.
        texts: Documents or lines to learn from, read once; may be empty where there is a `prior`.
        output: Folder to write, which must not exist; None to write nothing.
        num_pieces: Pieces to add, exactly.
        scripts: Unicode script names such as "Han"; none to have them guessed from the texts.
        tell: Called with signs of life.
        wishes: `punctuation`, `required`, `prior`, `protect`; see `Wishes`.

    Raises:
        RecipeError: `num_pieces`, `scripts` or a wish makes no sense.
        DataError: The texts have no target text, or too little.
        ArtifactError: The base cannot be used or extended safely, or `output` exists.
        ResourceError: A package is missing, or it cannot be written there.
    """

    def learned() -> Extension:
        heeded = Wishes(**wishes)
        return extend_tokenizer(
            Path(base), texts, num_pieces=num_pieces, scripts=scripts, wishes=heeded, tell=tell
        )

    if output is None:
        return learned()
    with whole(Path(output)) as partial:
        found = learned()
        write_extension(found, Path(base), partial)
    return found
