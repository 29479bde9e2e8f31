"""Measure tokenizers side by side."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass

from hanpaca.errors import DataError
from hanpaca.tokenizer.audits.compare import Measurement, measure
from hanpaca.tokenizer.tokenizer import Source, name_of, vocabulary_of


@dataclass(frozen=True)
class Comparison:
    """One tokenizer on one text."""

    text: str
    """What the text is called."""
    tokenizer: str
    """What the tokenizer is called."""
    num_pieces: int
    """Its entries."""
    measured: Measurement
    """Tokens and time."""

    def row(self) -> dict[str, object]:
        """All of it flat, JSON-safe."""
        named = {"text": self.text, "tokenizer": self.tokenizer, "num_pieces": self.num_pieces}
        rates = {
            "tokens_per_character": self.measured.tokens_per_character,
            "characters_per_second": self.measured.characters_per_second,
        }
        return named | asdict(self.measured) | rates


def compare_tokenizers(
    tokenizers: Sequence[Source], texts: Mapping[str, Iterable[str]]
) -> list[Comparison]:
    """Measure tokens per character and encoding speed.

    >>> found = compare_tokenizers([BASE], {"en": ["The dog."]})
    >>> found[0].measured.num_characters
    8

    Args:
        tokenizers: Open ones or paths.
        texts: Lines by a name; all of one text are held in memory.

    Raises:
        DataError: A text is empty.
        ArtifactError: A tokenizer cannot be read.
        ResourceError: The packages that read it are not installed.
    """
    opened = [(name_of(one), vocabulary_of(one)) for one in tokenizers]
    found = []
    for name, lines in texts.items():
        held = list(lines)
        if not any(held):
            raise DataError(f"{name}: has no text; give another")
        found += [
            Comparison(name, tokenizer, len(vocabulary.ids), measure(vocabulary, held))
            for tokenizer, vocabulary in opened
        ]
    return found
