"""A model for other programs: OpenAI's API on this machine, or for others with a key."""

import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING

from hanpaca.checkpoints.gguf import read_header
from hanpaca.errors import RecipeError, ResourceError
from hanpaca.inference.server import Engine, Serving, engine
from hanpaca.inference.start import private_folder
from hanpaca.progress import Progress, Tell, silent
from hanpaca.steps.chat import TEMPLATE_KEY, note_template, read_template
from hanpaca.steps.model_file import model_file

if TYPE_CHECKING:
    from starlette.applications import Starlette

    from hanpaca.inference.front import Front, Served
    from hanpaca.inference.gate import Gate
    from hanpaca.inference.requests import Defaults
    from hanpaca.steps.ask import Documents

FROM_DOCUMENTS = "+documents"
"""Ends the name of a model that answers from documents."""
_ALL = ("0.0.0.0", "::")  # what a user may say, not what is bound
_SECONDS_TO_STOP = 1
"""For answers that are being written."""
_LEAST_CONTEXT = 64
_PENALTY_KEY = "general.sampling.penalty_repeat"
_ANOTHER_TURN = "### Instruction:"
_END_OF_TURN = "<|im_end|>"


def _nothing() -> None:
    """What is to be stopped where nothing is."""


@dataclass(frozen=True)
class Service:
    """How a model is served."""

    host: str = "127.0.0.1"
    """Who may reach it: this machine, or with an address of its own or 0.0.0.0 others too."""
    port: int = 8000
    """0 for any that is free."""
    api_key: str | None = field(default=None, repr=False)
    """What clients must send; needed where others may reach it."""
    name: str | None = None
    """What the model is called; None for the name of its file or folder."""
    context_tokens: int = 2048
    """Room for prompt and answer together, of each request."""
    num_parallel: int = 4
    """Requests answered at the same time; each has its own context in memory."""
    most_waiting: int = 64
    """Requests that wait; more are told to come back (429)."""
    threads: int | None = None
    """None for as many as cores are free."""
    template: str | None = None
    """How turns are written: `chatml`, `alpaca` or a file with a Jinja template; None for the
    model's own."""
    exact: bool = False
    """Where a GGUF file is made: 16-bit weights, not 8-bit ones."""
    embeddings: bool = False
    """Also give vectors of texts."""
    documents: str | Path | None = None
    """Index of `ask_add`; each model then answers from it by its name with `+documents`."""
    embedder_key: str | None = field(default=None, repr=False)
    """Of the server that gives the index's vectors, where one does."""

    def __post_init__(self) -> None:
        _check("context_tokens", self.context_tokens, _LEAST_CONTEXT)
        _check("num_parallel", self.num_parallel, 1)
        _check("most_waiting", self.most_waiting, 0)
        _check("port", self.port, 0, 65_535)
        if self.threads is not None:
            _check("threads", self.threads, 1)
        if self.api_key is not None and not (self.api_key.isascii() and self.api_key.strip()):
            raise RecipeError("the API key is empty or not ASCII", "mend {api_key}")
        if self.api_key is None and not _is_loopback(self.host):
            told = f"at {self.host} other machines can reach the server, so it needs a key"
            raise RecipeError(told, "give {api_key}, or {host} 127.0.0.1")


def serve(
    model: str | Path,
    service: Service | None = None,
    *,
    adapters: Mapping[str, str | Path] | None = None,
    tell: Tell = silent,
) -> None:
    """Serve a model until the program is interrupted.

    Args:
        model: A GGUF file, a folder of them, a run, or a folder of weights, of which a file is
            made and kept.
        service: How.
        adapters: LoRA served beside the model, by the name each is asked by.
        tell: Told what is made, and the address when all is ready.

    Raises:
        ArtifactError: There is no model, or it cannot be loaded.
        RecipeError: A choice is out of its range.
        ResourceError: The address is taken, a package is missing, or the cache cannot be written.
    """
    service = service or Service()
    with bound(service) as listener, opened(model, service, adapters=adapters, tell=tell) as front:
        from hanpaca.inference.front import app

        tell(Progress(1, note=described(next(iter(front.models.values())).engine)))
        tell(Progress(1, note=f"{', '.join(front.models)} at {address(listener)}/v1"))
        listen(app(front), listener)


@contextmanager
def bound(service: Service) -> Iterator[socket.socket]:
    """The address of a server, taken before a model is loaded.

    Raises:
        RecipeError: There is no such address on this machine.
        ResourceError: It is taken, or a package is missing.
    """
    _check_packages()
    family = socket.AF_INET6 if ":" in service.host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((service.host, service.port))
            listener.listen(128)
        except socket.gaierror as error:
            raise RecipeError(f"{service.host}: no such address", "mend {host}") from error
        except OSError as error:
            told = f"{service.host}, port {service.port}: {error.strerror}"
            raise ResourceError(told, "give another {port} or {host}") from error
        yield listener


@contextmanager
def opened(
    model: str | Path,
    service: Service,
    *,
    adapters: Mapping[str, str | Path] | None = None,
    tell: Tell = silent,
) -> Iterator["Front"]:
    """A model that is loaded, for `hanpaca.inference.front.app`.

    Raises:
        ArtifactError: There is no model, it cannot be loaded, or an adapter is another base's.
        RecipeError: There is no such template, or an adapter has the name of its base.
        ResourceError: The cache cannot be written.
    """
    from hanpaca.inference.front import Front

    template = read_template(service.template)
    file = model_file(Path(model), exact=service.exact, tell=tell)
    if template is None:
        note_template(file, tell)
    loras = {name: Path(one) for name, one in (adapters or {}).items()}
    name = service.name or Path(model).resolve().name.removesuffix(".gguf")
    if name in loras:
        told = f"the adapter {name!r} has the name of its base"
        raise RecipeError(told, "give another, or the base a {name}")
    with _documents(service) as documents, private_folder() as folder:
        files = []
        if loras:
            from hanpaca.steps.serve_adapters import served_adapters  # brings torch

            files = served_adapters(loras, Path(model), file, folder=folder / "adapters", tell=tell)
        serving = Serving(
            context_tokens=service.context_tokens,
            num_parallel=service.num_parallel,
            num_threads=service.threads,
            chat_template=template,
            embeddings=service.embeddings,
            adapters=files,
        )
        with engine(file, serving) as loaded:
            base = _served(loaded)
            tuned = {key: replace(base, adapter=number) for number, key in enumerate(loras)}
            models = _named({name: base, **tuned}, documents)
            yield Front(models, gate=_gate(service), most_waiting=service.most_waiting)


def beside(
    engines: Mapping[str, Engine], service: Service, documents: "Documents | None" = None
) -> "Starlette":
    """The API of models that are loaded already, for a page to be mounted on; see `listen`.

    Args:
        engines: By the names that programs ask them by.
        service: Who may ask, and how many may wait.
        documents: That they also answer from.
    """
    from hanpaca.inference.front import Front, app

    named = {name: _served(one) for name, one in engines.items()}
    return app(
        Front(_named(named, documents), gate=_gate(service), most_waiting=service.most_waiting)
    )


@contextmanager
def _documents(service: Service) -> Iterator["Documents | None"]:
    """What the service answers from, looked at before a model is loaded."""
    if service.documents is None:
        yield None
        return
    from hanpaca.steps.ask import Documents

    with Documents(service.documents, api_key=service.embedder_key) as documents:
        documents.check()
        yield documents


def _named(models: Mapping[str, "Served"], documents: "Documents | None") -> Mapping[str, "Served"]:
    """Models by their names, and by others that answer from documents."""
    if documents is None:
        return models
    grounding = documents.grounding
    more = {name + FROM_DOCUMENTS: replace(one, ground=grounding) for name, one in models.items()}
    return {**models, **more}


def _served(engine: Engine) -> "Served":
    from hanpaca.inference.front import Served

    file = engine.gguf
    defaults = _defaults(file, engine.serving.chat_template)
    return Served(engine, created=int(file.stat().st_mtime), defaults=defaults)


def listen(
    application: "Starlette", listener: socket.socket, *, stop: Callable[[], object] = _nothing
) -> None:
    """Answer at an address until the program is interrupted; open answers are then cut short.

    Args:
        application: Of `hanpaca.inference.front.app`, perhaps with more mounted on it.
        listener: See `bound`.
        stop: Ends what else is being answered; called before the end waits for it.
    """
    import uvicorn

    class Server(uvicorn.Server):
        async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
            application.state.stop()
            stop()
            await super().shutdown(sockets)

    config = uvicorn.Config(
        application,
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        lifespan="on",
        timeout_graceful_shutdown=_SECONDS_TO_STOP,
    )
    Server(config).run(sockets=[listener])


def address(listener: socket.socket) -> str:
    """The URL of a server."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def described(engine: Engine) -> str:
    """What is loaded, and what it has been given of the machine."""
    serving = engine.serving
    return (
        f"{engine.gguf.name}: {engine.num_threads} threads, {serving.num_parallel} requests at a "
        f"time, {serving.context_tokens:,} tokens of context each"
    )


def _gate(service: Service) -> "Gate":
    from hanpaca.inference.gate import LOOPBACK, Gate

    everywhere = service.host in _ALL
    own = [socket.gethostname().lower()] if everywhere else []
    hosts = (*LOOPBACK, service.host.lower(), *own)
    return Gate(hosts=hosts, any_address=everywhere, api_key=service.api_key)


def _defaults(file: Path, template: str | None) -> "Defaults":
    """What a model wants: its own penalty, and an end where it would begin another turn."""
    from hanpaca.inference.requests import Defaults

    fields = read_header(file).fields
    written = template or str(fields.get(TEMPLATE_KEY, _END_OF_TURN))
    stops = [_ANOTHER_TURN] if _ANOTHER_TURN in written else []
    if _END_OF_TURN in written and _END_OF_TURN not in fields.get("tokenizer.ggml.tokens", ()):
        stops.append(_END_OF_TURN)
    if _PENALTY_KEY in fields:
        return Defaults(repeat_penalty=None, stop=tuple(stops))
    return Defaults(stop=tuple(stops))


def _check(name: str, value: int, least: int, most: int | None = None) -> None:
    if value < least or (most is not None and value > most):
        wanted = f"at least {least}" if most is None else f"from {least} to {most}"
        raise RecipeError(f"{name.replace('_', ' ')} is {value}", f"{{{name}}} must be {wanted}")


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def _check_packages() -> None:
    try:
        import starlette  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError as error:
        told = f"serving needs the package {error.name}; pip install 'hanpaca[serve]'"
        raise ResourceError(told) from error
