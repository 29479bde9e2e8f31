"""Where a base model comes from: a folder, a GGUF file, an installed package, or the hub."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hanpaca.errors import ArtifactError, ResourceError
from hanpaca.files import Artifact, describe_file, write_atomically
from hanpaca.settings import Recipe
from hanpaca.tokenizer.conversion.fast import cache_folder, with_fast_tokenizer

_WEIGHTS = (".safetensors", ".gguf")
_JSON, _MODEL = "tokenizer.json", "tokenizer.model"
_READ = (
    "config.json",
    "generation_config.json",
    _JSON,
    _MODEL,
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
)
_HASHES = "hashes.json"


def resolve_base(recipe: Recipe, tell: Callable[[str], object]) -> tuple[Path, list[Artifact]]:
    """Make the base available as a Hugging Face folder.

    A GGUF file is dequantized once, into the cache (`$XDG_CACHE_HOME/hanpaca`), under its hash. A
    hub id is downloaded by huggingface_hub into its own cache; nothing else uses the network.

    Args:
        recipe: Its `base` and `base_sha256`.
        tell: Called when something takes time.

    Returns:
        The folder, and the files of the base as a stage's inputs.

    Raises:
        ArtifactError: There is no such model, or its hash is not the recipe's.
        ResourceError: A download failed.
    """
    path = recipe.locate(recipe.base)
    if path.is_dir():
        return with_fast_tokenizer(path, tell), _folder_inputs(path, recipe.base)
    if path.suffix == ".gguf":
        source = describe_file(path, name=recipe.base)
        if recipe.base_sha256 not in (None, source.sha256):
            raise ArtifactError(
                f"{path}: its sha256 is {source.sha256}, the recipe's base_sha256 is "
                f"{recipe.base_sha256}: another version, or damaged"
            )
        folder = cache_folder() / "models" / source.sha256[:16]
        if not folder.is_dir():
            from hanpaca.steps.write_gguf import gguf_to_folder

            tell(f"Dequantizing {path.name}")
            gguf_to_folder(path, folder)
        return folder, [source]
    if path.exists():
        raise ArtifactError(f"{path}: a base is a folder or a .gguf file")
    if re.fullmatch(r"[\w.-]+/[\w.-]+", recipe.base):
        tell(f"Downloading {recipe.base} from the hub")
        folder = _download(recipe.base)
        return with_fast_tokenizer(folder, tell), _folder_inputs(folder, recipe.base)
    raise ArtifactError(f"base: {path} does not exist; give a folder, a .gguf file or a hub id")


def _folder_inputs(folder: Path, name: str) -> list[Artifact]:
    files = sorted(
        file for file in folder.iterdir() if file.suffix in _WEIGHTS or file.name in _READ
    )
    hashes = cache_folder() / _HASHES
    try:
        known = json.loads(hashes.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        known = {}
    found = [_described(file, f"{name}/{file.name}", known) for file in files]
    hashes.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(hashes, json.dumps(known, indent=1))
    return found


def _described(file: Path, name: str, known: dict[str, list[Any]]) -> Artifact:
    """Hash a file, or remember the hash it had with this size and time of change.

    A base of 13 GB would else be read in full each time a run is resumed.
    """
    place, stat = str(file.resolve()), file.stat()
    size, changed, sha256 = known.get(place, [0, 0, ""])
    if (size, changed) == (stat.st_size, stat.st_mtime_ns):
        return Artifact(name, sha256, size)
    artifact = describe_file(file, name=name)
    known[place] = [stat.st_size, stat.st_mtime_ns, artifact.sha256]
    return artifact


def _download(hub_id: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        return Path(
            snapshot_download(
                hub_id, allow_patterns=["*.json", "*.safetensors", "*.jinja", "*.model"]
            )
        )
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise ResourceError(
            f"base: {hub_id} is no local path and cannot be downloaded from the hub: {error}"
        ) from error
