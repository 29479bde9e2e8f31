"""llama.cpp's own server for as long as it is wanted, behind `hanpaca.inference.front`."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from hanpaca.inference.start import (
    context_in_force,
    loading_failed,
    parameters,
    private_folder,
    started,
)

_SOCKET = "e.sock"


@dataclass(frozen=True)
class Serving:
    """What the engine is given."""

    context_tokens: int = 2048
    """Room for prompt and answer together, of each request; no more than the model was made for."""
    num_parallel: int = 4
    """Requests answered at the same time."""
    num_threads: int | None = None
    """Of the CPU; None for as many as cores are free."""
    chat_template: str | None = None
    """In Jinja; None for the file's own."""
    embeddings: bool = False
    """Also give vectors of texts; the memory for reading a prompt then holds a whole one."""
    adapters: Sequence[Path] = ()
    """GGUF adapters; none is in force unless a request says so."""


@dataclass(frozen=True)
class Engine:
    """A server that runs."""

    gguf: Path
    socket: Path
    serving: Serving
    num_threads: int


@contextmanager
def engine(gguf: Path, serving: Serving) -> Iterator[Engine]:
    """Load a model and listen; at the end nothing may be connected any more, or it waits.

    Raises:
        ArtifactError: The file is missing or is no model llama.cpp can load.
    """
    serving = replace(serving, context_tokens=context_in_force(gguf, serving.context_tokens))
    with private_folder() as folder:
        socket = folder / _SOCKET
        params = _parameters(gguf, socket, serving)
        server = _started(params, gguf, serving)
        try:
            yield Engine(gguf, socket, serving, params.cpuparams.n_threads)
        finally:
            # The wrapper stops its threads and frees the model when it is deleted.
            del server


def _parameters(gguf: Path, socket: Path, serving: Serving) -> Any:  # noqa: ANN401
    import xllamacpp

    params = parameters(
        gguf,
        socket,
        context_tokens=serving.context_tokens,
        num_parallel=serving.num_parallel,
        num_threads=serving.num_threads,
        chat_template=serving.chat_template,
    )
    if serving.embeddings:
        params.embedding = True
        params.pooling_type = xllamacpp.llama_pooling_type.LLAMA_POOLING_TYPE_MEAN
        # A text is read at once or not at all.
        params.n_batch = params.n_ubatch = serving.context_tokens
    params.lora_adapters = [_adapter(one) for one in serving.adapters]
    return params


def _started(params: Any, gguf: Path, serving: Serving) -> Any:  # noqa: ANN401
    try:
        return started(params)
    except RuntimeError as error:
        files = " with ".join(str(one) for one in (gguf, *serving.adapters))
        raise loading_failed(files, params) from error


def _adapter(file: Path) -> Any:  # noqa: ANN401
    import xllamacpp

    one = xllamacpp.CommonAdapterLoraInfo()
    # Without a word in the request an adapter would be in force as it is loaded.
    one.path, one.scale = str(file), 0.0
    return one
