"""Tokenizers between folders and GGUF: which family a folder is of, and both ways for each."""

import json
from pathlib import Path

from hanpaca.errors import ArtifactError
from hanpaca.gguf.pieces import piece_vocabulary, used_pieces
from hanpaca.gguf.settings import read_json
from hanpaca.gguf.vocab import Vocabulary, read_vocabulary, settings_of, write_tokenizer
from hanpaca.tokenizer.convert import differing_texts, spec_of_sentencepiece, texts_to_try
from hanpaca.tokenizer.folder import write_json
from hanpaca.tokenizer.rebuild import rebuild_sentencepiece
from hanpaca.tokenizer.sentencepiece_bpe import (
    FILE_NAME,
    SentencePieceBPE,
    read_sentencepiece,
)
from hanpaca.tokenizer.ties import find_ties

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
    merges = read_json(spec).get("model") if spec.is_file() else None
    bytes_only = isinstance(merges, dict) and not merges.get("byte_fallback")
    if not model.is_file() and merges is None:
        raise ArtifactError(f"{folder}: no {FILE_NAME} and no {spec.name}: copy the tokenizer here")
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
        differences=_differences(tokenizer, merges if isinstance(merges, dict) else None, spec),
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
    tokenizer: SentencePieceBPE, model: dict[str, object] | None, spec: Path
) -> tuple[str, ...]:
    """What llama.cpp will encode in another way than the folder's own files."""
    found = []
    settings = tokenizer.proto.normalizer_spec
    if settings.precompiled_charsmap or settings.remove_extra_whitespaces:
        found.append(
            f"{FILE_NAME} normalizes text ({settings.name}) before it looks for pieces; "
            "llama.cpp does not"
        )
    if model is None:
        return tuple(found)
    vocab = model.get("vocab")
    entries = vocab.items() if isinstance(vocab, dict) else ()
    first = {piece: number for piece, number in entries if number in range(tokenizer.next_id)}
    if first != tokenizer.ids:
        raise ArtifactError(
            f"{spec}: its entries are not those of {FILE_NAME}: they are of different tokenizers; "
            "keep the one the model was trained with"
        )
    num_tied = find_ties(tokenizer).num_unorderable
    ours = spec_of_sentencepiece(tokenizer)["model"]["merges"]
    if num_tied:
        found.append(
            f"{num_tied} pieces share a score with others: transformers ({spec.name}) gives other "
            f"ids for some texts; llama.cpp gives those of {FILE_NAME}"
        )
    elif json.dumps(ours) != json.dumps([_pair(merge) for merge in _list(model.get("merges"))]):
        found.append(
            f"{spec.name} joins pieces in another order than {FILE_NAME}, so transformers gives "
            f"other ids for some texts; `hanpaca tokenizer convert` makes one that does not"
        )
    return tuple(found)


def _pair(merge: object) -> object:
    return merge.split(" ") if isinstance(merge, str) else merge


def _list(value: object) -> list[object]:
    return value if isinstance(value, list) else []
