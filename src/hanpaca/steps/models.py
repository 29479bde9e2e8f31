"""Released models of the reference project: what each is rebuilt from, and whether it is whole."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hanpaca.checkpoints.published import Checked, check_published, download_release, faults_of
from hanpaca.checkpoints.released import (
    Release,
    find_release,
    locate_chain,
    merge_command,
    releases,
)

__all__ = ["Release", "Verified", "download", "merge_command", "models", "verify_download"]


@dataclass(frozen=True)
class Verified:
    """A downloaded folder against the hashes that were published."""

    files: Sequence[Checked]
    faults: Sequence[str]


def models(name: str | None = None) -> list[Release]:
    """List the released models, or the one of a name.

    Raises:
        RecipeError: There is none of this name.
    """
    return [find_release(name)] if name else list(releases().values())


def adapters_of(name: str, folder: Path) -> list[Path]:
    """Find the adapters a released model is rebuilt from, in order, in folders of their names.

    Raises:
        RecipeError: There is no model of this name.
        ArtifactError: An adapter is not there.
    """
    return locate_chain(find_release(name), folder)


def download(name: str, folder: Path) -> list[Checked]:
    """Download a released adapter from the hub into a new folder, and check its hashes."""
    return download_release(find_release(name), folder)


def verify_download(folder: Path, name: str | None = None) -> Verified:
    """Check a downloaded folder against the SHA-256 list that was published.

    Args:
        folder: Of a downloaded or merged model.
        name: What it should be; else found by the hashes.

    Raises:
        RecipeError: There is no model of this name.
        ArtifactError: A file cannot be read.
    """
    release = find_release(name) if name else None
    checked = check_published(folder)
    return Verified(checked, faults_of(checked, release))
