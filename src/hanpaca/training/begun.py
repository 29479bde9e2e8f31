"""What a training begins with: by its content it is known again when it was interrupted."""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from hanpaca.checkpoints.fingerprint import model_fingerprint
from hanpaca.errors import ArtifactError
from hanpaca.files import content_key, describe_file, read_json
from hanpaca.manifests import MANIFEST
from hanpaca.settings import TrainingSettings

_BESIDE = ("*.json", "*.jinja", "*.model")
"""Files of a base, beside its weights, that a training reads."""


def training_key(
    step: str,
    base: Path,
    texts: Mapping[str, Iterable[object]],
    *,
    settings: TrainingSettings,
    made_of: Sequence[object],
) -> str:
    """Hash all that decides what a training ends with.

    Args:
        step: Which training it is.
        base: Its weights, tokenizer and configuration count; where they lie does not.
        texts: All that is read, by what it is read for; JSON-safe.
        settings: All of them.
        made_of: Whatever else decides, JSON-safe.

    Raises:
        ArtifactError: The base cannot be read.
    """
    beside = sorted({file for pattern in _BESIDE for file in base.glob(pattern)})
    read = {
        file.name: describe_file(file, name=file.name).sha256
        for file in beside
        if file.name != MANIFEST and not file.name.endswith(".index.json")
    }
    given = {
        "step": step,
        "weights": model_fingerprint(base),
        "beside": read,
        "texts": {name: _digest(items) for name, items in texts.items()},
        "settings": settings.model_dump(mode="json"),
        "made_of": list(made_of),
    }
    return content_key(given, [])


def num_new_rows(base: Path) -> int:
    """How many rows at the end of a base's vocabulary are new, as the manifest of `grow` says it.

    Raises:
        ArtifactError: The manifest is damaged.
    """
    file = base / MANIFEST
    if not file.is_file():
        return 0
    metrics = read_json(file).get("metrics", {})
    number = metrics.get("num_new_rows", 0) if isinstance(metrics, dict) else None
    if not isinstance(number, int):
        raise ArtifactError(f"{file}: metrics.num_new_rows is no number", "give {new_rows}")
    return number


def _digest(items: Iterable[object]) -> str:
    """One at a time: together they may be as large as a corpus."""
    digest = hashlib.sha256()
    for item in items:
        digest.update(json.dumps(item, ensure_ascii=False).encode(errors="surrogatepass") + b"\n")
    return digest.hexdigest()
