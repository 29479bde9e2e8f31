"""A SentencePiece vocabulary as GGUF stores it: pieces with scores and types, in order of ids.

llama.cpp's `llama` tokenizer does with them what sentencepiece does: of two neighbours with equal
scores it joins the left ones first, too.
Source: llama.cpp's conversion script (`_create_vocab_sentencepiece`), which knows no user-defined
pieces.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from gguf.constants import TokenType

from hanpaca.errors import ArtifactError
from hanpaca.files import read_json
from hanpaca.tokenizer.chat_templates import DEFAULT
from hanpaca.tokenizer.conversion.gguf import Vocabulary, check_rows, token_texts
from hanpaca.tokenizer.conversion.specials import find_specials
from hanpaca.tokenizer.settings import Settings

_UNUSED_SCORE, _ADDED_SCORE = -10_000.0, -1_000.0
_MARKED = (TokenType.CONTROL, TokenType.USER_DEFINED)
_KEPT = (TokenType.UNKNOWN, TokenType.CONTROL, TokenType.BYTE, TokenType.USER_DEFINED)


def piece_vocabulary(
    pieces: Sequence[tuple[str, float, int]],
    folder: Path,
    num_rows: int,
    *,
    space_prefix: bool,
    roles: Mapping[str, str],
    differences: tuple[str, ...] = (),
) -> Vocabulary:
    """Make the vocabulary of a folder with a SentencePiece model.

    Args:
        pieces: Text, score and type of each, in order of ids; sentencepiece and GGUF number the
            types alike.
        folder: Its side files name special tokens and those added after the model's pieces.
        num_rows: Rows of the embedding; those without a piece are named `[PAD…]` and never used.
        space_prefix: A text is encoded as if a space stood before it.
        roles: The model's own names for "bos", "eos", "unk" and "pad", where the folder has none.
        differences: See `Vocabulary`.

    Raises:
        ArtifactError: A side file is damaged or of another tokenizer, or there are too few rows.
    """
    settings = Settings.of(folder)
    rows = dict(enumerate(pieces))
    for number, text, special in _added(folder, settings):
        if number in rows and rows[number][0] != text:
            raise ArtifactError(
                f"{folder}: token {number} is {text!r:.40} in the tokenizer's files, but "
                f"{rows[number][0]!r:.40} in tokenizer.model: they are of different tokenizers"
            )
        if number not in rows or rows[number][2] not in _KEPT:
            kind = TokenType.CONTROL if special else TokenType.USER_DEFINED
            rows[number] = (text, _ADDED_SCORE, int(kind))
    check_rows(folder, max(rows), num_rows)
    tokens = token_texts({number: row[0] for number, row in rows.items()}, num_rows, folder)
    unused = (_UNUSED_SCORE, int(TokenType.UNUSED))
    rest = [rows[number][1:] if number in rows else unused for number in range(num_rows)]
    marked = {text: number for number, (text, _, kind) in rows.items() if kind in _MARKED}
    found = find_specials(settings, tokens, marked, folder=folder, family="llama", names=roles)
    return Vocabulary(
        model="llama",
        pre="default",
        tokens=tokens,
        token_types=[kind for _, kind in rest],
        scores=[score for score, _ in rest],
        merges=[],
        special=found.roles,
        add_bos=settings.adds.get("bos", True) and "bos" in found.roles,
        space_prefix=space_prefix,
        chat_template=found.templates.get(DEFAULT),
        ends=found.ends,
        named_templates={n: text for n, text in found.templates.items() if n != DEFAULT},
        differences=(*differences, *found.notes),
    )


def used_pieces(vocabulary: Vocabulary) -> list[tuple[str, float, int]]:
    """Text, score and type of every piece, without the `[PAD…]` rows after the last one."""
    rows = list(
        zip(vocabulary.tokens, vocabulary.scores, vocabulary.token_types, strict=True),
    )
    while rows and rows[-1][2] == TokenType.UNUSED and rows[-1][0] == f"[PAD{len(rows) - 1}]":
        rows.pop()
    return rows


def _added(folder: Path, settings: Settings) -> Iterator[tuple[int, str, bool]]:
    """Tokens beside the model: id, text, and whether it is special."""
    try:
        yield from sorted(_all_added(folder, settings.config))
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        raise ArtifactError(f"{folder}: damaged added tokens: {error!r:.100}") from error


def _all_added(folder: Path, config: Mapping[str, Any]) -> Iterator[tuple[int, str, bool]]:
    """As old and new versions of transformers write them down."""
    found: dict[int, tuple[str, bool]] = {}
    if (folder / "added_tokens.json").exists():
        for text, number in read_json(folder / "added_tokens.json").items():
            found[number] = text, False
    for number, token in (config.get("added_tokens_decoder") or {}).items():
        found[int(number)] = token["content"], bool(token.get("special"))
    if (folder / "tokenizer.json").exists():
        for token in read_json(folder / "tokenizer.json").get("added_tokens") or ():
            found[token["id"]] = token["content"], bool(token["special"])
    for number, (text, special) in found.items():
        if type(number) is not int or number < 0 or type(text) is not str or not text:
            raise ValueError(f"{text!r:.40} has the id {number!r:.40}")
        yield number, text, special
