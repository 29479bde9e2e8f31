"""New pieces that are not words of the target language: rows of the model that learn nothing."""

from collections.abc import Collection

from hanpaca.tokenizer.extension.scripts import TargetScript

PHRASE_CHARACTERS = 6
"""From this length on a piece of target characters is a phrase, often web-page boilerplate."""

KINDS = (
    "leading-space twins",
    "digit strings",
    "ASCII letters",
    "ASCII signs and mixed",
    "target and other characters mixed",
    "other scripts and punctuation",
    f"phrases of {PHRASE_CHARACTERS} and more characters",
)
(
    _TWIN,
    _DIGITS,
    _LETTERS,
    _ASCII,
    _MIXED,
    _OTHER,
    _PHRASE,
) = KINDS


def junk_pieces(
    new: Collection[bytes], every: Collection[bytes], script: TargetScript
) -> dict[str, tuple[str, ...]]:
    """Sort out the new pieces that a vocabulary for the target script does not need.

    Args:
        new: Surfaces of the new pieces, in the order of their ids.
        every: Surfaces of all learned pieces of the extended tokenizer.
        script: What the new pieces should be made of.

    Returns:
        The pieces of each of `KINDS`. A leading-space twin (" 的" beside "的") can be of a second
        kind too; halves of characters are of none.
    """
    known = set(every)
    found: dict[str, list[str]] = {kind: [] for kind in KINDS}
    for surface in new:
        try:
            text = surface.decode()
        except UnicodeDecodeError:
            continue
        if text.startswith(" ") and surface[1:] in known:
            found[_TWIN].append(text)
        kind = _kind(text.strip(" "), script)
        if kind:
            found[kind].append(text)
    return {kind: tuple(pieces) for kind, pieces in found.items()}


def _kind(text: str, script: TargetScript) -> str:
    if script.runs.fullmatch(text):
        return _PHRASE if len(text) >= PHRASE_CHARACTERS else ""
    if script.runs.search(text):
        return _MIXED
    if not text.isascii():
        return _OTHER
    if text.isdigit():
        return _DIGITS
    return _LETTERS if text.isalpha() else _ASCII
