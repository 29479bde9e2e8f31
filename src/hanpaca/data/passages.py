"""Text in passages that can be found and quoted: paragraphs, or sentences of long ones."""

import re
from collections.abc import Iterable, Iterator

from hanpaca.data.readers.parts import TextPart

CHARACTERS = 500
"""Of a passage, about."""
_PACKED = ("line", "paragraph")
"""Units that are short: several go into one passage."""
_SENTENCE = re.compile(r".+?(?:[。！？；…]+[”’」』）)]*|[.!?;](?=\s)|\n|\Z)", re.DOTALL)
_LONGEST_OVERLAP = 0.3
"""Of a passage."""


def passages(parts: Iterable[TextPart], *, characters: int = CHARACTERS) -> Iterator[TextPart]:
    """Cut and join stretches of text to passages of at most so many characters.

    Short paragraphs that follow each other are one passage. One that is too long is cut at the ends
    of its lines and sentences; the last sentence of a passage then also begins the next one.

    Args:
        parts: In order; a passage never goes beyond a row, page or chapter.
        characters: At most; a sentence that is longer is cut anywhere.
    """
    held: list[TextPart] = []
    size = 0
    for part in parts:
        packed = part.unit in _PACKED and len(part.text) <= characters
        if held and not (packed and size + len(part.text) < characters):
            yield _joined(held)
            held, size = [], 0
        if packed:
            held.append(part)
            size += len(part.text) + 1
        elif len(part.text) <= characters:
            yield part
        else:
            yield from _cut(part, characters)
    if held:
        yield _joined(held)


def _joined(parts: list[TextPart]) -> TextPart:
    return TextPart("\n".join(one.text for one in parts), parts[0].unit, parts[0].number)


def _cut(part: TextPart, characters: int) -> Iterator[TextPart]:
    kept: list[str] = []
    size, num_lines, first = 0, 0, 0
    for piece in _pieces(part.text, characters):
        if kept and size + len(piece) > characters:
            yield _passage(part, kept, first)
            overlap = _last_sentence(kept[-1])
            fits = len(overlap) <= min(_LONGEST_OVERLAP * characters, characters - len(piece))
            kept = [overlap] if fits else []
            size, first = len("".join(kept)), num_lines - "".join(kept).count("\n")
        kept.append(piece)
        size += len(piece)
        num_lines += piece.count("\n")
    if kept:
        yield _passage(part, kept, first)


def _passage(part: TextPart, kept: list[str], num_lines: int) -> TextPart:
    number = part.number + num_lines if part.unit == "line" else part.number
    return TextPart("".join(kept).strip(), part.unit, number)


def _pieces(text: str, characters: int) -> Iterator[str]:
    """Lines with their ends; long ones in sentences, and long sentences in parts."""
    for line in text.splitlines(keepends=True):
        if len(line) <= characters:
            yield line
            continue
        for sentence in _SENTENCE.findall(line):
            for start in range(0, len(sentence), characters):
                yield sentence[start : start + characters]


def _last_sentence(text: str) -> str:
    found = [one for one in _SENTENCE.findall(text) if one.strip()]
    return str(found[-1]) if found else ""
