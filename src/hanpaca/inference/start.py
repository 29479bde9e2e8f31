"""How llama.cpp's server is started: what each of ours is told, and where it listens.

It checks neither Host nor Origin and lets every page of a browser ask it, so it is never bound to a
port, only to a socket in a folder of this user's.
"""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from hanpaca.checkpoints.gguf import read_header
from hanpaca.errors import ArtifactError
from hanpaca.files import begins_as_gguf
from hanpaca.threads import free_threads
from hanpaca.tokenizer.template_limits import check_ends

ENGINE_NAME = "hanpaca-engine"
"""What llama.cpp calls the model in its answers, whichever was asked."""
_TEMPLATE_KEY = "tokenizer.chat_template"
"""With a name after it for those beside the default one; a list of the names is not one."""
_QUIET = -1
_USUAL_CONTEXT = 8192
"""Takes little memory beside the weights."""
_SPARE_CONNECTIONS = 4
"""For questions after its state, beside the answers that are written."""
_LONGEST_FOLDER = 80
"""Characters: the path of a socket has about 100."""


def parameters(
    gguf: Path,
    socket: Path,
    *,
    context_tokens: int,
    num_parallel: int,
    num_threads: int | None,
    chat_template: str | None,
) -> Any:  # noqa: ANN401
    """What every engine is told.

    Args:
        gguf: The file.
        socket: Where it listens, in a folder of `private_folder`.
        context_tokens: Room for prompt and answer together, of each conversation.
        num_parallel: Conversations answered at the same time.
        num_threads: Of the CPU; None for as many as cores are free.
        chat_template: In Jinja; None for the file's own.

    Returns:
        xllamacpp's `CommonParams`.

    Raises:
        ArtifactError: The file is missing, no GGUF file, or its chat template does not end.
    """
    import xllamacpp

    _check_is_gguf(gguf)
    check_ends(_templates(gguf) if chat_template is None else [chat_template], str(gguf))
    params = xllamacpp.CommonParams()
    params.model.path = str(gguf)
    params.model_alias = {ENGINE_NAME}
    params.hostnames = [str(socket)]
    params.n_parallel = num_parallel
    params.n_ctx = context_tokens * num_parallel
    if chat_template is not None:
        params.chat_template = chat_template
    threads = num_threads or free_threads(gguf)
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = threads
    params.n_threads_http = 2 * num_parallel + _SPARE_CONNECTIONS
    params.cache_ram_mib = 0  # what a slot has read stays in it
    params.ui = params.endpoint_slots = params.endpoint_props = params.warmup = False
    params.endpoint_metrics = True
    params.verbosity = _QUIET
    return params


def context_in_force(gguf: Path, asked: int) -> int:
    """Tokens of context that llama.cpp gives each conversation: no more than a model was made for.

    Args:
        gguf: The model; what cannot be read is for llama.cpp to refuse.
        asked: For each conversation.
    """
    with suppress(ArtifactError):
        fields = read_header(gguf).fields
        made_for = fields.get(f"{fields.get('general.architecture')}.context_length")
        if isinstance(made_for, int) and made_for > 0:
            return min(asked, made_for)
    return asked


def started(params: Any) -> Any:  # noqa: ANN401
    """A server whose loop runs; it ends, and the model is freed, when it is deleted.

    Raises:
        RuntimeError: llama.cpp cannot load the model.
    """
    import xllamacpp

    server: Any = xllamacpp.Server(params)
    # The loop that answers starts a moment after the model is loaded; a server deleted before that
    # waits for ever. What is answered by the loop comes after its start.
    server.handle_metrics()
    return server


def loading_failed(files: str, params: Any) -> ArtifactError:  # noqa: ANN401
    """What to say where `started` fails: llama.cpp does not tell a bad file from too little memory.

    Args:
        files: The model, and what was to be loaded with it.
        params: What llama.cpp was told.
    """
    context, remedy = params.n_ctx, "make the file again with {write_gguf()}"
    if context <= _USUAL_CONTEXT:
        return ArtifactError(f"{files}: llama.cpp cannot load this", remedy)
    told = f"{files}: llama.cpp cannot load this with {context:,} tokens of context in all"
    return ArtifactError(told, "give fewer {context_tokens}; if that does not help, " + remedy)


@contextmanager
def private_folder() -> Iterator[Path]:
    """A new folder that only this user may enter, with a path short enough for a socket's."""
    place = None if len(tempfile.gettempdir()) < _LONGEST_FOLDER else "/tmp"
    with tempfile.TemporaryDirectory(prefix="hanpaca-", dir=place) as name:
        yield Path(name)


def _templates(gguf: Path) -> list[str]:
    with suppress(ArtifactError):  # llama.cpp says more of a damaged file
        fields = read_header(gguf).fields
        return [str(text) for name, text in fields.items() if name.startswith(_TEMPLATE_KEY)]
    return []


def _check_is_gguf(path: Path) -> None:
    """Tell a file that is none from one that llama.cpp cannot load."""
    try:
        is_gguf = begins_as_gguf(path)
    except OSError as error:
        raise ArtifactError(f"{path}: cannot be read: {error.strerror}") from error
    if not is_gguf:
        raise ArtifactError(f"{path}: not a GGUF file", "make one with {write_gguf()}")
