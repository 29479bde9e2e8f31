"""Write a SentencePiece BPE model as `tokenizer.json`, with the same ids for every text.

SentencePiece joins the neighbours whose joined piece has the highest score; `tokenizer.json` has a
list of pairs, most urgent first. So each piece gives all the pairs that make it, in the order of
scores; ties.py says what becomes of equal ones. transformers 5 orders them by id instead and
prepares spaces in another way; with LLaMA that changes 27 of 2,706 English lines and most lines of
code.

Of two pairs with the same score SentencePiece takes the left one. No list can say that, and such
models exist: the published Chinese-LLaMA merge gives 17,953 pieces the score 0. For them the best
list still gives other ids for most Chinese lines, and the model was trained on SentencePiece's. So
every conversion is tried on 50,000 texts or more made to find that out, and one that differs is
refused with the number found; who wants the files all the same asks for them.
"""

import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from hanpaca.errors import ArtifactError
from hanpaca.tokenizer.conversion.around import template_processing
from hanpaca.tokenizer.conversion.probe import stress_texts
from hanpaca.tokenizer.conversion.ties import find_ties, merge_list
from hanpaca.tokenizer.folder import read_config, token_text, write_json, write_side_files
from hanpaca.tokenizer.sentencepiece_bpe import (
    FILE_NAME,
    NORMAL,
    SPACE,
    SentencePieceBPE,
    read_sentencepiece,
)

_UNKNOWN, _CONTROL, _USER_DEFINED = 2, 3, 4


@dataclass(frozen=True)
class Conversion:
    """What a conversion came to.

    Attributes:
        num_pieces: entries of the vocabulary.
        num_merges: pairs in the merge list.
        num_texts: texts that both tokenizers were tried on.
        num_differing: how many of them got other ids; 0 unless inexact files were asked for.
    """

    num_pieces: int
    num_merges: int
    num_texts: int
    num_differing: int


def convert_sentencepiece(
    model: Path,
    folder: Path,
    *,
    add_bos: bool | None = None,
    add_eos: bool | None = None,
    inexact: bool = False,
) -> Conversion:
    """Write a folder that `transformers.AutoTokenizer` loads and that gives the model's own ids.

    Only the names of control pieces are read otherwise: `<s>` in a text is the token, as chat
    templates need it, and not four characters.

    Args:
        model: `tokenizer.model`, or a folder with one. A `tokenizer_config.json` and a chat
            template beside it are taken over.
        folder: where to write; made if missing.
        add_bos: put BOS before each text; if None, as the configuration says, else yes (LLaMA).
        add_eos: put EOS after each text; if None, as the configuration says, else no.
        inexact: write the files even if some texts get other ids.

    Raises:
        ArtifactError: the model cannot be used, or not be converted exactly.
        ResourceError: the packages that read it are not installed.
    """
    tokenizer = read_sentencepiece(model)
    config = _with_flags(read_config(tokenizer.path.parent), tokenizer, (add_bos, add_eos))
    spec = spec_of_sentencepiece(tokenizer, config)
    texts = texts_to_try(tokenizer)
    differing = differing_texts(tokenizer, spec, texts)
    if differing and not inexact:
        raise ArtifactError(
            f"{tokenizer.path}: {len(differing)} of {len(texts)} texts made of its pieces would "
            f"get other ids, such as {differing[0][:40]!r}: {_why_inexact(tokenizer)}; "
            "nothing is written unless you ask for inexact files"
        )
    folder.mkdir(parents=True, exist_ok=True)
    (folder / FILE_NAME).write_bytes(tokenizer.path.read_bytes())
    write_json(folder / "tokenizer.json", spec)
    write_side_files(config, tokenizer.path.parent, folder, tokenizer.ids)
    return Conversion(
        len(tokenizer.ids), len(spec["model"]["merges"]), len(texts), len(differing)
    )  # fmt: skip


def write_sentencepiece_folder(tokenizer: SentencePieceBPE, base: Path, folder: Path) -> None:
    """Write a changed model the same way, with the side files of its base's folder.

    Raises:
        ArtifactError: the base's `tokenizer_config.json` is damaged.
    """
    config = _with_flags(read_config(base), tokenizer, (None, None))
    folder.mkdir(parents=True, exist_ok=True)
    (folder / FILE_NAME).write_bytes(tokenizer.proto.SerializeToString())
    write_json(folder / "tokenizer.json", spec_of_sentencepiece(tokenizer, config))
    write_side_files(config, base, folder, tokenizer.ids)


def texts_to_try(tokenizer: SentencePieceBPE) -> list[str]:
    """Make the texts that a conversion is tried on, of the model's own pieces."""
    normal = [piece.piece for piece in tokenizer.proto.pieces if piece.type == NORMAL]
    return stress_texts([piece.replace(SPACE, " ") for piece in normal])


def differing_texts(
    tokenizer: SentencePieceBPE, spec: dict[str, Any], texts: Sequence[str]
) -> list[str]:
    """Find the texts that a `tokenizer.json` encodes other than the model it was made from."""
    backend = Tokenizer.from_str(json.dumps(spec))
    encoded = backend.encode_batch_fast(list(texts), add_special_tokens=False)
    pairs = zip(texts, tokenizer.encode(texts), encoded, strict=True)
    return [text for text, ids, other in pairs if ids != other.ids]


def spec_of_sentencepiece(
    tokenizer: SentencePieceBPE, config: dict[str, Any] | None = None
) -> dict[str, Any]:
    """Make the tree of a `tokenizer.json`.

    Args:
        tokenizer: the model.
        config: says with `add_bos_token` and `add_eos_token` what is put around a text; nothing
            where it does not say.
    """
    proto, config = tokenizer.proto, config or {}
    unknown = next((p.piece for p in proto.pieces if p.type == _UNKNOWN), None)
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": _added_tokens(tokenizer),
        "normalizer": {"type": "Sequence", "normalizers": _normalizers(proto.normalizer_spec)},
        "pre_tokenizer": None,
        "post_processor": _template(tokenizer, config),
        "decoder": {"type": "Sequence", "decoders": _decoders(proto.normalizer_spec)},
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": unknown,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": True,
            "byte_fallback": True,
            "ignore_merges": False,
            "vocab": dict(tokenizer.ids),
            "merges": [list(pair) for pair in merge_list(tokenizer)],
        },
    }


def _added_tokens(tokenizer: SentencePieceBPE) -> list[dict[str, Any]]:
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    return [
        {"id": number, "content": piece.piece, "special": piece.type != _USER_DEFINED} | flags
        for number, piece in enumerate(tokenizer.proto.pieces)
        if piece.type in (_UNKNOWN, _CONTROL, _USER_DEFINED)
    ]


def _normalizers(settings: Any) -> list[dict[str, Any]]:  # noqa: ANN401  # a generated class
    """What sentencepiece does before it looks for pieces, in its order."""
    steps: list[dict[str, Any]] = []
    if settings.precompiled_charsmap:
        table = base64.b64encode(settings.precompiled_charsmap).decode()
        steps.append({"type": "Precompiled", "precompiled_charsmap": table})
    if settings.remove_extra_whitespaces:
        steps += [
            {"type": "Replace", "pattern": {"Regex": rf"\A +|[ {SPACE}]+\z"}, "content": ""},
            {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": " "},
        ]
    space = SPACE if settings.escape_whitespaces else " "
    if settings.add_dummy_prefix:
        steps.append({"type": "Prepend", "prepend": space})
    if settings.escape_whitespaces:
        steps.append({"type": "Replace", "pattern": {"String": " "}, "content": SPACE})
    return steps


def _decoders(settings: Any) -> list[dict[str, Any]]:  # noqa: ANN401  # a generated class
    steps: list[dict[str, Any]] = [
        {"type": "Replace", "pattern": {"String": SPACE}, "content": " "},
        {"type": "ByteFallback"},
        {"type": "Fuse"},
    ]
    if settings.add_dummy_prefix:
        steps.append({"type": "Strip", "content": " ", "start": 1, "stop": 0})
    return steps


def _template(tokenizer: SentencePieceBPE, config: dict[str, Any]) -> dict[str, Any] | None:
    before, after = (
        token_text(config[f"{name}_token"]) if config.get(f"add_{name}_token") else None
        for name in ("bos", "eos")
    )
    return template_processing(before, after, tokenizer.ids.__getitem__)


def _with_flags(
    config: dict[str, Any], tokenizer: SentencePieceBPE, flags: tuple[bool | None, bool | None]
) -> dict[str, Any]:
    """Fill in what the configuration does not say of BOS, EOS and the unknown token."""
    trainer = tokenizer.proto.trainer_spec
    names = {"bos": trainer.bos_piece, "eos": trainer.eos_piece, "unk": trainer.unk_piece}
    known = {f"{name}_token": piece for name, piece in names.items() if piece in tokenizer.ids}
    full = {"clean_up_tokenization_spaces": False} | known | config
    for name, flag, default in zip(("bos", "eos"), flags, (True, False), strict=True):
        wanted = full.get(f"add_{name}_token", default) if flag is None else flag
        token = token_text(full.get(f"{name}_token"))
        if wanted and token not in tokenizer.ids:
            if flag or f"add_{name}_token" in config:
                raise ArtifactError(
                    f"{tokenizer.path}: it has no {name.upper()} piece {token or ''} to add; "
                    f"leave add_{name}_token off"
                )
            wanted = False
        full[f"add_{name}_token"] = wanted
    return full


def _why_inexact(tokenizer: SentencePieceBPE) -> str:
    num_tied = find_ties(tokenizer).num_unorderable
    if not num_tied:
        return "its settings have no counterpart in a tokenizer.json"
    return (
        f"{num_tied} pieces share a score with others, and of two such pairs sentencepiece takes "
        "the left one, which no merge list can say"
    )
