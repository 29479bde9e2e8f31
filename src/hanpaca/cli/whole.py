"""Outputs that get their name only when they are whole."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hanpaca.errors import ArtifactError, ResourceError


@contextmanager
def written_whole(output: Path, *, replace: bool = False) -> Iterator[Path]:
    """Give a place to write a file or folder, which is renamed when all is there.

    Args:
        output: the final name.
        replace: whether a file of this name may be replaced.

    Raises:
        ArtifactError: something has this name already.
        ResourceError: it cannot be written there.
    """
    if output.exists() and not (replace and output.is_file()):
        raise ArtifactError(f"{output}: already exists; remove it or give another name")
    partial = output.with_name(f"{output.name}.partial")
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        _remove(partial)
        yield partial
        partial.replace(output)
    except OSError as error:
        raise ResourceError(f"{output}: cannot be written: {error.strerror}") from error
    finally:
        if partial.exists():
            _remove(partial)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
