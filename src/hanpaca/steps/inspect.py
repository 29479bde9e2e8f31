"""Say what a path is and what fits it: `hanpaca inspect`."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from hanpaca.checkpoints import released as catalogue
from hanpaca.checkpoints.adapter import AdapterFiles, is_adapter, open_adapter
from hanpaca.checkpoints.gguf import read_header
from hanpaca.checkpoints.gguf_names import hf_name
from hanpaca.checkpoints.meta import EMBEDDING, HEAD, PARAMS
from hanpaca.checkpoints.published import owners_of
from hanpaca.checkpoints.shapes import (
    MODEL_TYPES,
    MeasuredShape,
    check_whole,
    layer_numbers,
    measure,
)
from hanpaca.checkpoints.weights import MODEL_FILES, RECOMPUTED, Weights, find_weights, read_weights
from hanpaca.errors import ArtifactError
from hanpaca.files import describe_file, read_json
from hanpaca.tokenizer.count import TokenizerContents, count_tokenizer

_CONFIG_FIELDS = {
    "hidden_size": "hidden_size",
    "num_hidden_layers": "num_layers",
    "intermediate_size": "intermediate_size",
    "vocab_size": "vocab_rows",
}
_TOKENIZER_NAMES = ("tokenizer.json", "tokenizer.model")


@dataclass(frozen=True)
class AdapterFacts:
    """What an adapter is."""

    variant: Literal["LoRA", "rsLoRA", "DoRA"]
    rank: int | None
    alpha: float | None
    targets: tuple[str, ...]
    """Matrices with factors, by the last part of their names."""
    replaced: Mapping[str, tuple[int, ...]]
    """Tensors it brings whole."""
    new_rows: Mapping[str, int]
    hidden_size: int | None
    num_layers: int
    vocab_rows: int | None
    base_name: str | None
    base_fingerprint: str | None
    tokenizer_fingerprint: str | None


@dataclass(frozen=True)
class Inspection:
    """What was found at a path."""

    path: str
    kind: Literal["model", "adapter", "tokenizer"]
    warnings: tuple[str, ...]
    layout: str | None = None
    architecture: str | None = None
    num_parameters: int = 0
    num_bytes: int = 0
    """Of the weight files."""
    dtypes: Mapping[str, int] = field(default_factory=dict)
    """Parameters of each type."""
    shape: MeasuredShape | None = None
    adapter: AdapterFacts | None = None
    tokenizer_entries: int | None = None
    known_as: str | None = None
    """What it is or may be among the released models and the originals."""
    fits: str | None = None
    """What an adapter is to be merged into."""
    fingerprints: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class _OpenedModel:
    """A model's headers and configuration, whatever is wrong with them."""

    path: Path
    weights: Weights
    shape: MeasuredShape | None
    config: Mapping[str, Any]
    """`config.json`, `params.json`, or the fields of a GGUF file; empty where there is none."""


def inspect(path: Path | str, *, hash_content: bool = False) -> Inspection:
    """Say what a model folder, adapter, tokenizer, GGUF or weights file is, and what is odd.

    ```python
    found = inspect("llama-7b")
    print(found.kind, found.warnings)
    ```

    Args:
        path: A folder or a file.
        hash_content: Read all data too, for the fingerprints; else headers alone are read.

    Raises:
        ArtifactError: It is none of these, or damaged.
    """
    path = Path(path)
    if not path.is_dir() and not path.is_file():
        raise ArtifactError(f"{path}: no such file or folder")
    tokenizer_file = path.name in _TOKENIZER_NAMES or path.suffix in (".json", ".model")
    if not tokenizer_file and is_adapter(path):
        return _adapter(open_adapter(path), hash_content)
    tokenizer = count_tokenizer(path) if path.is_dir() or tokenizer_file else None
    if tokenizer is not None and (tokenizer_file or not _has_weights(path)):
        return _tokenizer(path, tokenizer, hash_content)
    if path.is_dir() and not _has_weights(path):
        raise ArtifactError(
            f"{path}: neither weights nor a tokenizer is here; give the folder of a model, adapter "
            "or tokenizer, or a .safetensors, .bin, .pth, .gguf, tokenizer.json or .model file"
        )
    return _model(_open(path), hash_content)


def as_tree(found: Inspection) -> dict[str, Any]:
    """For JSON: what does not apply is left out."""
    return {key: value for key, value in asdict(found).items() if value not in (None, {}, [])}


def _open(path: Path) -> _OpenedModel:
    """Read the headers of a model: a folder of any layout, a GGUF file, or a lone weights file."""
    if path.suffix == ".gguf" and path.is_file():
        header = read_header(path)
        tensors = {hf_name(name) or name: one.stored(path) for name, one in header.tensors.items()}
        texts = {key: text for key, text in header.fields.items() if isinstance(text, str)}
        metadata = {key: text for key, text in texts.items() if key.startswith("hanpaca.")}
        weights = Weights((path,), "gguf", tensors, metadata)
        return _OpenedModel(path, weights, measure(tensors), header.fields)
    found = find_weights(path) if path.is_dir() else read_weights([path])
    if found is None:
        raise ArtifactError(
            f"{path}: no weights here ({', '.join(MODEL_FILES)}, their indexes, or "
            "consolidated.*.pth); give the folder that has them, or a file"
        )
    names = (PARAMS, "config.json") if found.layout == "meta" else ("config.json",)
    files = [path / name for name in names if path.is_dir() and (path / name).is_file()]
    config = read_json(files[0]) if files else {}
    return _OpenedModel(path, found, measure(found.tensors), config)


def _has_weights(folder: Path) -> bool:
    patterns = ("model*.safetensors*", "pytorch_model*.bin*", "consolidated.*.pth")
    return any(next(folder.glob(pattern), None) for pattern in patterns)


def _model(model: _OpenedModel, hash_content: bool) -> Inspection:
    tokenizer = None
    if model.path.is_dir() or model.path.suffix == ".gguf":
        tokenizer = count_tokenizer(model.path)
    shape, config = model.shape, model.config
    fingerprints = _fingerprints(model.path, model.weights, tokenizer, hash_content)
    base = shape and catalogue.base_of_shape(shape.hidden_size, shape.num_layers, shape.vocab_rows)
    architectures = config.get("architectures")
    return Inspection(
        path=str(model.path),
        kind="model",
        **_weights_facts(model.weights),
        architecture=(
            str(architectures[0])
            if isinstance(architectures, list) and architectures
            else str(config.get("general.architecture", "LLaMA" if shape else "unknown"))
        ),
        shape=shape,
        tokenizer_entries=tokenizer.num_entries if tokenizer else None,
        known_as=(
            _published_as(model.weights, fingerprints)
            or _known_tokenizer(tokenizer)
            or (f"the shape of {base.name}" if base else None)
        ),
        fingerprints=fingerprints,
        warnings=tuple(_model_warnings(model, tokenizer)),
    )


def _adapter(adapter: AdapterFiles, hash_content: bool) -> Inspection:
    settings, updates = adapter.settings, adapter.updates
    tokenizer = count_tokenizer(adapter.path) if adapter.path.is_dir() else None
    fingerprints = _fingerprints(adapter.path, adapter.weights, tokenizer, hash_content)
    scales = any(update.magnitude for update in updates.values())
    rows = {name: one.rows.shape[0] for name, one in adapter.changes.items() if one.rows}
    facts = AdapterFacts(
        variant="DoRA" if scales else "rsLoRA" if settings.rank_stabilized else "LoRA",
        rank=adapter.rank or settings.rank,
        alpha=settings.alpha,
        targets=tuple(sorted({name.split(".")[-2] for name in updates})),
        replaced=adapter.replaced,
        new_rows=rows,
        hidden_size=adapter.hidden_size,
        num_layers=max(layer_numbers(updates), default=-1) + 1,
        vocab_rows=adapter.vocab_rows,
        base_name=settings.base_name,
        base_fingerprint=adapter.base_fingerprint,
        tokenizer_fingerprint=adapter.tokenizer_fingerprint,
    )
    known = catalogue.release_of_adapter(next(iter(fingerprints.values()), ""))
    similar = (
        [known]
        if known
        else catalogue.lookalikes(
            hidden_size=facts.hidden_size, rank=facts.rank, vocab_rows=facts.vocab_rows
        )
    )
    names = " or ".join(one.name for one in similar)
    return Inspection(
        path=str(adapter.path),
        kind="adapter",
        **_weights_facts(adapter.weights),
        adapter=facts,
        tokenizer_entries=tokenizer.num_entries if tokenizer else None,
        known_as=(names if known else f"the sizes of {names}") if similar else None,
        fits=_fits(facts, similar),
        fingerprints=fingerprints,
        warnings=tuple(_adapter_warnings(adapter, tokenizer)),
    )


def _tokenizer(path: Path, tokenizer: TokenizerContents, hash_content: bool) -> Inspection:
    return Inspection(
        path=str(path),
        kind="tokenizer",
        tokenizer_entries=tokenizer.num_entries,
        known_as=_known_tokenizer(tokenizer),
        fingerprints=_fingerprints(path, None, tokenizer, hash_content),
        warnings=tokenizer.notes,
    )


def _weights_facts(weights: Weights) -> dict[str, Any]:
    dtypes: Counter[str] = Counter()
    for stored in weights.tensors.values():
        dtypes[stored.kind] += stored.num_parameters
    return {
        "layout": weights.layout,
        "num_parameters": sum(dtypes.values()),
        "num_bytes": sum(file.stat().st_size for file in weights.files),
        "dtypes": dict(dtypes.most_common()),
    }


def _fits(facts: AdapterFacts, similar: list[catalogue.Release]) -> str:
    if similar:
        one = similar[0]
        return " + ".join([one.base.name, *one.chain[:-1]])
    sizes = [f"hidden size {facts.hidden_size}"] if facts.hidden_size else []
    sizes += [f"at least {facts.num_layers} layers"] if facts.num_layers else []
    if facts.vocab_rows:
        sizes.append(f"a vocabulary of at most {facts.vocab_rows:,}")
    if facts.base_fingerprint:
        sizes.append(f"fingerprint {facts.base_fingerprint[:12]}…")
    return "a model of " + ", ".join(sizes)


def _published_as(weights: Weights, fingerprints: Mapping[str, str]) -> str | None:
    """The model whose published hashes all the files have, where they were hashed."""
    hashes = [fingerprints.get(file.name, "") for file in weights.files]
    owners = [{one.split()[0] for one in owners_of(sha256)} for sha256 in hashes]
    return next(iter(set.intersection(*owners)), None)


def _known_tokenizer(tokenizer: TokenizerContents | None) -> str | None:
    found = catalogue.releases_of_tokenizer((tokenizer and tokenizer.model_sha256) or "")
    if not found:
        return None
    family = "Chinese-Alpaca" if found[0].template else "Chinese-LLaMA"
    return f"the tokenizer of the {family} models"


def _fingerprints(
    path: Path, weights: Weights | None, tokenizer: TokenizerContents | None, hash_content: bool
) -> dict[str, str]:
    """Hashes of content: of weights whatever files they lie in, of other files as they are."""
    found = {}
    if hash_content and weights is not None:
        for file in weights.files:
            found[file.name] = describe_file(file, name=file.name).sha256
    if hash_content and path.is_dir():
        from hanpaca.checkpoints.fingerprint import model_fingerprint, tokenizer_fingerprint

        if weights and EMBEDDING in weights.tensors:
            found["model"] = model_fingerprint(path)
        if (path / "tokenizer.json").is_file():
            found["tokenizer"] = tokenizer_fingerprint(path)
    if tokenizer is not None and tokenizer.model_sha256:
        found["tokenizer.model"] = tokenizer.model_sha256
    return found


def _model_warnings(model: _OpenedModel, tokenizer: TokenizerContents | None) -> Iterator[str]:
    weights, shape = model.weights, model.shape
    yield from _missing(weights)
    if shape is None:
        yield f"there is no {EMBEDDING}: not a whole Llama-style model"
        return
    if shape.missing_layers:
        numbers = ", ".join(str(number) for number in shape.missing_layers[:5])
        yield f"layers {numbers} have no weights ({len(shape.missing_layers)} such layers)"
    if model.path.is_dir() and weights.layout != "meta":
        yield from _config_warnings(model, shape)
    elif weights.layout == "meta" and not model.config:
        yield "params.json is missing; llama.cpp and this package need it beside the weights"
    told = list(_config_warnings(model, shape)) if model.path.is_dir() else []
    if not told and not weights.missing and not shape.missing_layers:
        yield from _not_whole(model)
    head = weights.tensors.get(HEAD)
    if head is not None and head.shape != (shape.vocab_rows, shape.hidden_size):
        yield f"{HEAD} is {list(head.shape)}, not of the embedding's shape; copy the model again"
    yield from _vocabulary_warnings(model.path, shape, tokenizer)
    if weights.layout in ("torch", "meta"):
        yield "the weights are pickles; they were not run. Prefer safetensors"


def _not_whole(model: _OpenedModel) -> Iterator[str]:
    """What a merge would refuse: a weight that is missing, misshapen or one too many."""
    if model.weights.layout not in ("safetensors", "torch") or not model.config:
        return
    if model.config.get("model_type") not in (*MODEL_TYPES, None):
        return
    tied = bool(model.config.get("tie_word_embeddings"))
    shapes = {
        name: stored.shape
        for name, stored in model.weights.tensors.items()
        if not name.endswith(RECOMPUTED) and not (tied and name == HEAD)
    }
    try:
        check_whole(model.config, shapes)
    except ValueError as error:
        yield f"not whole: {error}"


def _config_warnings(model: _OpenedModel, shape: MeasuredShape) -> Iterator[str]:
    if not model.config:
        yield "config.json is missing; copy it from the model this one was made from"
        return
    for name, measured in _CONFIG_FIELDS.items():
        said, found = model.config.get(name), getattr(shape, measured)
        if said is not None and found is not None and said != found:
            yield f"config.json says {name} {said}, the weights have {found}; correct config.json"
    if model.config.get("tie_word_embeddings") is False and shape.tied:
        yield "config.json says tie_word_embeddings false, but there is no lm_head.weight"
    if model.config.get("model_type", "llama") not in ("llama", "mistral"):
        yield f"model_type is {model.config['model_type']!r}; this package works on llama, mistral"


def _vocabulary_warnings(
    path: Path, shape: MeasuredShape, tokenizer: TokenizerContents | None
) -> Iterator[str]:
    if tokenizer is None:
        if path.is_dir():
            yield "there is no tokenizer here (tokenizer.json or tokenizer.model)"
        return
    yield from tokenizer.notes
    entries, rows = tokenizer.num_entries, shape.vocab_rows
    if entries > rows:
        yield (
            f"the tokenizer has {entries:,} entries, the weights {rows:,} rows: ids from {rows:,} "
            "on will fail. It is another model's tokenizer, or the rows were never added"
        )
    elif entries < rows:
        yield (
            f"the tokenizer has {entries:,} entries, the weights {rows:,} rows: {rows - entries} "
            "rows are never used. Is it another model's tokenizer?"
        )


def _adapter_warnings(adapter: AdapterFiles, tokenizer: TokenizerContents | None) -> Iterator[str]:
    yield from (f"cannot be merged: {fault}" for fault in adapter.faults)
    yield from adapter.notes
    said = adapter.settings.rank
    if adapter.rank and said and adapter.rank != said:
        yield f"adapter_config.json says r {said}, most factors have {adapter.rank}"
    rows = adapter.vocab_rows
    if tokenizer is not None and rows and tokenizer.num_entries != rows:
        yield (
            f"its embedding has {rows:,} rows, the tokenizer beside it {tokenizer.num_entries:,} "
            "entries; LLaMA's and Alpaca's tokenizers differ by one"
        )
    if adapter.base_fingerprint is None:
        yield "it does not record which base it was trained on; only shapes can be checked"


def _missing(weights: Weights) -> Iterator[str]:
    if weights.missing:
        some = ", ".join(weights.missing[:3])
        yield f"{len(weights.missing)} files or tensors of the index are missing: {some}"
