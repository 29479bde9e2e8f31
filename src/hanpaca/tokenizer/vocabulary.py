"""What a tokenizer of either family can be asked.

The families are byte-level BPE (`tokenizer.json`; GPT-2, Llama 3, Qwen, SmolLM2) and SentencePiece
BPE with byte fallback (`tokenizer.model`; LLaMA 1 and 2, Mistral). They write their entries in
different alphabets, so what they share is said in bytes: the *surface* of an entry is the UTF-8
text it stands for, which for a piece of a character is no whole text.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol


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


def text_of(surface: bytes) -> str:
    r"""Write a surface for people: half characters show as `\xe7\x99`."""
    return surface.decode(errors="backslashreplace")
