"""Show how tokenizers cut a text."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import accumulate, pairwise

from hanpaca.errors import RecipeError
from hanpaca.tokenizer.extension.guarantees import surfaces
from hanpaca.tokenizer.tokenizer import Source, name_of, vocabulary_of
from hanpaca.tokenizer.vocabulary import text_of


@dataclass(frozen=True)
class ShownText:
    """How a tokenizer cuts a text."""

    tokenizer: str
    num_tokens: int
    tokens_per_character: float
    ids: list[int]
    pieces: list[bytes]
    """As UTF-8 bytes, which need not be whole characters."""

    def row(self) -> dict[str, object]:
        """JSON-safe: pieces as text where they are whole characters, and all as hexadecimals."""
        return asdict(self) | {
            "pieces": self.texts,
            "bytes": [piece.hex() for piece in self.pieces],
        }

    @property
    def texts(self) -> list[str]:
        """Pieces as text; what is no whole character in a visible form."""
        return [text_of(piece) for piece in self.pieces]

    def places(self, text: str) -> list[tuple[int, int]]:
        """Begin and end of each piece, in bytes before the end of the text.

        From the end, because SentencePiece puts a space before the text and byte-level BPE does
        not.
        """
        size, total = len(text.encode()), sum(map(len, self.pieces))
        ends = [total - end for end in accumulate(map(len, self.pieces), initial=0)]
        return [(min(a, size), min(b, size)) for a, b in pairwise(ends)]


def show(text: str, tokenizers: Sequence[Source]) -> list[ShownText]:
    """Cut one text by each of several tokenizers.

    >>> [one.num_tokens for one in show("zz", [BASE])]
    [2]

    Args:
        text: Not empty.
        tokenizers: Open ones or paths.

    Raises:
        RecipeError: The text is empty.
        ArtifactError: A tokenizer cannot be read.
        ResourceError: The packages that read it are not installed.
    """
    if not text:
        raise RecipeError("the text to show is empty: give some text")
    return [_shown(text, one) for one in tokenizers]


def _shown(text: str, source: Source) -> ShownText:
    vocabulary = vocabulary_of(source)
    ids = vocabulary.encode([text])[0]
    surface = surfaces(vocabulary)
    pieces = [surface[number] for number in ids]
    return ShownText(name_of(source), len(ids), len(ids) / len(text), ids, pieces)
