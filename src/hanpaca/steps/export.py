"""A folder for people: GGUF files with what Ollama, LM Studio and readers need beside them."""

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Unpack

from hanpaca.checkpoints.gguf import read_header
from hanpaca.files import describe_file, whole
from hanpaca.inference.ollama import modelfile
from hanpaca.steps.model_card import CardKeywords, files_of, model_card, template_of
from hanpaca.steps.model_file import chosen_file

_MOST_CONTEXT = 4_096
"""Ollama reserves memory for all of it."""


@dataclass(frozen=True)
class ExportReport:
    """What was written."""

    files: Sequence[str]
    template: str | None
    """The chat format that was recognised; None: the Modelfile has no TEMPLATE."""


def export(source: Path | str, output: Path | str, **said: Unpack[CardKeywords]) -> ExportReport:
    """Put GGUF files, an Ollama Modelfile, a model card and checksums into one folder.

    >>> found = export(FILES, OUTPUT, name="Own", languages=["zh"])
    >>> found.template, found.files[-2:]
    ('ChatML', ['README.md', 'sha256.txt'])

    Args:
        source: A run folder, a folder of GGUF files, or one file.
        output: Folder to write, which must not exist; files are linked where that is possible.
        said: See `CardKeywords`.

    Raises:
        ArtifactError: There are no GGUF files, one is damaged, the system prompt cannot be
            written, or `output` exists.
        RecipeError: No card is written in this language.
        ResourceError: It cannot be written there.
    """
    said.setdefault("name", Path(output).resolve().name)
    with whole(Path(output)) as partial:
        partial.mkdir()
        return _fill(Path(source), partial, said)


def _fill(source: Path, folder: Path, said: CardKeywords) -> ExportReport:
    files = files_of(source)
    chosen = chosen_file(files)
    fields = read_header(chosen).fields
    template = template_of(chosen, fields)
    for file in files:
        _place(file, folder / file.name)
    context = fields.get("llama.context_length", _MOST_CONTEXT)
    (folder / "Modelfile").write_text(
        modelfile(
            chosen.name,
            template,
            system=said.get("system"),
            context_tokens=min(context, _MOST_CONTEXT),
        ),
        encoding="utf-8",
    )
    artifacts = [describe_file(folder / file.name, name=file.name) for file in files]
    card = model_card(source, **said)
    (folder / "README.md").write_text(card, encoding="utf-8")
    artifacts += [describe_file(folder / name, name=name) for name in ("Modelfile", "README.md")]
    sums = "".join(f"{one.sha256}  {one.path}\n" for one in artifacts)
    (folder / "sha256.txt").write_text(sums, encoding="utf-8")
    listed = [one.path for one in artifacts]
    return ExportReport([*listed, "sha256.txt"], template.format.name if template else None)


def _place(file: Path, target: Path) -> None:
    try:
        os.link(file.resolve(), target)
    except OSError:  # another disk
        shutil.copyfile(file, target)
