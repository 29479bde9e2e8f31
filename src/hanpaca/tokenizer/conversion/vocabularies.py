"""Tokenizers between folders and GGUF: which family a folder is of, and both ways for each."""

from pathlib import Path
from typing import Any

from hanpaca.errors import ArtifactError
from hanpaca.files import read_json
from hanpaca.tokenizer.conversion.gguf import (
    Vocabulary,
    read_vocabulary,
    settings_of,
    write_tokenizer,
)
from hanpaca.tokenizer.conversion.gguf_pieces import piece_vocabulary, used_pieces
from hanpaca.tokenizer.conversion.rebuild import rebuild_sentencepiece
from hanpaca.tokenizer.conversion.ties import find_ties
from hanpaca.tokenizer.conversion.tokenizer_json import (
    differing_texts,
    spec_of_sentencepiece,
    texts_to_try,
)
from hanpaca.tokenizer.folder import write_json
from hanpaca.tokenizer.sentencepiece_bpe import FILE_NAME, SentencePieceBPE, read_sentencepiece

_STEP = 10
"""One in so many of the texts that a conversion is tried on, here only for a note."""
_ROLES = ("bos", "eos", "unk", "pad")


def folder_vocabulary(folder: Path, num_rows: int) -> Vocabulary:
    """Read a folder's tokenizer as GGUF is to have it.

    `tokenizer.model` decides where there is one: llama.cpp does what sentencepiece does.

    Args:
        folder: Holds `tokenizer.model` or `tokenizer.json`, and their side files.
        num_rows: Rows of the embedding.

    Raises:
        ArtifactError: Missing, damaged, of a kind that GGUF cannot hold, with more pieces than
            rows, or two files of different tokenizers.
        ResourceError: The packages that read `tokenizer.model` are not installed.
    """
    model, spec = folder / FILE_NAME, folder / "tokenizer.json"
    tree = read_json(spec) if spec.exists() else None
    if not model.is_file() and tree is None:
        raise ArtifactError(f"{folder}: no {FILE_NAME} and no {spec.name}: copy the tokenizer here")
    merges = tree.get("model") if tree else None
    bytes_only = isinstance(merges, dict) and not merges.get("byte_fallback")
    if not model.is_file() and not bytes_only:
        raise ArtifactError(
            f"{folder}: no {FILE_NAME}, which {spec.name} was made of; copy it here: GGUF needs "
            "the scores of its pieces"
        )
    if bytes_only:
        return read_vocabulary(folder, num_rows)
    tokenizer = read_sentencepiece(model)
    trainer = tokenizer.proto.trainer_spec
    return piece_vocabulary(
        [(piece.piece, piece.score, piece.type) for piece in tokenizer.proto.pieces],
        folder,
        num_rows,
        space_prefix=tokenizer.proto.normalizer_spec.add_dummy_prefix,
        roles={role: getattr(trainer, f"{role}_piece") for role in _ROLES},
        differences=_differences(tokenizer, tree, spec),
    )


def write_vocabulary(vocabulary: Vocabulary, folder: Path, source: Path) -> None:
    """Write a tokenizer that encodes as the GGUF does.

    Of SentencePiece, `tokenizer.json` is written only where it gives the same ids (see
    `hanpaca.tokenizer.convert`); `tokenizer.model` always does.

    Args:
        vocabulary: As read from a GGUF file.
        folder: Exists.
        source: The GGUF file, for messages.

    Raises:
        ArtifactError: It has no counterpart.
        ResourceError: The packages that write `tokenizer.model` are not installed.
    """
    if vocabulary.model == "gpt2":
        write_tokenizer(vocabulary, folder)
        return
    tokenizer = rebuild_sentencepiece(
        used_pieces(vocabulary),
        space_prefix=vocabulary.space_prefix,
        special=vocabulary.special,
        path=source,
    )
    (folder / FILE_NAME).write_bytes(tokenizer.proto.SerializeToString())
    config = settings_of(vocabulary)
    write_json(folder / "tokenizer_config.json", config)
    spec = spec_of_sentencepiece(tokenizer, config)
    if not differing_texts(tokenizer, spec, texts_to_try(tokenizer)):
        write_json(folder / "tokenizer.json", spec)


def _differences(
    tokenizer: SentencePieceBPE, spec: dict[str, Any] | None, file: Path
) -> tuple[str, ...]:
    """What llama.cpp will encode in another way than the folder's own files."""
    found = []
    settings = tokenizer.proto.normalizer_spec
    if settings.precompiled_charsmap or settings.remove_extra_whitespaces:
        found.append(
            f"{FILE_NAME} normalizes text ({settings.name}) before it looks for pieces; "
            "llama.cpp does not"
        )
    if spec is None:
        return tuple(found)
    model = spec.get("model")
    vocab = model.get("vocab") if isinstance(model, dict) else None
    entries = vocab.items() if isinstance(vocab, dict) else ()
    first = {piece: number for piece, number in entries if number in range(tokenizer.next_id)}
    if first != tokenizer.ids:
        raise ArtifactError(
            f"{file}: its entries are not those of {FILE_NAME}: they are of different tokenizers; "
            "keep the one the model was trained with"
        )
    texts = texts_to_try(tokenizer)[::_STEP]
    try:
        differing = differing_texts(tokenizer, spec, texts)
    except Exception as error:
        # The tokenizers library raises bare Exceptions of its own.
        if type(error) is not Exception:
            raise
        raise ArtifactError(f"{file}: damaged: {error}; copy it again") from error
    if differing:
        num_tied = find_ties(tokenizer).num_unorderable
        found.append(
            f"{len(differing)} of {len(texts)} texts made to find that out get other ids from "
            f"{file.name} (transformers) than from {FILE_NAME}; llama.cpp gives the latter's: "
            + (
                f"{num_tied} pieces share a score, which no {file.name} can say"
                if num_tied
                else "`hanpaca tokenizer convert` makes one with the same ids"
            )
        )
    return tuple(found)
