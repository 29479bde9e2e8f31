"""What the files beside a tokenizer say: special tokens, those around a text, the template."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hanpaca.errors import ArtifactError

ROLES = ("bos", "eos", "unk", "pad")


@dataclass(frozen=True)
class Settings:
    """`tokenizer_config.json` and its companions."""

    config: Mapping[str, Any]
    special: Mapping[str, str]
    """The text of the token of each role."""
    adds: Mapping[str, bool]
    """Whether a text gets the token of "bos" before and of "eos" after it, where the files say."""
    chat_template: str | None

    @classmethod
    def of(cls, folder: Path) -> "Settings":
        """Read what there is; nothing has to be.

        Raises:
            ArtifactError: A file is damaged.
        """
        file, spec = folder / "tokenizer_config.json", folder / "tokenizer.json"
        config = read_json(file) if file.exists() else {}
        tree = read_json(spec) if spec.exists() else {}
        special = {role: _content(config.get(f"{role}_token")) for role in ROLES}
        try:
            adds = _adds(tree, config)
        except (AttributeError, LookupError, TypeError) as error:
            raise ArtifactError(f"{spec}: damaged post_processor: {error!r:.100}") from error
        return cls(
            config,
            {role: text for role, text in special.items() if text},
            adds,
            _chat_template(folder, config),
        )


def read_json(file: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        ArtifactError: It is missing or damaged.
    """
    try:
        tree = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, RecursionError, ValueError) as error:
        raise ArtifactError(f"{file}: cannot be read: {error}") from error
    if not isinstance(tree, dict):
        raise ArtifactError(f"{file}: damaged: not a JSON object")
    return tree


def _adds(spec: Mapping[str, Any], config: Mapping[str, Any]) -> dict[str, bool]:
    """The setting where there is one, else what the post-processor does."""
    post = spec.get("post_processor") or {}
    templates = [
        step["single"]
        for step in post.get("processors", [post])
        if step.get("type") == "TemplateProcessing"
    ]
    adds = {}
    for role, place in (("bos", 0), ("eos", -1)):
        if config.get(f"add_{role}_token") is not None:
            adds[role] = bool(config[f"add_{role}_token"])
        elif templates:
            adds[role] = any("SpecialToken" in parts[place] for parts in templates)
    return adds


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
