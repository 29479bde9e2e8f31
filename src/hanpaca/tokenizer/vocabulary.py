"""What a tokenizer of either family can be asked.

The families are byte-level BPE (`tokenizer.json`; GPT-2, Llama 3, Qwen, SmolLM2) and SentencePiece
BPE with byte fallback (`tokenizer.model`; LLaMA 1 and 2, Mistral). They write their entries in
different alphabets, so what they share is said in bytes: the *surface* of an entry is the UTF-8
text it stands for, which for a piece of a character is no whole text.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from hanpaca.errors import ArtifactError


class Vocabulary(Protocol):
    """A tokenizer, read."""

    @property
    def path(self) -> Path:
        """The file it was read from, for messages."""

    @property
    def ids(self) -> Mapping[str, int]:
        """Every entry as its own file writes it, special ones too, and its id."""

    @property
    def special(self) -> frozenset[str]:
        """Entries that no merge makes: control tokens, added tokens, `<unk>`, byte tokens."""

    def surface(self, piece: str) -> bytes:
        """Return the UTF-8 bytes an entry stands for; a space is a space, not `▁` or `Ġ`."""

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Encode texts as they are, without the special tokens a model wants around them."""

    def decode(self, ids: Sequence[Sequence[int]]) -> list[str]:
        """Turn ids back into texts, special tokens written out."""

    def spell(self, surfaces: Sequence[bytes]) -> list[list[int]]:
        """Encode bytes as they would be encoded inside a text, not at its beginning."""


def new_spellings(base: Vocabulary, extended: Vocabulary) -> list[list[int]]:
    """Spell in base ids each entry that `extended` has after the last of the base, in order of ids.

    Raises:
        ArtifactError: `extended` does not begin with the base's entries under their ids.
    """
    first = max(base.ids.values()) + 1
    moved = [piece for piece, number in base.ids.items() if extended.ids.get(piece) != number]
    if moved:
        raise ArtifactError(
            f"{extended.path}: no extension of {base.path}: entry {moved[0]!r} has another id, or "
            f"none ({len(moved)} such entries)"
        )
    new = sorted((number, piece) for piece, number in extended.ids.items() if number >= first)
    return base.spell([extended.surface(piece) for _, piece in new])


def text_of(surface: bytes) -> str:
    r"""Write a surface for people: half characters show as `\xe7\x99`."""
    return surface.decode(errors="backslashreplace")
