"""What a tensor of an adapter is there for, told by its name in any dialect.

Dialects: peft of 2023 (whole `embed_tokens` and `lm_head` beside the factors), peft with an
adapter's name inside (`.default.`, `modules_to_save.default`, a copy as `original_module`), new
rows alone (`trainable_tokens_delta`), LoRA of an embedding, DoRA; and the wrappers that a training
left in the names: torch.compile, distributed training, peft in peft, a language model inside a
vision model, a model without its head.
"""

import re

_WRAPPERS = ("base_model.model.", "module.", "_orig_mod.")
_COMPILED = "._orig_mod."
_LANGUAGE_MODEL = ("language_model.", "model.language_model.")
_BODY = ("layers.", "embed_tokens.", "norm.")
_FACTOR = re.compile(
    r"(?P<module>.+)\."
    r"(?P<role>lora_A|lora_B|lora_embedding_A|lora_embedding_B|lora_magnitude_vector)"
    r"(?:\.(?!weight$|bias$)[^.]+)?(?:\.weight)?"
)
_WHOLE = {
    "rows": re.compile(r"(?P<module>.+?)(?:\.token_adapter)?\.trainable_tokens_delta(?:\.[^.]+)?"),
    "saved": re.compile(r"(?P<module>.+)\.modules_to_save(?:\.(?!weight$)[^.]+)?\.weight"),
    "copy": re.compile(
        r"(?P<module>.+?)(?:\.token_adapter)?\.(?:original_module|base_layer)\.weight"
    ),
}
_PLAIN = re.compile(r"(?P<module>[\w.]+)\.weight")


def tensor_role(name: str) -> tuple[str, str] | None:
    """Of which module of the base a tensor is, and what it is there for; None if neither is known.

    The roles are `lora_A`, `lora_B`, `lora_embedding_A`, `lora_embedding_B`,
    `lora_magnitude_vector`, `rows` (new ones), `plain` and `saved` (the whole matrix, by two
    spellings) and `copy` (the base's own).

    >>> tensor_role("base_model.model.model.norm.modules_to_save.default.weight")
    ('model.norm', 'saved')
    """
    name = _unwrapped(name)
    if match := _FACTOR.fullmatch(name):
        return match["module"], match["role"]
    for role, pattern in _WHOLE.items():
        if match := pattern.fullmatch(name):
            return match["module"], role
    match = _PLAIN.fullmatch(name)
    return None if match is None or "lora" in name or "adapter" in name else (match[1], "plain")


def in_larger_model(name: str) -> bool:
    """Whether a name is of the language model inside a larger one, which sees as well.

    >>> in_larger_model("base_model.model.language_model.model.norm.weight")
    True
    """
    return _without_wrappers(name).startswith(_LANGUAGE_MODEL)


def _unwrapped(name: str) -> str:
    name = _without_wrappers(name)
    for prefix in _LANGUAGE_MODEL:
        name = name.removeprefix(prefix)
    return f"model.{name}" if name.startswith(_BODY) else name


def _without_wrappers(name: str) -> str:
    name = name.replace(_COMPILED, ".")
    while name.startswith(_WRAPPERS):
        for prefix in _WRAPPERS:
            name = name.removeprefix(prefix)
    return name
