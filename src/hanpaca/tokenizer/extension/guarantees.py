"""What an extended tokenizer promises, as checks on real text. Each returns what breaks it."""

from collections.abc import Iterable, Sequence
from itertools import accumulate

from hanpaca.tokenizer.vocabulary import Vocabulary


def dead_pieces(tokenizer: Vocabulary, pieces: Iterable[str]) -> list[str]:
    """Find pieces that no text can produce: their own bytes do not encode to them.

    BPE is local: what forms inside a longer text from exactly these bytes also forms from them
    alone, so this is a proof and not a sample.
    """
    pieces = list(pieces)
    spelled = tokenizer.spell([tokenizer.surface(piece) for piece in pieces])
    pairs = zip(pieces, spelled, strict=True)
    return [piece for piece, ids in pairs if ids != [tokenizer.ids[piece]]]


def changed_texts(base: Vocabulary, extended: Vocabulary, texts: Sequence[str]) -> list[str]:
    """Find the texts whose ids differ between the two tokenizers."""
    pairs = zip(texts, base.encode(texts), extended.encode(texts), strict=True)
    return [text for text, before, after in pairs if before != after]


def is_coarsening(fine: Sequence[bytes], coarse: Sequence[bytes]) -> bool:
    """Tell whether `coarse` only joins neighbours of `fine`: same bytes, no new cut."""
    cuts = set(accumulate(map(len, fine)))
    return b"".join(fine) == b"".join(coarse) and cuts.issuperset(accumulate(map(len, coarse)))


def recut_texts(base: Vocabulary, extended: Vocabulary, texts: Sequence[str]) -> list[str]:
    """Find the texts that the extended tokenizer cuts where the base does not."""
    pairs = zip(texts, cut(base, texts), cut(extended, texts), strict=True)
    return [text for text, fine, coarse in pairs if not is_coarsening(fine, coarse)]


def cut(tokenizer: Vocabulary, texts: Sequence[str]) -> list[list[bytes]]:
    """Cut texts into the bytes of their tokens."""
    surface = surfaces(tokenizer)
    return [[surface[i] for i in ids] for ids in tokenizer.encode(texts)]


def surfaces(tokenizer: Vocabulary) -> dict[int, bytes]:
    """Give the bytes of every id."""
    return {i: tokenizer.surface(piece) for piece, i in tokenizer.ids.items()}


def misread_texts(base: Vocabulary, extended: Vocabulary, texts: Sequence[str]) -> list[str]:
    """Find the texts that come back from encoding and decoding other than from the base."""
    before, after = (one.decode(one.encode(texts)) for one in (base, extended))
    pairs = zip(texts, before, after, strict=True)
    return [text for text, one, other in pairs if one != other]
