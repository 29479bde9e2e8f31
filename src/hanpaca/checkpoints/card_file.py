"""The model card beside a model: the front matter of its README.md."""

from collections.abc import Mapping
from pathlib import Path

import yaml

from hanpaca.checkpoints.card import ModelCard

_FENCE = "---"


def read_card(folder: Path) -> ModelCard:
    """Read what a folder's model card says; a missing or unreadable one says nothing.

    Format: https://huggingface.co/docs/hub/model-cards#model-card-metadata
    """
    try:
        text = (folder / "README.md").read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return ModelCard()
    parts = text.split(f"{_FENCE}\n", 2)
    if len(parts) < 3 or parts[0].strip():
        return ModelCard()
    try:
        tree = yaml.safe_load(parts[1])
    except yaml.YAMLError:
        return ModelCard()
    if not isinstance(tree, dict):
        return ModelCard()
    return ModelCard(
        name=_text(tree, "model_name"),
        license=_text(tree, "license_name") or _text(tree, "license"),
        languages=_texts(tree, "language"),
        tags=_texts(tree, "tags"),
        base_models=_texts(tree, "base_model"),
    )


def _text(tree: Mapping[str, object], key: str) -> str | None:
    value = tree.get(key)
    return value if isinstance(value, str) else None


def _texts(tree: Mapping[str, object], key: str) -> list[str]:
    """One text or a list of them; YAML reads the language `no` as false."""
    value = tree.get(key)
    values = value if isinstance(value, list) else [value]
    texts = ["no" if one is False and key == "language" else one for one in values]
    return [text for text in texts if isinstance(text, str) and text]
