"""Sums of whole models: the tokenizers say which rows belong together, the merge adds them up."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Unpack

from hanpaca.checkpoints.meta import EMBEDDING
from hanpaca.checkpoints.model import ModelFiles, open_model
from hanpaca.errors import ArtifactError, RecipeError
from hanpaca.files import read_json
from hanpaca.merging import MergeOptions, MergePlan
from hanpaca.merging.sum import Sum, Vocabularies, Weighted, plan_sum
from hanpaca.progress import Tell, silent
from hanpaca.steps.fit import Format, MergeChoices
from hanpaca.steps.merge import MergeReport, carry_out
from hanpaca.tokenizer.byte_bpe import is_byte_level
from hanpaca.tokenizer.conversion.gguf_side import write_gguf_side
from hanpaca.tokenizer.count import json_entries
from hanpaca.tokenizer.open import open_tokenizer

_JSON, _MODEL, _ADDED = "tokenizer.json", "tokenizer.model", "added_tokens.json"


@dataclass(frozen=True)
class Combination:
    """Which models are to be added up."""

    models: Sequence[tuple[Path, float]]
    """Added up; the first gives the configuration."""
    tuned: Sequence[tuple[Path, float]] = ()
    """Of each, the change since `base` is added."""
    base: Path | None = None
    tokenizer: Path | None = None
    """Folder; None: that of the first model, if all have the same."""

    @property
    def in_words(self) -> dict[str, Any]:
        """For the manifest."""
        return {
            "models": [[str(path), weight] for path, weight in self.models],
            "tuned": [[str(path), weight] for path, weight in self.tuned],
            "tuned_from": None if self.base is None else str(self.base),
        }


def combine(
    models: Sequence[tuple[Path | str, float]],
    output: Path | str,
    *,
    tuned: Sequence[tuple[Path | str, float]] = (),
    base: Path | str | None = None,
    tokenizer: Path | str | None = None,
    format: Format = "hf",
    tell: Tell = silent,
    **choices: Unpack[MergeChoices],
) -> MergeReport:
    """Add up whole models: averages, weighted sums, chat vectors; in float32, rounded once.

    ```python
    report = combine([("mine", 1.0)], "out", tuned=[("chat", 0.7)], base="base")
    ```

    Args:
        models: With their weights; the first gives the configuration.
        output: Folder, or of format gguf the file; it appears when it is whole.
        tuned: With weights: of each, the change since `base` is added.
        base: What `tuned` were tuned from.
        tokenizer: Folder of the result's; needed where the models' vocabularies differ.
        format: Hugging Face's, Meta's, or one GGUF file.
        tell: Told the bytes written.
        choices: See `hanpaca.steps.merge.MergeChoices`.

    Raises:
        ArtifactError: The models do not fit each other, or the tokenizers do not fit them.
        RecipeError: No model, a change without a base, or no tokenizer chosen where they differ.
        ResourceError: The disk is full, or a file cannot be written.
    """
    wanted = Combination(
        [(Path(path), weight) for path, weight in models],
        [(Path(path), weight) for path, weight in tuned],
        None if base is None else Path(base),
        None if tokenizer is None else Path(tokenizer),
    )
    options = MergeOptions(format="hf" if format == "gguf" else format, **choices)
    plan, rows = plan_combination(wanted, options)
    report = carry_out(plan, Path(output), format=format, made_of=wanted.in_words, tell=tell)
    return replace(report, notes=tuple(rows))


def plan_combination(wanted: Combination, options: MergeOptions) -> tuple[MergePlan, list[str]]:
    """Read headers and tokenizers and decide what every byte of the result is made of.

    Returns:
        The plan, for `hanpaca.merging.run_merge`, and in words where the rows of pieces come
        from, if the vocabularies differ.

    Raises:
        ArtifactError: The models do not fit each other, or the tokenizers do not fit them.
        RecipeError: No model, a change without a base, or no tokenizer chosen where they differ.
    """
    if not wanted.models:
        raise RecipeError("no model is given", "give at least one {model}")
    if bool(wanted.tuned) != (wanted.base is not None):
        raise RecipeError(
            "what is added is the difference of two models", "give {add} and {base} together"
        )
    read = {path: open_model(path, write_side=write_gguf_side) for path in _paths(wanted)}
    folders = {path: model.side_folder for path, model in read.items()}
    entries = {path: _entries(folder) for path, folder in folders.items()}
    known = {path: found for path, found in entries.items() if found is not None}
    chosen = wanted.tokenizer or next(iter(known), None)
    folder = folders.get(chosen, chosen) if chosen else None
    total = Sum(
        [Weighted(read[path], weight) for path, weight in wanted.models],
        [Weighted(read[path], weight) for path, weight in wanted.tuned],
        read[wanted.base] if wanted.base else None,
    )
    vocabularies = None
    if folder is not None and not _same(read, known, folder):
        vocabularies = _vocabularies(read, known, folder if wanted.tokenizer else None)
    file = _tokenizer_file(folder) if folder else None
    return plan_sum(
        total, options, vocabularies=vocabularies, tokenizer=file.parent if file else None
    )


def _paths(wanted: Combination) -> list[Path]:
    paths = [path for path, _ in (*wanted.models, *wanted.tuned)]
    return list(dict.fromkeys([*paths, *([wanted.base] if wanted.base else [])]))


def _same(
    read: Mapping[Path, ModelFiles], known: Mapping[Path, dict[str, int]], chosen: Path
) -> bool:
    """Whether row and piece are the same in all models, so that nothing has to be looked up."""
    sizes = {model.tensors[EMBEDDING].shape[0] for model in read.values()}
    of_result = _entries(chosen)
    return len(sizes) == 1 and all(one == of_result for one in known.values())


def _vocabularies(
    read: Mapping[Path, ModelFiles], known: Mapping[Path, dict[str, int]], chosen: Path | None
) -> Vocabularies:
    for path in read:
        if path not in known:
            raise ArtifactError(
                f"{path}: no tokenizer here, and the models' vocabularies differ: copy its "
                f"{_JSON} or {_MODEL} beside its weights"
            )
    if chosen is None:
        sizes = ", ".join(f"{path} {len(found):,} pieces" for path, found in known.items())
        raise RecipeError(
            f"the vocabularies differ ({sizes})", "choose the result's with {tokenizer}, a folder"
        )
    entries = _entries(chosen)
    if entries is None:
        raise ArtifactError(f"{chosen}: neither {_JSON} nor {_MODEL} is here")
    folders = [model.side_folder for model in read.values()]
    kinds = {_byte_level(folder): folder for folder in (*folders, chosen)}
    if len(kinds) > 1:
        raise ArtifactError(
            f"{kinds[True]} has a byte-level tokenizer, {kinds[False]} a SentencePiece one: their "
            "pieces are written differently and cannot be matched"
        )
    pieces = sorted(entries, key=lambda piece: entries[piece])
    if [entries[piece] for piece in pieces] != list(range(len(pieces))):
        raise ArtifactError(f"{chosen}: some ids have no piece; choose another tokenizer")
    return Vocabularies(pieces, {read[path].folder: found for path, found in known.items()})


def _entries(folder: Path) -> dict[str, int] | None:
    """Every piece of a folder's tokenizer, added ones too, and its id; None where there is none."""
    file = _tokenizer_file(folder)
    if file is None:
        return None
    if file.name == _JSON:
        return json_entries(read_json(file), path=file)
    added = read_json(folder / _ADDED) if (folder / _ADDED).is_file() else {}
    ids = {piece: number for piece, number in added.items() if type(number) is int}
    return {**open_tokenizer(file).ids, **ids}


def _byte_level(folder: Path) -> bool:
    file = _tokenizer_file(folder)
    return file is not None and file.name == _JSON and is_byte_level(read_json(file))


def _tokenizer_file(folder: Path) -> Path | None:
    beside = folder.resolve().parent / _MODEL  # Meta keeps one beside the folders of all sizes
    is_meta = any(folder.glob("consolidated.*.pth"))
    files = [folder / _JSON, folder / _MODEL, *([beside] if is_meta else [])]
    return next((file for file in files if file.is_file()), None)
