"""Train a tokenizer from scratch, by the libraries, with LLaMA's settings.

All text comes back from encoding and decoding: nothing is normalized, and what no piece covers is
spelled in bytes. Digits stay apart. The same texts give the same files, whatever the machine.
"""

import io
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Literal, get_args

from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers
from tokenizers import trainers as hf_trainers

from hanpaca.errors import DataError, RecipeError, ResourceError
from hanpaca.tokenizer.conversion.tokenizer_json import write_sentencepiece_folder
from hanpaca.tokenizer.folder import write_side_files
from hanpaca.tokenizer.sentencepiece_bpe import (
    FILE_NAME,
    SPACE,
    parse_model,
    sentencepiece_of_proto,
)

Kind = Literal["sentencepiece-bpe", "sentencepiece-unigram", "byte-bpe"]

END_OF_TEXT = "<|endoftext|>"
_NUM_BYTES = 256
# LLaMA's, as its tokenizer.model says; the thread count is fixed as the sums depend on it.
_SENTENCEPIECE: dict[str, Any] = {
    "character_coverage": 0.99995,
    "byte_fallback": True,
    "split_digits": True,
    "allow_whitespace_only_pieces": True,
    "normalization_rule_name": "identity",
    "remove_extra_whitespaces": False,
    "unk_surface": " ⁇ ",
    "num_threads": 16,
    "minloglevel": 2,
}
_LINE_CHARACTERS = 1000  # sentencepiece passes over lines of more than 4,192 bytes


def train_tokenizer(texts: Iterable[str], folder: Path, *, kind: Kind, num_pieces: int) -> None:
    """Train on texts, read once, and write a folder that `transformers.AutoTokenizer` loads.

    `open_tokenizer` reads the folder too, but for Unigram, which cannot be extended.

    Args:
        texts: Documents or lines.
        folder: Where to write; made if missing.
        kind: Which algorithm; SentencePiece also writes its `tokenizer.model`.
        num_pieces: Entries of the vocabulary, bytes and special ones among them: exactly.

    Raises:
        RecipeError: `kind` is unknown, or `num_pieces` too small for the characters of the texts.
        DataError: The texts are empty, or too little for so many pieces: says how many they give.
        ResourceError: `sentencepiece` is not installed.
    """
    if kind not in get_args(Kind):
        raise RecipeError(f"kind is {kind!r}; it can be {', '.join(get_args(Kind))}")
    if num_pieces <= _NUM_BYTES:
        raise _too_few(num_pieces, _NUM_BYTES + 1)
    if kind == "sentencepiece-bpe":
        path = folder / FILE_NAME
        model = _train_sentencepiece(texts, num_pieces, model_type="bpe")
        tokenizer = sentencepiece_of_proto(parse_model(model, path=path), path=path)
        write_sentencepiece_folder(tokenizer, folder, folder)
        return
    begin, end, unknown = ("<s>", "</s>", "<unk>")
    if kind == "byte-bpe":
        backend = _train_byte_bpe(texts, num_pieces)
        begin = end = unknown = END_OF_TEXT
    else:
        model = _train_sentencepiece(texts, num_pieces, model_type="unigram")
        backend = _unigram_backend(model)
    folder.mkdir(parents=True, exist_ok=True)
    if kind == "sentencepiece-unigram":
        (folder / FILE_NAME).write_bytes(model)
    backend.save(str(folder / "tokenizer.json"))
    config = {"bos_token": begin, "eos_token": end, "unk_token": unknown}
    write_side_files(config | {"clean_up_tokenization_spaces": False}, folder, folder, {})


def _train_sentencepiece(texts: Iterable[str], num_pieces: int, *, model_type: str) -> bytes:
    try:
        import sentencepiece
    except ImportError as error:
        raise ResourceError(
            "SentencePiece cannot be trained: pip install sentencepiece protobuf"
        ) from error
    lines = _NonEmpty(texts)
    model = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(lines),
            model_writer=model,
            model_type=model_type,
            vocab_size=num_pieces,
            **_SENTENCEPIECE,
        )
    except RuntimeError as error:
        raise _explained(str(error), num_pieces, has_text=lines.seen) from error
    return model.getvalue()


class _NonEmpty:
    """Lines of bounded length, and whether there were any."""

    def __init__(self, texts: Iterable[str]) -> None:
        self.texts = texts
        self.seen = False

    def __iter__(self) -> Iterator[str]:
        for text in self.texts:
            for line in text.split("\n"):
                for start in range(0, len(line), _LINE_CHARACTERS):
                    self.seen = True
                    yield line[start : start + _LINE_CHARACTERS]


def _explained(error: str, num_pieces: int, *, has_text: bool) -> DataError | RecipeError:
    if not has_text:
        return _no_text()
    if found := re.search(r"required_chars\. \d+ vs (\d+)", error):
        return _too_few(num_pieces, int(found[1]))
    if found := re.search(r"set it to a value <= (\d+)", error):
        return _too_many(num_pieces, int(found[1]))
    return DataError(f"sentencepiece cannot train on these texts: {error.strip()}")


def _no_text() -> DataError:
    return DataError("the texts are empty: give text to train on")


def _too_few(num_pieces: int, least: int) -> RecipeError:
    return RecipeError(
        f"{num_pieces} pieces are too few: the bytes and characters take at least {least}"
    )


def _too_many(num_pieces: int, most: int) -> DataError:
    return DataError(
        f"the texts give only {most} pieces, not {num_pieces}: give more text or ask for {most} or "
        "fewer"
    )


def _train_byte_bpe(texts: Iterable[str], num_pieces: int) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = hf_trainers.BpeTrainer(
        vocab_size=num_pieces,
        special_tokens=[AddedToken(END_OF_TEXT, special=True)],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    lines = _NonEmpty(texts)
    tokenizer.train_from_iterator(lines, trainer)
    if not lines.seen:
        raise _no_text()
    if tokenizer.get_vocab_size() < num_pieces:
        raise _too_many(num_pieces, tokenizer.get_vocab_size())
    return tokenizer


def _unigram_backend(model: bytes) -> Tokenizer:
    """Write spaces as SentencePiece does, one more before the text, and the way back."""
    proto: Any = parse_model(model, path=Path(FILE_NAME))
    pieces = [(piece.piece, piece.score) for piece in proto.pieces]
    tokenizer = Tokenizer(models.Unigram(pieces, proto.trainer_spec.unk_id, True))
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Prepend(SPACE), normalizers.Replace(" ", SPACE)]
    )
    tokenizer.decoder = decoders.Sequence(
        [
            decoders.Replace(SPACE, " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    special = ("<unk>", "<s>", "</s>")
    tokenizer.add_special_tokens(
        [AddedToken(one, normalized=False, special=True) for one in special]
    )
    return tokenizer
