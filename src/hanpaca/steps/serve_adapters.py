"""Adapters that are served beside their base, from one model in memory.

llama.cpp loads any adapter whose shapes fit, also one that was trained on other weights; what comes
out then is wrong without a word. So the fingerprints are compared here.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from gguf.constants import GGMLQuantizationType as Type

from hanpaca.checkpoints.adapter import BASE_KEY, TOKENIZER_KEY
from hanpaca.checkpoints.fingerprint import model_fingerprint, tensors_fingerprint
from hanpaca.checkpoints.gguf import Header, read_header
from hanpaca.checkpoints.model import open_model
from hanpaca.checkpoints.tensors import Stored
from hanpaca.errors import ArtifactError
from hanpaca.progress import Progress, Tell
from hanpaca.steps.model_file import gguf_files
from hanpaca.steps.write_gguf_adapter import write_gguf_adapter

_OWN_KEY = "hanpaca.model.fingerprint"
"""Of a GGUF file: the weights it was made of."""
_WHOLE_KINDS = {Type.F32, Type.F16, Type.BF16}
_DIGITS = 12


def served_adapters(
    named: Mapping[str, Path], model: Path, file: Path, *, folder: Path, tell: Tell
) -> list[Path]:
    """The GGUF files of adapters that belong to a base.

    Args:
        named: By the name each is asked by: a GGUF adapter, or the folder of one.
        model: The base, as it was given.
        file: The GGUF file that stands for it.
        folder: Where files are made.
        tell: Told of an adapter that says nothing about its base.

    Raises:
        ArtifactError: An adapter was trained on another base, or is none.
    """
    if not named:
        return []
    folder.mkdir(exist_ok=True)
    source = file if gguf_files(model) else model
    files = []
    for number, (name, adapter) in enumerate(named.items()):
        if not adapter.exists():
            raise ArtifactError(f"adapter {name}: {adapter}: no such file or folder")
        if adapter.is_dir():
            made = folder / f"{number}.gguf"
            for told in write_gguf_adapter(adapter, source, made).warnings:
                tell(Progress(1, note=told))
            files.append(made)
        else:
            files.append(adapter)
    _check(files, model, file, tell)
    return files


def _check(adapters: list[Path], model: Path, file: Path, tell: Tell) -> None:
    base = read_header(file)
    known = _fingerprints(model, file, base)
    for adapter in adapters:
        header = read_header(adapter)
        _check_shapes(adapter, header, base)
        wanted = header.fields.get(BASE_KEY)
        if known and wanted and wanted not in known:
            raise _another(adapter, str(wanted), model, min(known))
        tokenizers = [one.fields.get(TOKENIZER_KEY) for one in (header, base)]
        if all(tokenizers) and tokenizers[0] != tokenizers[1]:
            raise _another(adapter, str(tokenizers[0]), model, str(tokenizers[1]))
        if not (known and wanted):
            who = adapter if known else file
            told = f"{who} does not say which weights it was made of: whether "
            told += f"{adapter.name} belongs to {file.name} cannot be checked beyond its shapes"
            tell(Progress(1, note=told))


def _another(adapter: Path, wanted: str, model: Path, found: str) -> ArtifactError:
    return ArtifactError(
        f"{adapter}: this adapter was trained on another base (fingerprint {wanted[:_DIGITS]}) "
        f"than {model} (fingerprint {found[:_DIGITS]}); give the base it was trained on"
    )


def _check_shapes(adapter: Path, header: Header, base: Header) -> None:
    if header.fields.get("general.type") != "adapter":
        raise ArtifactError(f"{adapter}: no GGUF adapter", "make one with {write_gguf_adapter()}")
    for name, entry in header.tensors.items():
        matrix, _, factor = name.rpartition(".")
        at = {"lora_a": 1, "lora_b": 0}.get(factor)
        if at is None or matrix not in base.tensors:
            raise ArtifactError(f"{adapter}: {name} belongs to no matrix of the base")
        wanted = base.tensors[matrix].shape[at]
        if entry.shape[at] != wanted:
            told = f"{adapter}: {name} is {entry.shape}, and the base has {wanted} there"
            raise ArtifactError(told + "; give the base it was trained on")


def _fingerprints(model: Path, file: Path, header: Header) -> set[str]:
    """What adapters trained on this model call it; empty where nobody can say."""
    if not gguf_files(model):
        return {model_fingerprint(model)}
    if said := header.fields.get(_OWN_KEY):
        return {str(said)}
    if any(one.kind not in _WHOLE_KINDS for one in header.tensors.values()):
        return set()
    # In 16 bits nothing was lost: the weights are those it was made of, in one type or the other.
    places = open_model(file).tensors
    return {tensors_fingerprint(one) for one in (places, _as_halves(places))}


def _as_halves(places: Mapping[str, Stored]) -> Mapping[str, Stored]:
    """The same values, which are decoded when they are read, as float16."""
    return {
        name: replace(one, extents=tuple(replace(e, dtype="F16") for e in one.extents))
        for name, one in places.items()
        if all(extent.encoding for extent in one.extents)
    }
