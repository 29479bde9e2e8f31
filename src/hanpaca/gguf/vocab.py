"""A tokenizer as GGUF stores it, from and to `tokenizer.json` (byte-level BPE).

llama.cpp splits text before it merges, by a rule it finds by name (`tokenizer.ggml.pre`). The name
is recognised here by the structure of `pre_tokenizer`, so an extended vocabulary keeps it.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gguf.constants import TokenType

from hanpaca.errors import ArtifactError

_CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|"
_TAIL = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_BYTES = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True}


def _split_then_bytes(pattern: str) -> dict[str, Any]:
    split = {
        "type": "Split",
        "pattern": {"Regex": pattern},
        "behavior": "Isolated",
        "invert": False,
    }
    return {"type": "Sequence", "pretokenizers": [split, {**_BYTES, "use_regex": False}]}


PRE_TOKENIZERS: Mapping[str, dict[str, Any]] = {
    "gpt-2": {**_BYTES, "use_regex": True},
    "smollm": {
        "type": "Sequence",
        "pretokenizers": [
            {"type": "Digits", "individual_digits": True},
            {**_BYTES, "use_regex": True},
        ],
    },
    "llama-bpe": _split_then_bytes(_CONTRACTIONS + r"\p{N}{1,3}" + _TAIL),
    "qwen2": _split_then_bytes(_CONTRACTIONS + r"\p{N}" + _TAIL),
}
"""llama.cpp's names and what `tokenizer.json` says for the same rule."""


@dataclass(frozen=True)
class Vocabulary:
    """What a GGUF file says about its tokenizer."""

    pre: str
    tokens: list[str]
    token_types: list[int]
    merges: list[str]
    special: Mapping[str, int]
    """Token ids by role: bos, eos, unk, pad."""
    add_bos: bool
    chat_template: str | None


def read_vocabulary(folder: Path, num_rows: int) -> Vocabulary:
    """Read a byte-level BPE tokenizer folder.

    Args:
        folder: Holds `tokenizer.json` and `tokenizer_config.json`.
        num_rows: Rows of the embedding; those without a piece are named `[PAD…]` and never used.

    Raises:
        ArtifactError: Missing, damaged, of another kind, or with more pieces than rows.
    """
    file = folder / "tokenizer.json"
    spec = _read_json(file)
    config_file = folder / "tokenizer_config.json"
    config = _read_json(config_file) if config_file.exists() else {}
    try:
        return _vocabulary(spec, config, folder, num_rows)
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        raise ArtifactError(f"{file}: damaged: {error!r:.100}; download it again") from error


def _vocabulary(
    spec: Mapping[str, Any], config: Mapping[str, Any], folder: Path, num_rows: int
) -> Vocabulary:
    model = spec.get("model", {})
    if model.get("type") != "BPE" or model.get("byte_fallback"):
        raise ArtifactError(
            f"{folder / 'tokenizer.json'}: only byte-level BPE can be written to GGUF"
        )
    ids: dict[str, int] = dict(model["vocab"])
    types = dict.fromkeys(ids.values(), TokenType.NORMAL)
    for added in spec.get("added_tokens", []):
        ids[added["content"]] = added["id"]
        types[added["id"]] = TokenType.CONTROL if added["special"] else TokenType.USER_DEFINED
    if len(set(ids.values())) < len(ids) or not all(
        type(text) is str and type(number) is int and number >= 0 for text, number in ids.items()
    ):
        raise ValueError("every piece needs an id of its own")
    if max(types) >= num_rows:
        raise ArtifactError(
            f"{folder}: the tokenizer has a piece with id {max(types)}, the model only {num_rows} "
            "rows: they do not belong together"
        )
    tokens = [f"[PAD{number}]" for number in range(num_rows)]
    for text, number in ids.items():
        tokens[number] = text
    return Vocabulary(
        pre=recognise_pre_tokenizer(spec.get("pre_tokenizer"), folder),
        tokens=tokens,
        token_types=[int(types.get(number, TokenType.UNUSED)) for number in range(num_rows)],
        merges=[merge if isinstance(merge, str) else " ".join(merge) for merge in model["merges"]],
        special={
            role: ids[_content(config.get(f"{role}_token"))]
            for role in ("bos", "eos", "unk", "pad")
            if _content(config.get(f"{role}_token")) in ids
        },
        add_bos=_adds_bos(spec, config),
        chat_template=_chat_template(folder, config),
    )


def write_tokenizer(vocabulary: Vocabulary, folder: Path) -> None:
    """Write `tokenizer.json` and `tokenizer_config.json` that encode as the GGUF does.

    Raises:
        ArtifactError: llama.cpp's pre-tokenizer has no counterpart here.
    """
    if vocabulary.pre not in PRE_TOKENIZERS:
        raise ArtifactError(
            f"pre-tokenizer {vocabulary.pre!r} is not known; known: {', '.join(PRE_TOKENIZERS)}"
        )
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "clean_up_tokenization_spaces": False,
        "add_bos_token": vocabulary.add_bos,
        **{f"{role}_token": vocabulary.tokens[i] for role, i in vocabulary.special.items()},
    }
    if vocabulary.chat_template:
        config["chat_template"] = vocabulary.chat_template
    for name, tree in (("tokenizer.json", _spec(vocabulary)), ("tokenizer_config.json", config)):
        text = json.dumps(tree, ensure_ascii=False, indent=1)
        (folder / name).write_text(text, encoding="utf-8")


def _spec(vocabulary: Vocabulary) -> dict[str, Any]:
    """The content of `tokenizer.json`."""
    marked = (TokenType.CONTROL, TokenType.USER_DEFINED)
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {
                "id": number,
                "content": text,
                "single_word": False,
                "lstrip": False,
                "rstrip": False,
                "normalized": False,
                "special": kind == TokenType.CONTROL,
            }
            for number, (text, kind) in enumerate(
                zip(vocabulary.tokens, vocabulary.token_types, strict=True)
            )
            if kind in marked
        ],
        "normalizer": None,
        "pre_tokenizer": PRE_TOKENIZERS[vocabulary.pre],
        "post_processor": None,
        "decoder": {**_BYTES, "use_regex": True},
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": "",
            "end_of_word_suffix": "",
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": vocabulary.pre == "llama-bpe",
            "vocab": {
                text: number
                for number, text in enumerate(vocabulary.tokens)
                if vocabulary.token_types[number] != TokenType.UNUSED
            },
            "merges": [merge.split(" ") for merge in vocabulary.merges],
        },
    }


def recognise_pre_tokenizer(tree: object, folder: Path) -> str:
    """Find llama.cpp's name for a `pre_tokenizer`.

    Raises:
        ArtifactError: It has none that is known here.
    """
    for name, known in PRE_TOKENIZERS.items():
        if _essence(tree) == _essence(known):
            return name
    raise ArtifactError(
        f"{folder / 'tokenizer.json'}: llama.cpp has no known counterpart of this pre_tokenizer: "
        f"{json.dumps(tree, ensure_ascii=False)[:120]}"
    )


def _essence(tree: object) -> object:
    """What decides how text is split; offsets and defaults left out."""
    if isinstance(tree, dict):
        if tree.get("type") == "Sequence":
            return [_essence(part) for part in tree["pretokenizers"]]
        kept = {k: v for k, v in tree.items() if k not in ("trim_offsets", "invert")}
        return [{"use_regex": True, **kept} if tree.get("type") == "ByteLevel" else kept]
    return tree


def _adds_bos(spec: Mapping[str, Any], config: Mapping[str, Any]) -> bool:
    if config.get("add_bos_token") is not None:
        return bool(config["add_bos_token"])
    post = spec.get("post_processor") or {}
    steps = post.get("processors", [post])
    return any(
        step.get("type") == "TemplateProcessing" and "SpecialToken" in step["single"][0]
        for step in steps
    )


def _chat_template(folder: Path, config: Mapping[str, Any]) -> str | None:
    file = folder / "chat_template.jinja"
    if file.exists():
        try:
            return file.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ArtifactError(f"{file}: cannot be read as UTF-8: {error}") from error
    template = config.get("chat_template")
    return template if isinstance(template, str) else None


def _content(token: object) -> str:
    """A token's text; "" for none."""
    if isinstance(token, dict):
        token = token.get("content")
    return token if isinstance(token, str) else ""


def _read_json(file: Path) -> dict[str, Any]:
    try:
        tree = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, RecursionError, ValueError) as error:
        raise ArtifactError(f"{file}: cannot be read: {error}") from error
    if not isinstance(tree, dict):
        raise ArtifactError(f"{file}: damaged: not a JSON object")
    return tree
