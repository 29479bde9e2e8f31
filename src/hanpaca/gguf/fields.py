"""Values of a GGUF header, checked to be of the type and in the range they should be."""

import math
from collections.abc import Mapping
from typing import Any, Literal, TypeVar

from gguf.constants import TokenType

from hanpaca.gguf.pretokenizers import WHOLE_WORDS, known_pre_tokenizer
from hanpaca.gguf.vocab import Vocabulary

Kind = TypeVar("Kind", int, float, str, bool)
Fields = Mapping[str, Any]
_ROLES = {"bos": "bos", "eos": "eos", "unk": "unknown", "pad": "padding"}
_KINDS = {int(kind) for kind in TokenType}


def field(fields: Fields, key: str, kind: type[Kind], default: Kind | None) -> Kind:
    """One value of the header, checked to be of its kind; None as default demands it.

    Raises:
        ValueError: It is missing or of another kind.
    """
    value = fields.get(key, default)
    if value is None:
        raise ValueError(f"the header lacks {key!r}; download it again")
    if type(value) is not kind:
        raise ValueError(f"{key} is {value!r:.60}, but should be of type {kind.__name__}")
    return value


def token_list(fields: Fields, name: str, kind: type = str) -> list[Any]:
    """An array of the tokenizer, checked to be one of its kind.

    Raises:
        ValueError: It is missing or of another kind.
    """
    key = f"tokenizer.ggml.{name}"
    values = fields.get(key)
    if not isinstance(values, list) or not all(type(value) is kind for value in values):
        raise ValueError(f"the header lacks {key!r}, or it is damaged; download it again")
    return values


def special_tokens(fields: Fields) -> dict[str, int]:
    """Token ids by role.

    Raises:
        ValueError: One is no id.
    """
    num_tokens = len(token_list(fields, "tokens"))
    found = {}
    for role, name in _ROLES.items():
        key = f"tokenizer.ggml.{name}_token_id"
        if key in fields:
            found[role] = field(fields, key, int, None)
            if not 0 <= found[role] < num_tokens:
                raise ValueError(f"{key} is {found[role]}, but there are {num_tokens} tokens")
    return found


def vocabulary_of(fields: Fields) -> Vocabulary:
    """The tokenizer of a header; what is not said is as llama.cpp takes it.

    Raises:
        ValueError: Damaged, or of a kind that is not known here.
        ArtifactError: A way of splitting text that is not known here.
    """
    match fields.get("tokenizer.ggml.model"):
        case "gpt2":
            pre = known_pre_tokenizer(field(fields, "tokenizer.ggml.pre", str, None))
            vocabulary = _with(fields, "gpt2", pre, bos=pre in WHOLE_WORDS, prefix=False)
            _check_merges(vocabulary)
        case "llama":
            vocabulary = _with(fields, "llama", "default", bos=True, prefix=True)
            if len(vocabulary.scores) != len(vocabulary.tokens):
                raise ValueError("tokenizer.ggml.scores does not have one entry a token")
            if not all(map(math.isfinite, vocabulary.scores)):
                raise ValueError("tokenizer.ggml.scores holds NaN or infinite values")
        case kind:
            raise ValueError(
                f"tokenizer kind {kind!r:.60}; only byte-level BPE ('gpt2') and SentencePiece BPE "
                "('llama') can be read: give the model's Hugging Face folder instead"
            )
    if len(vocabulary.token_types) != len(vocabulary.tokens):
        raise ValueError("tokenizer.ggml.token_type does not have one entry a token")
    if not _KINDS.issuperset(vocabulary.token_types):
        raise ValueError("tokenizer.ggml.token_type holds a type that does not exist")
    return vocabulary


def _with(
    fields: Fields, model: Literal["gpt2", "llama"], pre: str, *, bos: bool, prefix: bool
) -> Vocabulary:
    template = fields.get("tokenizer.chat_template")
    if template is not None and not isinstance(template, str):
        raise ValueError("tokenizer.chat_template is no text")
    return Vocabulary(
        model=model,
        pre=pre,
        tokens=token_list(fields, "tokens"),
        token_types=token_list(fields, "token_type", int),
        merges=token_list(fields, "merges") if model == "gpt2" else [],
        scores=token_list(fields, "scores", float) if model == "llama" else [],
        special=special_tokens(fields),
        add_bos=field(fields, "tokenizer.ggml.add_bos_token", bool, bos),
        add_eos=field(fields, "tokenizer.ggml.add_eos_token", bool, False),
        space_prefix=field(fields, "tokenizer.ggml.add_space_prefix", bool, prefix),
        chat_template=template,
    )


def _check_merges(vocabulary: Vocabulary) -> None:
    known = set(vocabulary.tokens)
    for merge in vocabulary.merges:
        parts = merge.split(" ")
        if len(parts) != 2 or not known.issuperset((*parts, "".join(parts))):
            raise ValueError(f"the merge {merge!r:.60} does not make a token of two tokens")
