"""What an extended tokenizer promises, as checks on real text. Each returns what breaks it."""

from collections.abc import Iterable, Sequence
from itertools import accumulate

from hanpaca.tokenizer.byte_bpe import ByteBPE, bytes_of_piece


def encode(tokenizer: ByteBPE, texts: Sequence[str]) -> list[list[int]]:
    """Encode texts without the special tokens that a model wants around them."""
    encoded = tokenizer.backend.encode_batch_fast(list(texts), add_special_tokens=False)
    return [encoding.ids for encoding in encoded]


def dead_pieces(tokenizer: ByteBPE, pieces: Iterable[str]) -> list[str]:
    """Find pieces that no text can produce: their own bytes do not encode to them.

    BPE is local: what forms inside a longer text from exactly these bytes also forms from them
    alone, so this is a proof and not a sample. Half characters are no text; for them the merges
    alone are asked.
    """
    whole: list[tuple[str, str]] = []
    dead: set[str] = set()
    pieces = list(pieces)
    for piece in pieces:
        try:
            whole.append((piece, bytes_of_piece(piece).decode()))
        except UnicodeDecodeError:
            if tokenizer.split(piece) != [piece]:
                dead.add(piece)
    encoded = encode(tokenizer, [text for _, text in whole])
    for (piece, _), ids in zip(whole, encoded, strict=True):
        if ids != [tokenizer.ids[piece]]:
            dead.add(piece)
    return [piece for piece in pieces if piece in dead]


def changed_texts(base: ByteBPE, extended: ByteBPE, texts: Sequence[str]) -> list[str]:
    """Find the texts whose ids differ between the two tokenizers."""
    pairs = zip(texts, encode(base, texts), encode(extended, texts), strict=True)
    return [text for text, before, after in pairs if before != after]


def is_coarsening(fine: Sequence[str], coarse: Sequence[str]) -> bool:
    """Tell whether `coarse` only joins neighbours of `fine`: same string, no new cut."""
    cuts = set(accumulate(map(len, fine)))
    return "".join(fine) == "".join(coarse) and cuts.issuperset(accumulate(map(len, coarse)))


def recut_texts(base: ByteBPE, extended: ByteBPE, texts: Sequence[str]) -> list[str]:
    """Find the texts that the extended tokenizer cuts where the base does not."""
    pairs = zip(texts, _cuts(base, texts), _cuts(extended, texts), strict=True)
    return [text for text, fine, coarse in pairs if not is_coarsening(fine, coarse)]


def _cuts(tokenizer: ByteBPE, texts: Sequence[str]) -> list[list[str]]:
    # By our own look-up: the fast encoding leaves its `tokens` empty strings.
    entry = {i: piece for piece, i in tokenizer.ids.items()}
    return [[entry[i] for i in ids] for ids in encode(tokenizer, texts)]


def misread_texts(base: ByteBPE, extended: ByteBPE, texts: Sequence[str]) -> list[str]:
    """Find the texts that come back from encoding and decoding other than from the base."""
    before = base.backend.decode_batch(encode(base, texts), skip_special_tokens=False)
    after = extended.backend.decode_batch(encode(extended, texts), skip_special_tokens=False)
    pairs = zip(texts, before, after, strict=True)
    return [text for text, one, other in pairs if one != other]
