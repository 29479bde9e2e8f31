"""What this machine has for each part of the work, and the command that mends what is missing."""

import os
import platform
import shutil
import sqlite3
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

from packaging.requirements import Requirement

from hanpaca.data.builtin.packages import TextPackage, text_packages
from hanpaca.errors import ArtifactError, ResourceError
from hanpaca.threads import num_cores, threads_for

_PACKAGE = "hanpaca"
_LARGE_BYTES = 1 << 40
"""Of a model for which every free core counts."""
_LEAST_FREE_BYTES = 5e9
"""Of a disk: the demo needs 2.3 GB, a merge of 7B models 13."""


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at."""

    name: str
    found: str
    mend: str = ""
    """What to do; empty where nothing is amiss."""
    needed: bool = True
    """Whether nothing works without it; an extra is for one part of the work."""


def doctor(folder: str | Path = ".") -> list[Finding]:
    """Look at versions, packages, cores, memory, disks and accelerators. Nothing is changed.

    >>> [one.name for one in doctor() if one.needed and one.mend]
    []

    Args:
        folder: Where runs are to be written.

    Raises:
        ArtifactError: `folder` is a file.
        ResourceError: hanpaca itself is not installed, so that nothing says what it needs.
    """
    if Path(folder).is_file():
        raise ArtifactError(
            f"{folder}: is a file; what is looked at here is the machine, and a folder's disk",
            "see what the file is with {inspect()}",
        )
    try:
        needs = [Requirement(one) for one in requires(_PACKAGE) or ()]
    except PackageNotFoundError as error:
        raise ResourceError("hanpaca is not installed: pip install hanpaca") from error
    python = f"{platform.python_version()} on {platform.system()} {platform.machine()}"
    return [
        Finding("hanpaca", version(_PACKAGE)),
        Finding("python", python),
        *(_package(one) for one in needs if one.marker is None),
        *_extras(needs),
        *map(_text, text_packages()),
        _cores(),
        _memory(),
        _disk("disk", Path(folder)),
        _accelerator(),
        Finding("sqlite", sqlite3.sqlite_version),
    ]


def _package(need: Requirement) -> Finding:
    installed = _version(need)
    mend = "" if _fits(need) else f"pip install '{need.name}{need.specifier}'"
    return Finding(need.name, installed or "not installed", mend)


def _extras(needs: list[Requirement]) -> list[Finding]:
    """Each extra with what it lacks; `all`, which is made of the others, lacks what they lack."""
    needs = [one for one in needs if one.name != _PACKAGE]
    names = {name for one in needs if one.marker for name in _extra_of(one)}
    findings = []
    for name in sorted(names):
        wanted = [one for one in needs if one.marker and one.marker.evaluate({"extra": name})]
        missing = [one.name for one in wanted if not _fits(one)]
        found = ", ".join(f"{one.name} {_version(one) or '-'}" for one in wanted)
        mend = f"pip install 'hanpaca[{name}]'" if missing else ""
        findings.append(Finding(f"extra {name}", found, mend, needed=False))
    return findings


def _text(package: TextPackage) -> Finding:
    """A text that recipes can name: whether its package is there, and its licence."""
    found = f"{package.holds} ({package.licence})"
    try:
        package.path()
    except ResourceError:
        return Finding(package.word, found, package.command, needed=False)
    return Finding(package.word, found, needed=False)


def _extra_of(need: Requirement) -> set[str]:
    """Names of extras in a marker such as `extra == "web"`."""
    words = str(need.marker).replace('"', " ").split()
    return {words[i + 2] for i, word in enumerate(words[:-2]) if word == "extra"}


def _version(need: Requirement) -> str | None:
    try:
        return version(need.name)
    except PackageNotFoundError:
        return None


def _fits(need: Requirement) -> bool:
    installed = _version(need)
    return installed is not None and need.specifier.contains(installed, prereleases=True)


def _cores() -> Finding:
    cores, free = num_cores(), threads_for(_LARGE_BYTES)
    mend = "" if free * 2 > cores else "others use most of them; models get the free ones alone"
    return Finding("cores", f"{cores}, {free} free now", mend, needed=False)


def _memory() -> Finding:
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return Finding("memory", f"{total / 1e9:.1f} GB")


def _disk(name: str, folder: Path) -> Finding:
    there = next(one for one in (folder.absolute(), *folder.absolute().parents) if one.exists())
    free = shutil.disk_usage(there).free
    short = free < _LEAST_FREE_BYTES
    mend = "little room; hanpaca plan tells what a recipe needs" if short else ""
    return Finding(name, f"{free / 1e9:.1f} GB free for {there}", mend, needed=False)


def _accelerator() -> Finding:
    if not _fits(Requirement("torch")):
        return Finding("accelerator", "unknown without torch", needed=False)
    import torch

    if not torch.cuda.is_available():
        build = "a build for CPUs" if torch.version.cuda is None else f"CUDA {torch.version.cuda}"
        return Finding("accelerator", f"none; torch is {build}", needed=False)
    names = (torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count()))
    return Finding("accelerator", ", ".join(names), needed=False)
