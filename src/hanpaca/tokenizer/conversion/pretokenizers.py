"""How text is split before its bytes are merged: llama.cpp's names for `tokenizer.json`'s rules.

llama.cpp finds the rule by name (`tokenizer.ggml.pre`); its own converter finds the name by a hash
of the ids of one text, so an extended vocabulary has none. Here the structure of `pre_tokenizer` is
looked at, which an extension keeps.

Source: llama-vocab.cpp, `llm_tokenizer_bpe` for the rules and `llama_vocab::impl::load` for which
names take a word that is an entry whole, without merging (`ignore_merges`).
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hanpaca.errors import ArtifactError

BYTES = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True}
_CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|"
_TAIL = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_UPPER, _LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
_TEKKEN = (
    rf"[^\r\n\p{{L}}\p{{N}}]?{_UPPER}*{_LOWER}+|[^\r\n\p{{L}}\p{{N}}]?{_UPPER}+{_LOWER}*|"
    r"\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def _split_then_bytes(pattern: str) -> dict[str, Any]:
    split = {
        "type": "Split",
        "pattern": {"Regex": pattern},
        "behavior": "Isolated",
        "invert": False,
    }
    return {"type": "Sequence", "pretokenizers": [split, {**BYTES, "use_regex": False}]}


PRE_TOKENIZERS: Mapping[str, dict[str, Any]] = {
    "gpt-2": {**BYTES, "use_regex": True},
    "smollm": {
        "type": "Sequence",
        "pretokenizers": [
            {"type": "Digits", "individual_digits": True},
            {**BYTES, "use_regex": True},
        ],
    },
    "llama-bpe": _split_then_bytes(_CONTRACTIONS + r"\p{N}{1,3}" + _TAIL),
    "smaug-bpe": _split_then_bytes(_CONTRACTIONS + r"\p{N}{1,3}" + _TAIL),
    "qwen2": _split_then_bytes(_CONTRACTIONS + r"\p{N}" + _TAIL),
    "tekken": _split_then_bytes(_TEKKEN),
}
"""llama.cpp's names and what `tokenizer.json` says for the same rule."""
WHOLE_WORDS = frozenset({"llama-bpe", "tekken"})
"""Names with `ignore_merges`; llama.cpp also puts BOS first with these, unless the file says no."""
INEXACT = {
    "tekken": "of llama.cpp's rule tekken, words end before a combining mark (Thai, Hindi, accents "
    "written apart) and at another change of case outside ASCII than in tokenizer.json",
}
"""Names whose rule in llama.cpp is only near the one in `tokenizer.json`, and how it differs."""
_OTHER_NAMES = {"llama3": "llama-bpe", "llama-v3": "llama-bpe", "deepseek-r1-qwen": "qwen2"}


def known_pre_tokenizer(name: str) -> str:
    """The name under which a rule of llama.cpp stands here.

    Raises:
        ArtifactError: It has no counterpart here.
    """
    name = _OTHER_NAMES.get(name, name)
    if name not in PRE_TOKENIZERS:
        raise ArtifactError(
            f"pre-tokenizer {name!r:.60} is not known; known: {', '.join(PRE_TOKENIZERS)}"
        )
    return name


def recognise_pre_tokenizer(tree: object, folder: Path, *, ignore_merges: bool = False) -> str:
    """Find llama.cpp's name for a `pre_tokenizer`.

    Raises:
        ArtifactError: It has none that is known here.
    """
    found = [name for name, rule in PRE_TOKENIZERS.items() if _essence(tree) == _essence(rule)]
    for name in found:
        if (name in WHOLE_WORDS) == ignore_merges:
            return name
    if found:
        raise ArtifactError(
            f"{folder / 'tokenizer.json'}: ignore_merges is {ignore_merges}, which llama.cpp does "
            f"not know together with the pre_tokenizer of {found[0]}"
        )
    raise ArtifactError(
        f"{folder / 'tokenizer.json'}: llama.cpp has no known counterpart of this pre_tokenizer: "
        f"{json.dumps(tree, ensure_ascii=False)[:120]}; known are {', '.join(PRE_TOKENIZERS)}"
    )


def _essence(tree: object) -> object:
    """What decides how text is split; offsets and defaults left out."""
    if isinstance(tree, dict):
        if tree.get("type") == "Sequence":
            return [_essence(part) for part in tree["pretokenizers"]]
        kept = {k: v for k, v in tree.items() if k not in ("trim_offsets", "invert")}
        return [{"use_regex": True, **kept} if tree.get("type") == "ByteLevel" else kept]
    return tree
