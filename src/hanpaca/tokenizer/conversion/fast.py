"""The `tokenizer.json` that a base with nothing but `tokenizer.model` lacks, made once and kept."""

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

_JSON, _MODEL = "tokenizer.json", "tokenizer.model"


def with_fast_tokenizer(base: Path, tell: Callable[[str], object]) -> Path:
    """Give a base that has only `tokenizer.model` the `tokenizer.json` with the same ids.

    The base's folder stays as it is: the result is a folder in the cache with links to its files.

    Args:
        base: A model's folder.
        tell: Called when something takes time.

    Raises:
        ArtifactError: The tokenizer cannot be converted exactly.
    """
    if (base / _JSON).exists() or not (base / _MODEL).is_file():
        return base
    files = sorted(file for file in base.iterdir() if file.is_file())
    state = [[str(f.resolve()), f.stat().st_size, f.stat().st_mtime_ns] for f in files]
    key = hashlib.sha256(json.dumps(state).encode()).hexdigest()[:16]
    folder = cache_folder() / "models" / key
    if not folder.is_dir():
        from hanpaca.tokenizer.conversion.tokenizer_json import convert_sentencepiece

        tell(f"Converting {base / _MODEL}")
        partial = folder.with_name(f"{key}.{os.getpid()}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        convert_sentencepiece(base / _MODEL, partial)
        for file in files:
            if not (partial / file.name).exists():
                (partial / file.name).symlink_to(file.resolve())
        partial.rename(folder)
    return folder


def cache_folder() -> Path:
    """Where converted bases are kept: `$XDG_CACHE_HOME/hanpaca`, or `~/.cache/hanpaca`."""
    root = os.environ.get("XDG_CACHE_HOME")
    return (Path(root) if root else Path.home() / ".cache") / "hanpaca"
