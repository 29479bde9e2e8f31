"""The README.md of a model that is given away: from its files, and from the run that made them."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypedDict, Unpack, cast

from jinja2 import TemplateError
from transformers.utils.chat_template_utils import render_jinja_template

from hanpaca.checkpoints.gguf import read_header
from hanpaca.errors import ArtifactError
from hanpaca.evals.results import RunResult, read_results
from hanpaca.inference.ollama import KnownTemplate, Messages, recognise
from hanpaca.manifests import Manifest, read_manifest, stage_folders
from hanpaca.report.card import CardFacts, card_text
from hanpaca.report.wording import ENGLISH, checked_language
from hanpaca.steps.model_file import chosen_file, gguf_files
from hanpaca.tokenizer.conversion.gguf_fields import vocabulary_of

_RESULTS = "80-eval/results.json"
"""Where a run has what it measured."""
_DATA = "05-data"


class CardKeywords(TypedDict, total=False):
    """What a person says about a model that its files do not."""

    name: str
    """Else that of the folder."""
    license: str | None
    """Such as "apache-2.0"; else that of the first file."""
    languages: Sequence[str]
    """Such as "zh"; else those of the first file."""
    base_models: Sequence[str]
    """Ids on the hub; else those of the first file."""
    system: str | None
    """System prompt, for Ollama."""
    lang: str
    """Of the card, such as "zh"; else English."""


def model_card(source: Path | str, **said: Unpack[CardKeywords]) -> str:
    """Write the text of a model card in the hub's form.

    Of a run it tells base, data and numbers with their intervals, what was reached of its goals,
    and its limits; of other files what their headers say.

    >>> model_card(FILES, name="Own", license="mit").splitlines()[:2]
    ['---', 'license: mit']

    Args:
        source: A run folder, a folder of GGUF files, or one file.
        said: See `CardKeywords`.

    Raises:
        ArtifactError: There are no GGUF files, or one is damaged.
        RecipeError: No card is written in this language.
    """
    source, lang = Path(source), checked_language(said.get("lang") or ENGLISH)
    files = files_of(source)
    headers = {file: read_header(file).fields for file in files}
    chosen, fields = chosen_file(files), headers[files[0]]
    template = template_of(chosen, headers[chosen])
    unknown = "none that is known here; see tokenizer.chat_template"
    manifests = [read_manifest(folder) for folder in stage_folders(source)]
    results = read_results(source / _RESULTS) if (source / _RESULTS).is_file() else None
    spoken = said.get("languages") or fields.get("general.languages")
    return card_text(
        CardFacts(
            name=said.get("name") or source.resolve().name.removesuffix(".gguf"),
            license=said.get("license") or fields.get("general.license"),
            languages=list(spoken or (results.languages if results else ())),
            base_models=list(said.get("base_models", ())) or _base_models(fields),
            tags=_texts(fields, "general.tags"),
            files={file.name: file.stat().st_size for file in files},
            chosen=chosen.name,
            chat_format=template.format.name if template else unknown,
            origin=list(_origin(fields, manifests, results)),
            results=results,
            data=[line for manifest in manifests for line in _data(manifest)],
        ),
        lang=lang,
    )


def files_of(source: Path) -> list[Path]:
    """The GGUF files of a run, of a folder, or one.

    Raises:
        ArtifactError: There are none.
    """
    files = gguf_files(source)
    if not files:
        raise ArtifactError(
            f"{source}: no .gguf files here",
            "give a run, a file, or write some first with {write_gguf()}",
        )
    return files


def template_of(file: Path, fields: Mapping[str, Any]) -> KnownTemplate | None:
    """The chat format that a file's template is recognised as; None where it is none.

    Raises:
        ArtifactError: The header is damaged.
    """
    try:
        vocabulary = vocabulary_of(fields)
    except ValueError as error:
        raise ArtifactError(f"{file}: {error}") from error
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


def _origin(
    fields: Mapping[str, Any], manifests: Sequence[Manifest], results: RunResult | None
) -> Iterator[tuple[str, str]]:
    """What the file says, the base and versions of the run, and the key of each stage."""
    yield from ((key, str(text)) for key, text in fields.items() if key.startswith("hanpaca."))
    stages = {manifest.stage for manifest in manifests}
    for one in results.provenance if results else ():
        if one.name not in stages:
            yield one.name, one.value
    yield from ((f"stage {manifest.stage}", manifest.key) for manifest in manifests)


def _data(manifest: Manifest) -> Iterator[str]:
    """What a run learned from, with the hash of each file from outside."""
    if manifest.stage != _DATA:
        return
    for what in ("text", "replay", "instructions"):
        if names := manifest.config.get(what):
            yield f"{what}: {', '.join(names)}"
    for given in manifest.inputs:
        yield f"{given.path}: sha256 `{given.sha256}`"


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
