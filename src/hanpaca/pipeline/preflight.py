"""Before a merge: do base, adapters and tokenizer belong together, in this order, on this disk?

What a merge would notice is a fault here, before a byte is written; what it could not notice (the
right shapes, but the wrong base) is a fault where a fingerprint or published hash proves it, and a
warning where only the sizes suggest it. Each is one line that ends with what to do.
"""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from hanpaca.model.headers import ELEMENT_BYTES
from hanpaca.model.meta import EMBEDDING, HEAD
from hanpaca.model.shape import ModelShape
from hanpaca.pipeline import catalogue
from hanpaca.pipeline.catalogue import Release
from hanpaca.pipeline.contents import (
    TOKENIZER_KEY,
    AdapterContents,
    ModelContents,
    open_adapter,
    open_model,
    open_tokenizer,
)
from hanpaca.runs import describe_file

_VOCABULARY = (EMBEDDING, HEAD)


@dataclass(frozen=True)
class Fit:
    """What was found; a merge goes on only where there is no fault."""

    faults: tuple[str, ...]
    warnings: tuple[str, ...]


@dataclass
class _Findings:
    faults: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class _Identity:
    """Which released adapter one is, or may be."""

    releases: tuple[Release, ...]
    certain: bool

    @property
    def names(self) -> str:
        return " or ".join(one.name for one in self.releases)


def check_fit(
    base: Path,
    adapters: Sequence[Path],
    tokenizer: Path | None = None,
    *,
    output: Path | None = None,
    read_content: bool = True,
) -> Fit:
    """Check that adapters can be merged into a base, in this order, and make one model.

    Args:
        base: Folder or file of a model.
        adapters: Folders or files, in the order they are to be merged.
        tokenizer: Folder of the tokenizer the merged model gets; the last adapter's, or else the
            base's, where None.
        output: Where the merged model will be written; its disk is checked for room.
        read_content: Hash what has a recorded fingerprint or a published hash; else headers alone
            are read.

    Raises:
        ArtifactError: A file is missing or damaged.
    """
    found = _Findings()
    model, opened = open_model(base), [open_adapter(adapter) for adapter in adapters]
    if model.shape is None:
        return Fit((f"{base}: no Llama-style model: it has no {EMBEDDING}",), ())
    if model.weights.missing:
        lost = ", ".join(model.weights.missing[:3])
        found.faults.append(f"{base}: not whole: {lost} missing; download it again")
    rows = model.shape.vocab_rows
    for adapter in opened:
        _check_parts(adapter, found)
        _check_matrices(model, model.shape, adapter, rows, found)
        rows = _check_vocabulary(adapter, model.shape, rows, found)
    identities = [_identity(adapter, read_content) for adapter in opened]
    _check_order(model.shape, opened, identities, found)
    _check_fingerprints(model, opened, identities, read_content, found)
    _check_tokenizer([base, *adapters], opened, tokenizer, rows, found)
    if output is not None:
        _check_disk(model, model.shape, rows, output, found)
    return Fit(tuple(found.faults), tuple(found.warnings))


def _check_parts(adapter: AdapterContents, found: _Findings) -> None:
    path, parts, settings = adapter.path, adapter.parts, adapter.settings
    if parts.unknown:
        found.faults.append(
            f"{path}: tensor {parts.unknown[0]} is of a kind that cannot be merged "
            f"({len(parts.unknown)} such tensors); merge it with peft, or save the adapter again"
        )
    if not parts.updates and not parts.replaced and not parts.rows:
        found.faults.append(f"{path}: the adapter is empty; save it again after training")
    if settings is None:
        found.warnings.append(f"{path}: no adapter_config.json; its alpha must be given")
    else:
        found.warnings += [f"{path}: {note}" for note in settings.notes]


def _check_matrices(
    model: ModelContents,
    shape: ModelShape,
    adapter: AdapterContents,
    rows: int,
    found: _Findings,
) -> None:
    """Every update must have a matrix of its shape in the base; one line says what does not."""
    hidden = adapter.parts.hidden_size
    if hidden is not None and hidden != shape.hidden_size:
        found.faults.append(
            f"{adapter.path}: made for a model of hidden size {hidden}, the base has "
            f"{shape.hidden_size} ({shape.in_words}); give the base of the adapter's size"
        )
        return
    transposed = adapter.settings is not None and adapter.settings.transposed
    wrong = []
    for name, update in adapter.parts.updates.items():
        there = model.weights.tensors.get(name)
        wanted = update.shape[::-1] if transposed else update.shape
        if there is None:
            wrong.append(f"{name} is not in the base")
        elif wanted != ((rows, there.shape[1]) if name in _VOCABULARY else there.shape):
            wrong.append(
                f"{name} is {list(there.shape)} in the base, {list(wanted)} in the adapter"
            )
    for name, size in adapter.parts.replaced.items():
        there = model.weights.tensors.get(name)
        if name not in _VOCABULARY and (there is None or there.shape != size):
            wrong.append(f"{name} {list(size)} is not in the base")
    wrong += [
        f"{name} is not in the base"
        for name in adapter.parts.magnitudes | adapter.parts.rows.keys()
        if name not in model.weights.tensors
    ]
    if wrong:
        found.faults.append(
            f"{adapter.path}: {wrong[0]} ({len(wrong)} such matrices; base: {shape.in_words}): "
            "the adapter belongs to another model; give the one it was trained on"
        )


def _check_vocabulary(
    adapter: AdapterContents, shape: ModelShape, rows: int, found: _Findings
) -> int:
    """Check what an adapter does to the vocabulary; returns the rows there are after it."""
    replaced = adapter.parts.replaced
    whole = {name: replaced[name] for name in _VOCABULARY if len(replaced.get(name, ())) == 2}
    for name, size in whole.items():
        if size[1] != shape.hidden_size:
            found.faults.append(
                f"{adapter.path}: {name} is {list(size)}; give the base of its size"
            )
        elif size[0] < rows:
            found.faults.append(
                f"{adapter.path}: its {name} has {size[0]:,} rows, what comes before it {rows:,}: "
                "pass the adapter with the smaller vocabulary first, or give its own base"
            )
    if len(whole) == 1 and not shape.tied and next(iter(whole.values()))[0] != rows:
        found.faults.append(
            f"{adapter.path}: it brings {next(iter(whole))} for another vocabulary than {rows:,}, "
            "but not the other matrix of the vocabulary; save both with it"
        )
    if shape.tied and HEAD in whole:
        found.warnings.append(f"{adapter.path}: it brings a head, so the merged one is not tied")
    rows = max([rows, *(size[0] for size in whole.values())])
    return _check_new_rows(adapter, rows, found)


def _check_new_rows(adapter: AdapterContents, rows: int, found: _Findings) -> int:
    grown = rows
    for name, size in adapter.parts.rows.items():
        by_module = adapter.settings.row_ids if adapter.settings else {}
        ids = by_module.get(name.removesuffix(".weight").rsplit(".", 1)[-1], by_module.get("", ()))
        if len(size) != 2 or not 0 < len(ids) == len(set(ids)) == size[0]:
            found.faults.append(
                f"{adapter.path}: new rows {list(size)} for {name}, but trainable_token_indices "
                f"lists {len(set(ids))}; copy its own adapter_config.json"
            )
            continue
        last = max(ids) + 1
        if last > rows and not set(range(rows, last)) <= set(ids):
            found.faults.append(
                f"{adapter.path}: it has rows up to {last - 1:,}, the vocabulary ends at {rows:,} "
                "and the rows between are nowhere; give the grown base it was trained on"
            )
            continue
        grown = max(grown, last)
    return grown


def _identity(adapter: AdapterContents, read_content: bool) -> _Identity:
    file = adapter.weights.files[0]
    if read_content and file.name == "adapter_model.bin":
        release = catalogue.release_of_adapter(describe_file(file, name=file.name).sha256)
        if release:
            return _Identity((release,), certain=True)
    parts = adapter.parts
    similar = catalogue.lookalikes(
        hidden_size=parts.hidden_size, rank=parts.rank, vocab_rows=parts.vocab_rows
    )
    return _Identity(tuple(similar), certain=False)


def _check_order(
    shape: ModelShape,
    adapters: Sequence[AdapterContents],
    identities: Sequence[_Identity],
    found: _Findings,
) -> None:
    """Compare with how the released models are rebuilt."""
    for number, (adapter, identity) in enumerate(zip(adapters, identities, strict=True)):
        if not identity.releases:
            continue
        before = identities[number - 1] if number else None
        problem = _order_problem(identity, before, shape)
        if problem and identity.certain:
            found.faults.append(f"{adapter.path}: this adapter, {identity.names}, {problem}")
        elif problem:
            found.warnings.append(
                f"{adapter.path}: by its sizes this adapter may be {identity.names}; that one "
                f"{problem}"
            )


def _order_problem(identity: _Identity, before: _Identity | None, shape: ModelShape) -> str:
    one = identity.releases[0]
    original = shape.vocab_rows == one.base.vocab_size
    if one.after:
        if before is None and original:
            return f"was trained on {one.after} merged; pass that adapter first"
        if before and before.releases and one.after not in {r.name for r in before.releases}:
            return (
                f"was trained on {one.after} merged, not on {before.names}; pass {one.after} first"
            )
        return ""
    if before and {r.after for r in before.releases} & {r.name for r in identity.releases}:
        return f"comes before {before.names}; pass it first"
    if before and before.releases:
        return f"was trained on {one.base.name} alone; leave out {before.names}"
    if before is None and not original:
        return (
            f"was trained on {one.base.name} with {one.base.vocab_size:,} rows; this base has "
            f"{shape.vocab_rows:,}: give the original"
        )
    return ""


def _check_fingerprints(
    model: ModelContents,
    adapters: Sequence[AdapterContents],
    identities: Sequence[_Identity],
    read_content: bool,
    found: _Findings,
) -> None:
    recorded = [adapter.base_fingerprint for adapter in adapters]
    for adapter, mark, identity in zip(adapters, recorded, identities, strict=True):
        if mark is None and not identity.certain:
            found.warnings.append(f"{adapter.path}: it records no base; only shapes were checked")
    if not any(recorded) or not read_content or not model.path.is_dir():
        return
    from hanpaca.model.fingerprint import model_fingerprint

    actual = model_fingerprint(model.path)
    if recorded[0] not in (None, actual):
        others = [a.path for a, mark in zip(adapters, recorded, strict=True) if mark == actual]
        found.faults.append(
            f"{adapters[0].path}: this adapter was trained on another model (fingerprint "
            f"{str(recorded[0])[:12]}…) than {model.path} ({actual[:12]}…); "
            + (f"pass {others[0]} first" if others else "give the model it was trained on")
        )
    found.warnings += [
        f"{adapter.path}: it was trained on the base alone, not on the adapters before it; "
        "their changes add up, so compare the merged model with each alone"
        for adapter, mark in list(zip(adapters, recorded, strict=True))[1:]
        if mark == actual and recorded[0] in (None, actual)
    ]


def _check_tokenizer(
    places: Sequence[Path],
    adapters: Sequence[AdapterContents],
    chosen: Path | None,
    rows: int,
    found: _Findings,
) -> None:
    """Compare the tokenizer with the rows of the merged model, and say which one fits."""
    folders = [path for path in reversed(places) if path.is_dir() or path.suffix == ".gguf"]
    counted = {path: one.num_entries for path in folders if (one := open_tokenizer(path))}
    path = chosen or next(iter(counted), None)
    contents = open_tokenizer(path) if path else None
    if path is None or contents is None:
        found.warnings.append(
            f"{path or places[0]}: no tokenizer; give the one of the last adapter"
        )
        return
    fitting = next((one for one, entries in counted.items() if entries == rows), None)
    fix = f"give the one of {fitting}" if fitting else "give the one the adapter was trained with"
    sizes = f"{path}: the tokenizer has {contents.num_entries:,} entries, the merged model {rows:,}"
    if contents.num_entries > rows:
        found.faults.append(f"{sizes} rows: ids from {rows:,} on would fail; {fix}")
    elif contents.num_entries < rows:
        found.warnings.append(f"{sizes} rows: the last ones are never used; {fix}")
    mark = adapters[-1].weights.metadata.get(TOKENIZER_KEY) if adapters else None
    if mark and path.is_dir() and (path / "tokenizer.json").is_file():
        from hanpaca.model.fingerprint import tokenizer_fingerprint

        if tokenizer_fingerprint(path) != mark:
            found.faults.append(
                f"{path}: another tokenizer than {adapters[-1].path} was trained with (fingerprint "
                f"{mark[:12]}…); give that one"
            )


def _check_disk(
    model: ModelContents, shape: ModelShape, rows: int, output: Path, found: _Findings
) -> None:
    """Compare the room on the output's disk with the size of the merged model."""
    sizes = (
        one.num_parameters * ELEMENT_BYTES.get(one.dtype, 2)
        for one in model.weights.tensors.values()
    )
    matrices = 1 if shape.tied else 2
    element = ELEMENT_BYTES.get(model.weights.tensors[EMBEDDING].dtype, 2)
    needed = sum(sizes) + (rows - shape.vocab_rows) * shape.hidden_size * matrices * element
    place = next(folder for folder in output.absolute().parents if folder.exists())
    free = shutil.disk_usage(place).free
    if free < needed:
        found.faults.append(
            f"{output}: the merged model takes {needed / 1e9:.2f} GB, on its disk {free / 1e9:.2f} "
            "GB are free; free room there or choose another disk"
        )
