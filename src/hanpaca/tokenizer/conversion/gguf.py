"""A tokenizer as GGUF stores it; and byte-level BPE from and to `tokenizer.json`.

SentencePiece comes in `gguf_pieces`, the rules that split text in `pretokenizers`, special tokens
in `specials`.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from gguf.constants import TokenType

from hanpaca.errors import ArtifactError
from hanpaca.files import read_json
from hanpaca.tokenizer.chat_templates import DEFAULT
from hanpaca.tokenizer.conversion.around import template_processing
from hanpaca.tokenizer.conversion.pretokenizers import (
    BYTES,
    INEXACT,
    PRE_TOKENIZERS,
    WHOLE_WORDS,
    known_pre_tokenizer,
    recognise_pre_tokenizer,
)
from hanpaca.tokenizer.conversion.specials import find_specials
from hanpaca.tokenizer.settings import Settings

_FLAGS = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}


@dataclass(frozen=True)
class Vocabulary:
    """What a GGUF file says about its tokenizer."""

    pre: str
    """How text is split before bytes are merged; of SentencePiece, always "default"."""
    tokens: list[str]
    token_types: list[int]
    merges: list[str]
    """Pairs in the order they are joined; of SentencePiece none."""
    special: Mapping[str, int]
    """Token ids by role: bos, eos, unk, pad."""
    add_bos: bool
    chat_template: str | None
    """The one that is used where none is asked for."""
    add_eos: bool = False
    model: Literal["gpt2", "llama"] = "gpt2"
    """Byte-level BPE, or SentencePiece BPE."""
    scores: list[float] = field(default_factory=list)
    """Of SentencePiece: the highest is joined first."""
    space_prefix: bool = False
    """A text is encoded as if a space stood before it."""
    ends: tuple[int, ...] = ()
    """Ids that end an answer beside "eos": of a turn, and of a message."""
    named_templates: Mapping[str, str] = field(default_factory=dict)
    """Further chat templates by name."""
    differences: tuple[str, ...] = field(default=(), compare=False)
    """Where llama.cpp gives other ids than the folder's own files, in words; to be told."""


def read_vocabulary(folder: Path, num_rows: int) -> Vocabulary:
    """Read a byte-level BPE tokenizer folder.

    Args:
        folder: Holds `tokenizer.json` and `tokenizer_config.json`.
        num_rows: Rows of the embedding; those without a piece are named `[PAD…]` and never used.

    Raises:
        ArtifactError: Missing, damaged, of another kind, or with more pieces than rows.
    """
    file = folder / "tokenizer.json"
    spec = read_json(file)
    settings = Settings.of(folder)
    try:
        return _vocabulary(spec, settings, folder, num_rows)
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        raise ArtifactError(f"{file}: damaged: {error!r:.100}; download it again") from error


def _vocabulary(
    spec: Mapping[str, Any], settings: Settings, folder: Path, num_rows: int
) -> Vocabulary:
    model = spec.get("model", {})
    if _kind_of(model) != "BPE" or model.get("byte_fallback"):
        raise ArtifactError(
            f"{folder / 'tokenizer.json'}: only byte-level BPE can be written to GGUF"
        )
    ids: dict[str, int] = dict(model["vocab"])
    types = dict.fromkeys(ids.values(), TokenType.NORMAL)
    added = _added_ids(spec.get("added_tokens") or (), ids)
    for token in spec.get("added_tokens") or ():
        number = ids[token["content"]] = added[token["content"]]
        types[number] = TokenType.CONTROL if token["special"] else TokenType.USER_DEFINED
    if len(set(ids.values())) < len(ids) or not all(
        type(text) is str and type(number) is int and number >= 0 for text, number in ids.items()
    ):
        raise ValueError("every piece needs an id of its own")
    check_rows(folder, max(types), num_rows)
    tokens = token_texts({number: text for text, number in ids.items()}, num_rows, folder)
    pre = recognise_pre_tokenizer(
        spec.get("pre_tokenizer"), folder, ignore_merges=bool(model.get("ignore_merges"))
    )
    special = find_specials(settings, tokens, added, folder=folder, family="gpt2")
    return Vocabulary(
        pre=pre,
        tokens=tokens,
        token_types=[int(types.get(number, TokenType.UNUSED)) for number in range(num_rows)],
        merges=[merge if isinstance(merge, str) else " ".join(merge) for merge in model["merges"]],
        special=special.roles,
        add_bos=settings.adds.get("bos", False) and "bos" in special.roles,
        chat_template=special.templates.get(DEFAULT),
        ends=special.ends,
        named_templates={n: text for n, text in special.templates.items() if n != DEFAULT},
        differences=(*_differences(spec, pre, folder), *_renumbered(spec, added), *special.notes),
    )


def _kind_of(model: Mapping[str, Any]) -> object:
    """The kind of a `tokenizer.json`'s model; old files do not say it, and have merges if BPE."""
    return model.get("type") or ("BPE" if "merges" in model else None)


def _added_ids(added: Sequence[Mapping[str, Any]], vocab: Mapping[str, int]) -> dict[str, int]:
    """Ids of added tokens as the tokenizers library gives them, whatever the file says.

    A text that the vocabulary has keeps that id, others follow on.
    Source: `AddedVocabulary::add_tokens` of tokenizers.
    """
    ids: dict[str, int] = {}
    for token in added:
        text = token["content"]
        if not text or text in ids:
            continue
        if text in vocab:
            ids[text] = vocab[text]
        else:
            highest = max(ids.values(), default=-1)
            ids[text] = highest + 1 if highest >= len(vocab) else len(vocab)
    return ids


def _renumbered(spec: Mapping[str, Any], added: Mapping[str, int]) -> tuple[str, ...]:
    """Say which added tokens do not have the ids that the file gives them."""
    others = [
        f"{token['content']!r:.40} ({added[token['content']]}, not {token['id']})"
        for token in spec.get("added_tokens") or ()
        if token["content"] and added[token["content"]] != token["id"]
    ]
    if not others:
        return ()
    return (
        f"{len(others)} added tokens of tokenizer.json have other ids than it says, in this file "
        f"as in transformers: {others[0]}",
    )


def token_texts(pieces: Mapping[int, str], num_rows: int, folder: Path) -> list[str]:
    """Texts of all rows; those without a piece get a name that no piece has.

    Raises:
        ArtifactError: A text llama.cpp cannot hold: it stops reading at a NUL, and finds a token
            by its text.
    """
    seen: dict[str, int] = {}
    for number, text in sorted(pieces.items()):
        if "\0" in text:
            raise ArtifactError(
                f"{folder}: token {number} is {text!r:.60}, with a NUL character, where llama.cpp "
                "ends a piece; take the token out of the tokenizer"
            )
        if text in seen:
            raise ArtifactError(
                f"{folder}: tokens {seen[text]} and {number} are both {text!r:.60}; llama.cpp "
                "needs one id for a text: take one of them out of the tokenizer"
            )
        seen[text] = number
    return [
        pieces[number] if number in pieces else _placeholder(number, seen)
        for number in range(num_rows)
    ]


def _placeholder(number: int, taken: Mapping[str, int]) -> str:
    name = f"[PAD{number}]"
    while name in taken:
        name = f"[{name}]"
    return name


def check_rows(folder: Path, last_id: int, num_rows: int) -> None:
    """Check that every piece has a row.

    Raises:
        ArtifactError: One has none.
    """
    if last_id >= num_rows:
        raise ArtifactError(
            f"{folder}: the tokenizer has a piece with id {last_id}, the model only {num_rows} "
            "rows: they do not belong together"
        )


def settings_of(vocabulary: Vocabulary) -> dict[str, Any]:
    """The content of `tokenizer_config.json`."""
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "clean_up_tokenization_spaces": False,
        "add_bos_token": vocabulary.add_bos,
        "add_eos_token": vocabulary.add_eos,
        **{f"{role}_token": vocabulary.tokens[i] for role, i in vocabulary.special.items()},
    }
    default = {DEFAULT: vocabulary.chat_template} if vocabulary.chat_template else {}
    templates = {**default, **vocabulary.named_templates}
    if vocabulary.named_templates:
        config["chat_template"] = [{"name": n, "template": text} for n, text in templates.items()]
    elif templates:
        config["chat_template"] = vocabulary.chat_template
    return config


def write_tokenizer(vocabulary: Vocabulary, folder: Path) -> None:
    """Write `tokenizer.json` and `tokenizer_config.json` that encode as the GGUF does.

    Raises:
        ArtifactError: llama.cpp's pre-tokenizer has no counterpart here.
    """
    for name, tree in (
        ("tokenizer.json", _spec(vocabulary)),
        ("tokenizer_config.json", settings_of(vocabulary)),
    ):
        text = json.dumps(tree, ensure_ascii=False, indent=1)
        (folder / name).write_text(text, encoding="utf-8")


def _spec(vocabulary: Vocabulary) -> dict[str, Any]:
    """The content of `tokenizer.json`."""
    pre = known_pre_tokenizer(vocabulary.pre)
    marked = (TokenType.CONTROL, TokenType.USER_DEFINED)
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {"id": number, "content": text, **_FLAGS, "special": kind == TokenType.CONTROL}
            for number, (text, kind) in enumerate(
                zip(vocabulary.tokens, vocabulary.token_types, strict=True)
            )
            if kind in marked
        ],
        "normalizer": None,
        "pre_tokenizer": PRE_TOKENIZERS[pre],
        "post_processor": _template(vocabulary),
        "decoder": {**BYTES, "use_regex": True},
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": "",
            "end_of_word_suffix": "",
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": pre in WHOLE_WORDS,
            "vocab": {
                text: number
                for number, text in enumerate(vocabulary.tokens)
                if vocabulary.token_types[number] != TokenType.UNUSED
            },
            "merges": [merge.split(" ") for merge in vocabulary.merges],
        },
    }


def _template(vocabulary: Vocabulary) -> dict[str, Any] | None:
    before, after = (
        vocabulary.tokens[vocabulary.special[role]] if adds and role in vocabulary.special else None
        for role, adds in (("bos", vocabulary.add_bos), ("eos", vocabulary.add_eos))
    )
    return template_processing(before, after, vocabulary.tokens.index)


def _differences(spec: Mapping[str, Any], pre: str, folder: Path) -> tuple[str, ...]:
    """What a `tokenizer.json` does that llama.cpp will not.

    Raises:
        ArtifactError: It changes text in a way that llama.cpp has no counterpart of.
    """
    normalizer = spec.get("normalizer")
    found = [INEXACT[pre]] if pre in INEXACT else []
    if normalizer not in (None, {"type": "NFC"}, {"type": "Sequence", "normalizers": []}):
        raise ArtifactError(
            f"{folder / 'tokenizer.json'}: llama.cpp has no counterpart of this normalizer: "
            f"{json.dumps(normalizer, ensure_ascii=False)[:120]}"
        )
    if normalizer == {"type": "NFC"}:
        found.append(
            "tokenizer.json composes characters (NFC) before it encodes; llama.cpp does not"
        )
    bare = [
        token["content"]
        for token in spec.get("added_tokens") or ()
        if any(token.get(flag) for flag in ("single_word", "lstrip", "rstrip"))
    ]
    if bare:
        found.append(
            f"{len(bare)} added tokens, such as {bare[0]!r:.40}, swallow spaces or stand only as "
            "whole words in transformers; in llama.cpp they do not"
        )
    return tuple(found)
