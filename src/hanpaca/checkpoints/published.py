"""Check a downloaded folder against the hashes its publisher gave, and download on request."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from hanpaca.checkpoints.released import Release, bases, releases
from hanpaca.errors import ArtifactError, ResourceError
from hanpaca.files import describe_file

ADAPTER, TOKENIZER = "adapter_model.bin", "tokenizer.model"
_FILES = ("adapter_config.json", ADAPTER, "special_tokens_map.json", "tokenizer_config.json")
_PATTERNS = (ADAPTER, TOKENIZER, "consolidated.*.pth", "pytorch_model*.bin")


@dataclass(frozen=True)
class Checked:
    """One file and what it was found to be."""

    file: str
    sha256: str
    found: tuple[str, ...]
    """What was published under this hash: such as "chinese-alpaca-7b adapter_model.bin"."""


def check_published(folder: Path) -> list[Checked]:
    """Hash every file of a folder for which hashes were published, and say what each is.

    Raises:
        ArtifactError: There is no such file in it.
    """
    if not folder.is_dir():
        raise ArtifactError(f"{folder}: no such folder; give the folder of a downloaded model")
    names = sorted({file for pattern in _PATTERNS for file in folder.glob(pattern)})
    if not names:
        raise ArtifactError(
            f"{folder}: none of the files with published hashes is here ({', '.join(_PATTERNS)})"
        )
    hashes = {file.name: describe_file(file, name=file.name).sha256 for file in names}
    return [Checked(name, sha256, owners_of(sha256)) for name, sha256 in hashes.items()]


def owners_of(sha256: str) -> tuple[str, ...]:
    """What was published under a hash: model and file."""
    return tuple(f"{owner} {name}" for owner, name, known in _published() if known == sha256)


def faults_of(checked: list[Checked], release: Release | None) -> list[str]:
    """What is wrong with a folder: one line for each file that is not what was published.

    Args:
        checked: By `check_published`.
        release: What the folder is said to be; where None, one release must account for all.
    """
    owners = [{one.split()[0] for one in entry.found} for entry in checked]
    faults = [
        f"{entry.file}: sha256 {entry.sha256} is none that was published: damaged, or "
        "another conversion; download it again"
        for entry in checked
        if not entry.found
    ]
    if release is not None:
        faults += [
            f"{entry.file}: it is {entry.found[0]}, not {release.name}'s: download the right one"
            for entry, names in zip(checked, owners, strict=True)
            if names and release.name not in names
        ]
    elif not faults and not set.intersection(*owners):
        known = "; ".join(f"{entry.file} is {entry.found[0]}" for entry in checked)
        faults.append(f"the files belong to different models: {known}")
    return faults


def download_release(release: Release, folder: Path) -> list[Checked]:
    """Download a released adapter from the Hugging Face hub and check its hashes.

    Args:
        release: Which.
        folder: Must not exist; appears only when every hash is right.

    Raises:
        ArtifactError: `folder` exists, or a file is not what was published.
        ResourceError: The hub cannot be reached.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    if folder.exists():
        raise ArtifactError(f"{folder}: already exists; remove it or give another folder")
    partial = folder.with_name(folder.name + ".partial")
    try:
        snapshot_download(release.hub, local_dir=partial, allow_patterns=[*_FILES, TOKENIZER])
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise ResourceError(f"{release.hub} cannot be downloaded from the hub: {error}") from error
    checked = check_published(partial)
    missing = {ADAPTER, TOKENIZER} - {entry.file for entry in checked}
    faults = [f"{name}: missing" for name in sorted(missing)] + faults_of(checked, release)
    if faults:
        raise ArtifactError(f"{partial}: " + "; ".join(faults))
    partial.rename(folder)
    return checked


def _published() -> Iterator[tuple[str, str, str]]:
    """Owner, file and SHA-256 of everything published."""
    for release in releases().values():
        yield release.name, ADAPTER, release.adapter_sha256
        yield release.name, TOKENIZER, release.tokenizer_sha256
        for number, sha256 in enumerate(release.merged_pth):
            yield release.name, f"consolidated.{number:02d}.pth", sha256
    for base in bases().values():
        for number, sha256 in enumerate(base.pth):
            yield base.name, f"consolidated.{number:02d}.pth", sha256
        for number, sha256 in enumerate(base.bin, 1):
            yield base.name, f"pytorch_model-{number:05d}-of-{len(base.bin):05d}.bin", sha256
