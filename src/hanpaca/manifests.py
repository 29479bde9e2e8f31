"""Manifests: what a stage or a step was given, and the proof of what it made of it.

A manifest names every file that was read and written with its hash, and ends with a hash of itself:
one changed byte is found, and its stage named.
"""

import importlib.metadata
import json
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from hanpaca.errors import ArtifactError
from hanpaca.files import (
    PARTIAL,
    Artifact,
    describe_file,
    digest_of,
    parse_json,
    read_text,
    write_atomically,
)

MANIFEST = "manifest.json"
SCHEMA_VERSION = 1
ALONE, GROWN, PRUNED = "merge", "grow", "prune"
"""Stages of results that belong to no run: their manifests name files from their own folder."""
_PACKAGES = ("hanpaca", "torch", "transformers", "peft", "tokenizers", "gguf", "xllamacpp")


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a stage was given, and what it made of it."""

    stage: str
    stage_version: int
    key: str
    config: Mapping[str, Any]
    inputs: tuple[Artifact, ...]
    outputs: tuple[Artifact, ...]
    metrics: Mapping[str, Any]
    environment: Mapping[str, str]
    started: str
    """UTC, ISO 8601."""
    seconds: float
    schema_version: int = SCHEMA_VERSION


def stage_key(
    stage: str, version: int, config: Mapping[str, Any], inputs: Sequence[Artifact]
) -> str:
    """Hash all that decides a stage's output: same key, same output, no need to run.

    Args:
        stage: Its name, such as `10-tokenizer`.
        version: Raised when the stage comes to make something else of the same inputs.
        config: Its part of the recipe, JSON-safe.
        inputs: Every file it reads.
    """
    files = sorted((artifact.path, artifact.sha256) for artifact in inputs)
    return digest_of([SCHEMA_VERSION, f"{stage}@{version}", config, files])


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write a manifest into the folder of what it describes, as a whole or not at all."""
    write_atomically(folder / MANIFEST, _render(manifest))


def read_manifest(folder: Path, stage: str | None = None) -> Manifest:
    """Read a stage's manifest and check that it is the one the stage wrote.

    Args:
        folder: Of the stage.
        stage: Its name; None where the folder has it.

    Raises:
        ArtifactError: It is missing, damaged or edited; names the file and the stage.
    """
    path, name = folder / MANIFEST, stage or folder.name
    state = "is damaged or was edited" if path.exists() else "is missing"
    trouble = ArtifactError(
        f"{path}: the manifest of stage {name} {state}; remove {folder} and run again"
    )
    try:
        text = read_text(path)
        tree = parse_json(text, str(path))
        tree.pop("sha256")
        artifacts = {
            side: tuple(Artifact(**item) for item in tree[side]) for side in ("inputs", "outputs")
        }
        manifest = Manifest(**{**tree, **artifacts})
    except (ArtifactError, ValueError, KeyError, TypeError) as error:
        raise trouble from error
    if _render(manifest) != text or manifest.stage != name:
        raise trouble
    return manifest


def stage_folders(run: Path) -> list[Path]:
    """List the finished stages of a run, in order."""
    if not run.is_dir():
        return []
    return sorted(
        path
        for path in run.iterdir()
        if (path / MANIFEST).is_file() and not path.name.endswith(PARTIAL)
    )


def environment() -> dict[str, str]:
    """What made a file: versions only, nothing that tells whose machine it was."""
    versions = {}
    for package in _PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = "absent"
    return {
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
        **versions,
    }


def _render(manifest: Manifest) -> str:
    tree = asdict(manifest)
    return json.dumps({**tree, "sha256": digest_of(tree)}, indent=2, ensure_ascii=False) + "\n"


def write_result_manifest(
    folder: Path,
    stage: str,
    config: Mapping[str, Any],
    inputs: Sequence[Artifact],
    *,
    version: int,
    metrics: Mapping[str, Any],
    begun: datetime,
) -> None:
    """Write the manifest of a model that belongs to no run.

    Args:
        folder: Of the model; its files are the outputs.
        stage: What made it.
        config: What was chosen, JSON-safe.
        inputs: What it was made of.
        version: Of what made it.
        metrics: What is to be said of it.
        begun: When the work began, with its time zone.
    """
    manifest = Manifest(
        stage=stage,
        stage_version=version,
        key=stage_key(stage, version, dict(config), inputs),
        config=dict(config),
        inputs=tuple(inputs),
        outputs=tuple(model_files(folder, inside=True)),
        metrics=metrics,
        environment=environment(),
        started=begun.isoformat(timespec="seconds"),
        seconds=round((datetime.now(UTC) - begun).total_seconds(), 2),
    )
    write_manifest(folder, manifest)


def model_files(folder: Path, *, inside: bool = False) -> list[Artifact]:
    """What a model or tokenizer is made of, with its hashes.

    Args:
        folder: With its files.
        inside: Name them from the folder, not from the one around it.
    """
    kinds = (".safetensors", ".json", ".model", ".jinja")
    found = sorted(file for file in folder.iterdir() if file.suffix in kinds and file.is_file())
    return [
        describe_file(file, name=file.name if inside else f"{folder.name}/{file.name}")
        for file in found
    ]
