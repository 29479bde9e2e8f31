"""Which GGUF file stands for a model, whatever form the user has it in.

Weights in another form are written once, by the same writer that `write_gguf` uses, into a cache.
A file there is named by the content of all it was made of: changed weights are another file.
"""

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from hanpaca.errors import ArtifactError
from hanpaca.files import (
    content_key,
    describe_file,
    digest_of,
    locked,
    user_cache,
    whole,
    write_atomically,
)
from hanpaca.progress import Progress, Tell, silent

_STAGE = "70-gguf"
"""Where a run has its files."""
_PREFERRED = ("q4_k_m", "q5_k_m", "q8_0", "f16")
_QUICK, _EXACT = "q8_0", "f16"
_READ = (".safetensors", ".bin", ".pth", ".pt", ".json", ".model", ".jinja", ".txt", ".md")
"""Ends the names of files that a model or an adapter is made of."""
_SETTLED_NS = 2_000_000_000
_KEY_DIGITS = 20
_VERSION = 1
"""Of what is written for the same content."""


def gguf_files(source: Path) -> list[Path]:
    """The GGUF files of a run or a folder, or the file itself; empty where there are none."""
    if source.is_file():
        return [source]
    stage = source / _STAGE
    return sorted((stage if stage.is_dir() else source).glob("*.gguf"))


def chosen_file(files: Sequence[Path]) -> Path:
    """The one of a model's files that is for use: small, and hardly worse than the largest."""
    for kind in _PREFERRED:
        for file in files:
            if file.stem.lower().endswith(kind):
                return file
    return files[0]


def model_file(
    model: Path, *, adapters: Sequence[Path] = (), exact: bool = False, tell: Tell = silent
) -> Path:
    """The GGUF file to load for a model; made and kept where there is none yet.

    Args:
        model: A GGUF file, a folder of them, a run, or a folder of weights in any layout.
        adapters: To fold into it, in order.
        exact: Write 16-bit weights instead of 8-bit ones.
        tell: Told which file is made, how far it is, and what is odd about it.

    Raises:
        ArtifactError: There is no model, or its parts do not fit each other.
        ResourceError: The cache cannot be written.
    """
    if not model.exists():
        raise ArtifactError(f"{model}: no such file or folder")
    if not adapters and (files := gguf_files(model)):
        return chosen_file(files)
    _check_is_model(model, adapters)
    kind = _EXACT if exact else _QUICK
    cache = cache_folder()
    name = (adapters[-1] if adapters else model).resolve().name.removesuffix(".gguf")
    settings = [_VERSION, kind, name]
    made_of = [_contents(one) for one in (model, *adapters)]
    key = _key(settings, made_of, cache)[:_KEY_DIGITS]
    file = cache / f"{name}-{key}.{kind}.gguf"
    if not file.exists():
        _write(file, (model, *adapters), name=name, kind=kind, tell=tell)
    return file


def cache_folder() -> Path:
    """Where files that can be made again are kept."""
    return user_cache() / "gguf"


def _check_is_model(model: Path, adapters: Sequence[Path]) -> None:
    if model.is_file() or any((model / name).is_file() for name in ("config.json", "params.json")):
        return
    if (model / "adapter_config.json").is_file() and not adapters:
        raise ArtifactError(f"{model}: an adapter alone", "give its base, and it as {adapter}")
    raise ArtifactError(
        f"{model}: no GGUF files and no model here",
        "give a run that is finished, a model folder or a GGUF file",
    )


def _contents(place: Path) -> list[Path]:
    if place.is_file():
        return [place]
    return sorted(one for one in place.iterdir() if one.suffix in _READ and one.is_file())


def _key(settings: Sequence[object], made_of: Sequence[Sequence[Path]], cache: Path) -> str:
    """The content key; of files that did not change since they were last hashed, from a note.

    A file's state has its time of change, which no program can set back. Files changed so lately
    that a further change could bear the same time are hashed each time.
    """
    stats = [[one.stat() for one in files] for files in made_of]
    states = [
        [(str(f.resolve()), s.st_size, s.st_mtime_ns, s.st_ctime_ns, s.st_ino) for f, s in pairs]
        for pairs in (zip(*both, strict=True) for both in zip(made_of, stats, strict=True))
    ]
    note = cache / "seen" / digest_of([settings, states])
    if note.is_file():
        return note.read_text(encoding="ascii")
    with ThreadPoolExecutor(2) as pool:
        hashed = [
            list(pool.map(lambda file: describe_file(file, name=file.name), files))
            for files in made_of
        ]
    ordered = [[(one.path, one.sha256) for one in files] for files in hashed]
    key = content_key([settings, ordered], [])
    newest = max(one.st_ctime_ns for files in stats for one in files)
    if time.time_ns() - newest > _SETTLED_NS:
        note.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(note, key)
    return key


def _write(file: Path, parts: Sequence[Path], *, name: str, kind: str, tell: Tell) -> None:
    # Brings torch, whose two seconds a chat with a GGUF file need not wait for.
    from hanpaca.checkpoints.model import open_model
    from hanpaca.steps.write_gguf import model_to_gguf
    from hanpaca.tokenizer.conversion.gguf_side import write_gguf_side

    def tell_bytes(done: int, total: int) -> None:
        tell(Progress(done, total, "bytes", "writing"))

    model, *adapters = parts
    what = " + ".join(str(one) for one in parts)
    tell(Progress(0, note=f"{what}: written once as {kind} to {file}"))
    with locked(file.parent), whole(file) as partial:
        summaries = model_to_gguf(
            open_model(model, write_side=write_gguf_side) if model.is_file() else model,
            {kind: partial},
            adapters=adapters,
            metadata={"general.name": name},
            on_bytes=tell_bytes,
        )
    for note in summaries[kind].notes:
        tell(Progress(1, note=note))
