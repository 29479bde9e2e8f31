"""A folder for people: GGUF files with what Ollama, LM Studio and readers need beside them."""

import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import yaml
from jinja2 import TemplateError
from transformers.utils.chat_template_utils import render_jinja_template

from hanpaca.errors import ArtifactError
from hanpaca.gguf.fields import vocabulary_of
from hanpaca.gguf.header import Header, read_header
from hanpaca.gguf.vocab import Vocabulary
from hanpaca.inference.ollama import KnownTemplate, Messages, modelfile, recognise
from hanpaca.pipeline import stages
from hanpaca.runs import Artifact, describe_file, read_manifest, stage_folders

_PREFERRED = ("q4_k_m", "q5_k_m", "q8_0", "f16")
_MOST_CONTEXT = 4_096
"""Ollama reserves memory for all of it."""


@dataclass(frozen=True)
class Export:
    """What a person says about a model that its files do not."""

    name: str
    license: str | None = None
    languages: Sequence[str] = ()
    base_models: Sequence[str] = ()
    system: str | None = None


@dataclass(frozen=True)
class ExportSummary:
    """What was written."""

    files: Sequence[str]
    template: str | None
    """The chat format that was recognised."""


def export_model(source: Path, folder: Path, export: Export) -> ExportSummary:
    """Fill an empty folder.

    Args:
        source: A run folder, a folder of GGUF files, or one file.
        folder: Where to; files are linked where that is possible.
        export: Name, license and so on; what is None is taken from the first file's header.

    Raises:
        ArtifactError: There are no GGUF files, or one is damaged.
    """
    files = _gguf_files(source)
    headers = {file: read_header(file) for file in files}
    chosen = _chosen(files)
    try:
        vocabulary = vocabulary_of(headers[chosen].fields)
    except ValueError as error:
        raise ArtifactError(f"{chosen}: {error}") from error
    template = _template(vocabulary)
    for file in files:
        _place(file, folder / file.name)
    context = headers[chosen].fields.get("llama.context_length", _MOST_CONTEXT)
    (folder / "Modelfile").write_text(
        modelfile(
            chosen.name,
            template,
            system=export.system,
            context_tokens=min(context, _MOST_CONTEXT),
        ),
        encoding="utf-8",
    )
    artifacts = [describe_file(folder / file.name, name=file.name) for file in files]
    card = _card(export, headers, artifacts, template, chosen.name) + _provenance(source)
    (folder / "README.md").write_text(card, encoding="utf-8")
    artifacts += [describe_file(folder / name, name=name) for name in ("Modelfile", "README.md")]
    sums = "".join(f"{one.sha256}  {one.path}\n" for one in artifacts)
    (folder / "sha256.txt").write_text(sums, encoding="utf-8")
    listed = [one.path for one in artifacts]
    return ExportSummary([*listed, "sha256.txt"], template.format.name if template else None)


def _gguf_files(source: Path) -> list[Path]:
    if source.is_file():
        return [source]
    stage = source / stages.GGUF
    files = sorted((stage if stage.is_dir() else source).glob("*.gguf"))
    if not files:
        raise ArtifactError(
            f"{source}: no .gguf files here; give a run, a file, or write some first: "
            f"`hanpaca gguf {source} -o DIR`"
        )
    return files


def _chosen(files: Sequence[Path]) -> Path:
    """Whose name the Modelfile has."""
    for kind in _PREFERRED:
        for file in files:
            if file.stem.lower().endswith(kind):
                return file
    return files[0]


def _template(vocabulary: Vocabulary) -> KnownTemplate | None:
    if not vocabulary.chat_template:
        return None

    def token(role: str) -> str:
        return vocabulary.tokens[vocabulary.special[role]] if role in vocabulary.special else ""

    def render(messages: Messages) -> str:
        try:
            texts, _ = cast(Any, render_jinja_template)(
                conversations=[[dict(one) for one in messages]],
                chat_template=vocabulary.chat_template,
                add_generation_prompt=True,
                bos_token=token("bos"),
                eos_token=token("eos"),
            )
        except (TemplateError, TypeError) as error:  # it may refuse a conversation
            raise ValueError(str(error)) from error
        return str(texts[0])

    return recognise(render, bos=token("bos"), eos=token("eos"), adds_bos=vocabulary.add_bos)


def _place(file: Path, target: Path) -> None:
    try:
        os.link(file.resolve(), target)
    except OSError:  # another disk
        shutil.copyfile(file, target)


def _card(
    export: Export,
    headers: Mapping[Path, Header],
    artifacts: Sequence[Artifact],
    template: KnownTemplate | None,
    chosen: str,
) -> str:
    fields = next(iter(headers.values())).fields
    front = {
        "license": export.license or fields.get("general.license"),
        "language": list(export.languages) or fields.get("general.languages"),
        "base_model": list(export.base_models) or _base_models(fields),
        "library_name": "gguf",
        "tags": list(dict.fromkeys([*_texts(fields, "general.tags"), "gguf", "hanpaca"])),
    }
    known = {key: value for key, value in front.items() if value}
    sizes = "".join(f"| {one.path} | {one.num_bytes / 1e6:,.0f} |\n" for one in artifacts)
    told = (
        template.format.name if template else "none that is known here; see tokenizer.chat_template"
    )
    keys = {key: text for key, text in fields.items() if key.startswith("hanpaca.")}
    origin = "".join(f"| {key} | `{text}` |\n" for key, text in keys.items())
    yaml_text = yaml.safe_dump(known, allow_unicode=True, sort_keys=False)
    name = "-".join(export.name.lower().split())
    return f"""---
{yaml_text}---

# {export.name}

| file | MB |
|---|---:|
{sizes}
Chat format: {told}. `sha256sum -c sha256.txt` checks the files.

## Use

- llama.cpp: `llama-server -m {chosen} --jinja`
- Ollama: `ollama create {name} -f Modelfile`, then `ollama run {name}`
- LM Studio: `lms import {chosen}`, or put this folder into its models folder as `publisher/{name}`
- text-generation-webui: put the file into its `models` folder and load it with llama.cpp; the chat
  format is in the file
- hanpaca: `hanpaca chat {chosen}`

## Where it comes from

| what | value |
|---|---|
{origin}"""


def _base_models(fields: Mapping[str, Any]) -> list[str]:
    found = []
    for number in range(int(fields.get("general.base_model.count", 0))):
        parts = (
            fields.get(f"general.base_model.{number}.{key}") for key in ("organization", "name")
        )
        found.append("/".join(str(part) for part in parts if part))
    return found


def _texts(fields: Mapping[str, Any], key: str) -> list[str]:
    value = fields.get(key)
    return [str(one) for one in value] if isinstance(value, list) else []


def _provenance(run: Path) -> str:
    """Every stage of a run, with the key its inputs and settings make."""
    rows = []
    for folder in stage_folders(run):
        manifest = read_manifest(folder)
        rows.append(f"| stage {manifest.stage} | `{manifest.key}` |\n")
    return "".join(rows)
