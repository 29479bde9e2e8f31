"""One class for tokenizers of both families, as a user of the package holds them."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Self, Unpack

from hanpaca.files import whole
from hanpaca.progress import Tell, silent
from hanpaca.tokenizer.open import Extendable, open_tokenizer
from hanpaca.tokenizer.vocabulary import text_of

if TYPE_CHECKING:
    from hanpaca.tokenizer.extension.wishes import WishKeywords


class Tokenizer:
    """A byte-level or SentencePiece BPE tokenizer: opened, used, extended, saved.

    >>> old = Tokenizer.open(BASE)
    >>> new = old.extend(["白日依山尽，黄河入海流。"] * 9, num_pieces=8)
    >>> len(new) - len(old), new.decode(new.encode("白日 and the dog"))
    (8, '白日 and the dog')
    >>> len(new.encode("白日依山尽")) < len(old.encode("白日依山尽"))
    True
    >>> new.encode("the dog") == old.encode("the dog")
    True
    """

    def __init__(self, vocabulary: Extendable, *, notes: Sequence[str] = ()) -> None:
        """Args: `vocabulary`, as `open_tokenizer` reads it; `notes`, see the attribute."""
        self.vocabulary = vocabulary
        self.notes = tuple(notes)
        """What is to be known of an extension, a line each, such as scripts that were guessed."""

    @classmethod
    def open(cls, path: Path | str) -> Self:
        """Read a folder, a byte-level `tokenizer.json`, or a SentencePiece `tokenizer.model`.

        Raises:
            ArtifactError: Nothing there, damaged, or of another kind.
            ResourceError: The packages that read a `tokenizer.model` are not installed.
        """
        return cls(open_tokenizer(Path(path)))

    @property
    def path(self) -> Path:
        """The file it was read from; of an extension, its base's."""
        return self.vocabulary.path

    def __len__(self) -> int:
        """Number of entries, special ones too."""
        return len(self.vocabulary.ids)

    def __repr__(self) -> str:
        """Where it is from and how large it is."""
        return f"Tokenizer({str(self.path)!r}, {len(self):,} pieces)"

    @property
    def pieces(self) -> list[str]:
        r"""Every entry in the order of ids, as text; half characters show as `\xe7\x99`."""
        ids, surface = self.vocabulary.ids, self.vocabulary.surface
        return [text_of(surface(piece)) for piece in sorted(ids, key=ids.__getitem__)]

    def encode(self, text: str) -> list[int]:
        """Ids of a text, without the special tokens that a model wants around it."""
        return self.vocabulary.encode([text])[0]

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ids, special tokens written out."""
        return self.vocabulary.decode([ids])[0]

    def cut(self, text: str) -> list[str]:
        """The pieces that a text is cut into, as text."""
        names = {number: piece for piece, number in self.vocabulary.ids.items()}
        return [text_of(self.vocabulary.surface(names[number])) for number in self.encode(text)]

    def extend(
        self,
        texts: Iterable[str],
        *,
        num_pieces: int,
        scripts: Sequence[str] = (),
        tell: Tell = silent,
        **wishes: Unpack["WishKeywords"],
    ) -> "Tokenizer":
        """Learn new pieces; text without the scripts' characters and punctuation keeps its ids.

        Args:
            texts: Documents or lines, read once.
            num_pieces: Pieces to add, exactly.
            scripts: Unicode script names such as "Han"; none to have them guessed from the texts.
            tell: Called with signs of life.
            wishes: `punctuation`, `required`, `prior`, `protect`; see `Wishes`.

        Raises:
            RecipeError: `num_pieces`, `scripts` or a wish makes no sense.
            DataError: The texts have no target text, or too little.
            ArtifactError: This tokenizer cannot be extended safely.
        """
        from hanpaca.tokenizer.extension.extend import extend_tokenizer
        from hanpaca.tokenizer.extension.wishes import Wishes

        found = extend_tokenizer(
            self.vocabulary,
            texts,
            num_pieces=num_pieces,
            scripts=scripts,
            wishes=Wishes(**wishes),
            tell=tell,
        )
        return Tokenizer(found.tokenizer, notes=found.notes)

    def save(self, folder: Path | str) -> None:
        """Write a new folder that `transformers.AutoTokenizer` loads, side files of the base too.

        Raises:
            ArtifactError: The folder exists, or the base's side files are damaged.
            ResourceError: It cannot be written there.
        """
        from hanpaca.tokenizer.extension.extend import write_tokenizer

        with whole(Path(folder)) as partial:
            write_tokenizer(self.vocabulary, self.path.parent, partial)


Source = Tokenizer | Path | str
"""A tokenizer, or where it lies."""


def vocabulary_of(source: Source) -> Extendable:
    """Open a tokenizer, if it is not open yet.

    Raises:
        ArtifactError: It cannot be read.
        ResourceError: The packages that read it are not installed.
    """
    return source.vocabulary if isinstance(source, Tokenizer) else open_tokenizer(Path(source))


def name_of(source: Source) -> str:
    """What to call a tokenizer in a table: where it lies, or was read from."""
    return str(source.path if isinstance(source, Tokenizer) else source)
