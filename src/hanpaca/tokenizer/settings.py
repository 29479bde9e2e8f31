"""What the files beside a tokenizer say: special tokens, those around a text, chat templates."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hanpaca.errors import ArtifactError
from hanpaca.files import read_json
from hanpaca.tokenizer.chat_templates import read_chat_templates

ROLES = ("bos", "eos", "unk", "pad")
_END = "<|endoftext|>"
_OF_CLASSES: Mapping[str, Mapping[str, str]] = {
    "GPT2Tokenizer": {"bos": _END, "eos": _END, "unk": _END},
    "LlamaTokenizer": {"bos": "<s>", "eos": "</s>", "unk": "<unk>"},
    "Qwen2Tokenizer": {"eos": _END, "unk": _END, "pad": _END},
}
"""What transformers' classes take for the token of a role that no file names."""
_IDS = ("bos", "eos", "pad")
_NO_PAD = -1
"""The first conversions of LLaMA say that there is none with this id."""
_MOST_IDS = 2**31


@dataclass(frozen=True)
class Settings:
    """`tokenizer_config.json` and its companions."""

    config: Mapping[str, Any]
    names: Mapping[str, tuple[str, ...]]
    """Texts of the token of each role: the first that the vocabulary has is meant."""
    ids: Mapping[str, tuple[int, ...]]
    """What the model's own files say for "bos", "eos" and "pad"; of "eos" all that end a text."""
    adds: Mapping[str, bool]
    """Whether a text gets the token of "bos" before and of "eos" after it, where the files say."""
    around: Mapping[str, str]
    """The tokens that `tokenizer.json` puts before ("bos") and after ("eos") a text."""
    templates: Mapping[str, str]
    """Chat templates by name; see `read_chat_templates`."""

    @classmethod
    def of(cls, folder: Path) -> "Settings":
        """Read what there is; nothing has to be.

        Raises:
            ArtifactError: A file is damaged, or says an id that is none.
        """
        config = optional_json(folder / "tokenizer_config.json")
        spec = folder / "tokenizer.json"
        tree = optional_json(spec)
        try:
            around = _around(tree)
        except (AttributeError, LookupError, TypeError) as error:
            raise ArtifactError(f"{spec}: damaged post_processor: {error!r:.100}") from error
        return cls(
            config,
            _names(config, optional_json(folder / "special_tokens_map.json"), around or {}),
            _ids(folder),
            _adds(config, around),
            around or {},
            read_chat_templates(folder, config),
        )


def optional_json(file: Path) -> dict[str, Any]:
    """Read a JSON object; empty where there is no file.

    Raises:
        ArtifactError: It is damaged.
    """
    return read_json(file) if file.exists() else {}


def token_text(token: object) -> str:
    """A token's text, which transformers writes as it is or as an object; "" for none."""
    if isinstance(token, dict):
        token = token.get("content")
    return token if isinstance(token, str) else ""


def _names(
    config: Mapping[str, Any], others: Mapping[str, Any], around: Mapping[str, str]
) -> dict[str, tuple[str, ...]]:
    """In the order of transformers, which reads `special_tokens_map.json` of old folders alone.

    Source: `PreTrainedTokenizerBase._from_pretrained`. What it would not look at comes last: better
    that than a file without the token, as llama.cpp then takes another one.
    """
    sources = [config] if "added_tokens_decoder" in config else [others, config]
    kind = config.get("tokenizer_class")
    usual = _OF_CLASSES.get(kind.removesuffix("Fast"), {}) if isinstance(kind, str) else {}
    found = {}
    for role in ROLES:
        key = f"{role}_token"
        said = next((one[key] for one in sources if key in one), usual.get(role))
        texts = (said, others.get(key), config.get(key), around.get(role))
        found[role] = tuple(dict.fromkeys(filter(None, map(token_text, texts))))
    return found


def _ids(folder: Path) -> dict[str, tuple[int, ...]]:
    """As transformers ends a text: `generation_config.json`, or for want of it `config.json`."""
    files = [folder / "generation_config.json", folder / "config.json"]
    trees = [(file, optional_json(file)) for file in files]
    found = {}
    for role in _IDS:
        key = f"{role}_token_id"
        for file, tree in trees:
            value = tree.get(key)
            if value is None or value == [] or (role == "pad" and value == _NO_PAD):
                continue
            listed = value if role == "eos" and isinstance(value, list) else [value]
            for number in listed:
                if type(number) is not int or not 0 <= number < _MOST_IDS:
                    raise ArtifactError(
                        f"{file}: {key} is {number!r:.40}, but should be the id of a token"
                    )
            found[role] = tuple(dict.fromkeys(listed))
            break
    return found


def _around(spec: Mapping[str, Any]) -> dict[str, str] | None:
    """Special tokens first and last in the template of `tokenizer.json`; None without one."""
    post = spec.get("post_processor") or {}
    templates = [
        step["single"]
        for step in post.get("processors", [post])
        if step.get("type") == "TemplateProcessing"
    ]
    if not templates:
        return None
    found = {}
    for role, place in (("bos", 0), ("eos", -1)):
        for parts in templates:
            if "SpecialToken" in parts[place]:
                found[role] = str(parts[place]["SpecialToken"]["id"])
    return found


def _adds(config: Mapping[str, Any], around: Mapping[str, str] | None) -> dict[str, bool]:
    """The template of `tokenizer.json` decides, as in transformers 5, and without one the flags."""
    if around is not None:
        return {role: role in around for role in ("bos", "eos")}
    flags = {role: config.get(f"add_{role}_token") for role in ("bos", "eos")}
    return {role: bool(flag) for role, flag in flags.items() if flag is not None}
