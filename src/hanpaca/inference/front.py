"""OpenAI's API over llama.cpp's server: a thin layer that checks, names and passes on."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.types import Receive, Scope, Send

from hanpaca.inference.gate import Gate, Guarded, read_body
from hanpaca.inference.grounded import grounded_request, send_said
from hanpaca.inference.grounding import Ground
from hanpaca.inference.relay import Asked, Relay, send_json
from hanpaca.inference.requests import (
    Body,
    Defaults,
    Refused,
    chat_request,
    completion_request,
    embedding_request,
    error_body,
    parsed,
)
from hanpaca.inference.server import Engine

_API = "/v1"
_CHAT, _COMPLETION, _EMBEDDING = "/chat/completions", "/completions", "/embeddings"
"""Below it."""


@dataclass(frozen=True)
class Served:
    """What answers to a name."""

    engine: Engine
    adapter: int | None = None
    """The number of its adapter in `Serving.adapters`; None for the model of the file."""
    created: int = 0
    """When it was made: seconds since 1970."""
    defaults: Defaults = field(default_factory=Defaults)
    ground: Ground | None = None
    """Finds what a question is answered from; None to answer as it is asked."""

    @property
    def lora(self) -> list[Body]:
        """What is in force: all are named, because one that is not keeps its scale."""
        numbers = range(len(self.engine.serving.adapters))
        return [{"id": number, "scale": float(number == self.adapter)} for number in numbers]


@dataclass(frozen=True)
class Front:
    """What is served, and to whom."""

    models: Mapping[str, Served]
    """By the names they are asked by; who names none is answered by the first."""
    gate: Gate = field(default_factory=Gate)
    most_waiting: int = 64
    """Requests that wait for others; more are told to come back."""
    most_bytes: int = 2_000_000
    """Of a body."""

    def request(self, path: str, body: Body) -> Asked:
        """Check a request.

        Raises:
            Refused: There is no such model, or a field is of the wrong type or out of its range.
        """
        name = self._name(body)
        model = self.models[name]
        serving, defaults = model.engine.serving, model.defaults
        if model.ground and path != _CHAT:
            raise Refused(f"{name!r} answers questions from documents, at {_API}{_CHAT} alone")
        if path == _CHAT:
            asked = chat_request(body, defaults, most_choices=serving.num_parallel)
        elif path == _COMPLETION:
            asked = completion_request(body, defaults, most_choices=serving.num_parallel)
        elif serving.embeddings:
            asked = embedding_request(body)
        else:
            raise Refused("this server was started without embeddings", status=404)
        return Asked(_API + path, {**asked, "lora": model.lora}, name)

    def _name(self, body: Body) -> str:
        """Of the model that is asked; where none is named, the first."""
        name = body.get("model")
        if name is None:
            return next(iter(self.models))
        if not isinstance(name, str):
            raise Refused("model must be a text", param="model")
        return self.known(name)

    def known(self, name: str) -> str:
        """A name, if it is one of a model.

        Raises:
            Refused: It is not.
        """
        if name not in self.models:
            names = ", ".join(self.models)
            told = f"there is no model {name!r:.80}; there are: {names}"
            raise Refused(told, status=404, param="model", code="model_not_found")
        return name


def app(front: Front, routes: Sequence[BaseRoute] = ()) -> Starlette:
    """The server as an ASGI application.

    Args:
        front: What is served.
        routes: Further ones, such as a page, tried after those of the API and behind the same
            gate.

    Returns:
        The application; `state.stop()` ends the answers that are being written.
    """
    relays = {
        one.engine.socket: Relay(
            one.engine.socket,
            num_parallel=one.engine.serving.num_parallel,
            most_waiting=front.most_waiting,
        )
        for one in front.models.values()
    }

    def stop() -> None:
        for relay in relays.values():
            relay.stop()

    application = Starlette(
        routes=[*_routes(front, relays), *routes],
        middleware=[Middleware(Guarded, gate=front.gate)],
        exception_handlers={HTTPException: _http_error, Refused: _refused},
    )
    application.state.stop = stop
    return application


def _routes(front: Front, relays: Mapping[Path, Relay]) -> list[BaseRoute]:
    def told(name: str) -> Body:
        created = front.models[name].created
        return {"id": name, "object": "model", "created": created, "owned_by": "hanpaca"}

    async def list_models(request: Request) -> Response:
        return JSONResponse({"object": "list", "data": [told(name) for name in front.models]})

    async def show_model(request: Request) -> Response:
        return JSONResponse(told(front.known(request.path_params["name"])))

    async def health(request: Request) -> Response:
        replies = [await relay.get("/health") for relay in relays.values()]
        return next((one for one in replies if one.status_code != 200), replies[0])

    async def metrics(request: Request) -> Response:
        name = front.known(request.query_params.get("model") or next(iter(front.models)))
        return await relays[front.models[name].engine.socket].get("/metrics")

    # One mount for all below it: what is not there is said by the API, not by a page at "/".
    asked = (_CHAT, _COMPLETION, _EMBEDDING)
    below: list[BaseRoute] = [
        *(Route(path, _Asking(front, relays, path), methods=["POST"]) for path in asked),
        Route("/models", list_models),
        Route("/models/{name:path}", show_model),
    ]
    return [Mount(_API, routes=below), Route("/health", health), Route("/metrics", metrics)]


@dataclass(frozen=True)
class _Asking:
    """A route that asks a model; plain ASGI, since it runs for every token."""

    front: Front
    relays: Mapping[Path, Relay]
    path: str

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            data = await read_body(receive, self.front.most_bytes)
            if data is not None:
                asked = self.front.request(self.path, parsed(data))
                model = self.front.models[asked.model]
                if model.ground:
                    context_tokens = model.engine.serving.context_tokens
                    grounded = await grounded_request(asked, model.ground, context_tokens)
                    if isinstance(grounded, str):
                        await send_said(send, asked, grounded)
                        return
                    asked = grounded
                await self.relays[model.engine.socket].answer(asked, receive, send)
        except Refused as error:
            await send_json(send, error.status, error.body())


async def _http_error(request: Request, error: Exception) -> Response:
    """No such route, or no such method on it."""
    if not isinstance(error, HTTPException):
        raise error
    told = {404: f"there is no {request.url.path}", 405: f"{request.method} is not done here"}
    message = told.get(error.status_code, error.detail)
    return JSONResponse(
        error_body(message, error.status_code), error.status_code, headers=error.headers
    )


async def _refused(request: Request, error: Exception) -> Response:
    if not isinstance(error, Refused):
        raise error
    return JSONResponse(error.body(), error.status)
