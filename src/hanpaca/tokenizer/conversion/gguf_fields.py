"""Values of a GGUF header, checked to be of the type and in the range they should be."""

import math
from typing import Literal

from gguf.constants import TokenType

from hanpaca.checkpoints.gguf_fields import Fields, field, special_tokens, token_id, token_list
from hanpaca.tokenizer.conversion.gguf import Vocabulary
from hanpaca.tokenizer.conversion.pretokenizers import WHOLE_WORDS, known_pre_tokenizer

_TEMPLATE = "tokenizer.chat_template"
_KINDS = {int(kind) for kind in TokenType}


def ends_of(fields: Fields) -> tuple[int, ...]:
    """Ids that end an answer beside EOS.

    Raises:
        ValueError: One is no id.
    """
    found = (token_id(fields, f"tokenizer.ggml.{name}_token_id") for name in ("eot", "eom"))
    eos = fields.get("tokenizer.ggml.eos_token_id")
    return tuple(dict.fromkeys(one for one in found if one is not None and one != eos))


def vocabulary_of(fields: Fields) -> Vocabulary:
    """The tokenizer of a header; what is not said is as llama.cpp takes it.

    Raises:
        ValueError: Damaged, or of a kind that is not known here.
        ArtifactError: A way of splitting text that is not known here.
    """
    match fields.get("tokenizer.ggml.model"):
        case "gpt2":
            pre = known_pre_tokenizer(_pre_of(fields))
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
    templates = _templates(fields)
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
        chat_template=templates.pop("", None),
        ends=ends_of(fields),
        named_templates=templates,
    )


def _templates(fields: Fields) -> dict[str, str]:
    """Chat templates by name; that of the default is empty."""
    found = {}
    for key, value in fields.items():
        name = key.removeprefix(_TEMPLATE).removeprefix(".")
        if key == _TEMPLATE or (key.startswith(f"{_TEMPLATE}.") and name):
            if not isinstance(value, str):
                raise ValueError(f"{key} is no text")
            found[name] = value
    return found


def _pre_of(fields: Fields) -> str:
    """The name of the rule that splits text.

    Raises:
        ValueError: There is none, as in files of before May 2024.
    """
    if "tokenizer.ggml.pre" not in fields:
        raise ValueError(
            "the header lacks 'tokenizer.ggml.pre', as files of before May 2024 do, and without it "
            "llama.cpp splits text by a rule that no model was trained with: take a newer file of "
            "this model or its Hugging Face folder, or write the key with llama.cpp's "
            "gguf_new_metadata.py (--pre-tokenizer, such as llama-bpe for Llama 3)"
        )
    return field(fields, "tokenizer.ggml.pre", str, None)


def _check_merges(vocabulary: Vocabulary) -> None:
    known = set(vocabulary.tokens)
    for merge in vocabulary.merges:
        parts = merge.split(" ")
        if len(parts) != 2 or not known.issuperset((*parts, "".join(parts))):
            raise ValueError(f"the merge {merge!r:.60} does not make a token of two tokens")
