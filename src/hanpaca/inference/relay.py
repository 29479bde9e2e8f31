"""Requests on their way to llama.cpp's server, and answers on their way back."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

import anyio
from starlette.responses import Response
from starlette.types import Message, Receive, Send

from hanpaca.inference.events import finished, joined, renamed, with_extra
from hanpaca.inference.requests import Body, Refused, encoded, error_body
from hanpaca.inference.way import asked as asking

_EVENTS = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
]
_TOO_LARGE = "is too large to process"
"""In llama.cpp's message about a text longer than what is read at once, which has status 500."""
_TOO_LONG = "context_length_exceeded"
_COME_BACK_SECONDS = b"1"
_REFUSED = {"invalid_request_error", "exceed_context_size_error", "not_supported_error"}
"""What llama.cpp calls an error of the request; its status is not always one."""


@dataclass(frozen=True)
class Asked:
    """A request that was checked."""

    path: str
    """Of the engine."""
    body: Body
    model: str
    """As the client calls it."""
    extra: Body = field(default_factory=dict)
    """What the reply has beside what the engine says; of a stream, its first event."""
    shorter: "Asked | None" = None
    """What is asked instead where the prompt is too long."""
    most_prompt_tokens: int | None = None
    """Of a chat that has a shorter form: a longer prompt leaves too little room for the answer."""

    @property
    def streams(self) -> bool:
        """Whether the client wants the answer as it comes."""
        return bool(self.body.get("stream"))

    @property
    def joins(self) -> bool:
        """Whether a stream is asked for and joined.

        Not where there are probabilities of tokens: a stream has none of those that only begin a
        character.
        """
        embeds = self.path.endswith("/embeddings")
        return not (embeds or self.streams or self.body.get("logprobs"))

    def content(self) -> bytes:
        """What the engine is sent."""
        if not self.joins:
            return encoded(self.body)
        return encoded({**self.body, "stream": True, "stream_options": {"include_usage": True}})


class Relay:
    """The way to an engine, with room for so many requests."""

    def __init__(self, socket: Path, *, num_parallel: int, most_waiting: int) -> None:
        self._socket = socket
        self._most = num_parallel + most_waiting
        self._num_asked = 0
        # The engine has the next ones at hand, so that it never waits for them.
        self._turns = asyncio.Semaphore(2 * num_parallel)
        self._open: set[anyio.CancelScope] = set()

    def stop(self) -> None:
        """End what is being answered; clients are told."""
        for scope in self._open:
            scope.cancel()

    async def get(self, path: str) -> Response:
        """What the engine says of itself."""
        async with asking(self._socket, path) as reply:
            return Response(await reply.whole(), reply.status, media_type=reply.media_type)

    async def answer(self, asked: Asked, receive: Receive, send: Send) -> None:
        """Ask the engine and pass its answer on; given up when the client hangs up.

        Raises:
            Refused: Too many wait, or a text is none.
        """
        content = asked.content()
        if self._num_asked >= self._most:
            raise Refused("too many requests are waiting; come back", status=429, code="busy")
        self._num_asked += 1
        reply = _Reply(send)
        try:
            with anyio.CancelScope() as scope:
                self._open.add(scope)
                await _while_connected(receive, lambda: self._ask(asked, content, reply))
        finally:
            self._open.discard(scope)
            self._num_asked -= 1
        if scope.cancelled_caught:
            await reply.give_up()

    async def _ask(self, asked: Asked, content: bytes, send: Send) -> None:
        async with self._turns:
            while asked.shorter is not None and await self._leaves_no_room(asked):
                asked = asked.shorter
                content = asked.content()
            while (refusal := await self._tried(asked, content, send)) is not None:
                if refusal[1]["error"]["code"] != _TOO_LONG or asked.shorter is None:
                    await send_json(send, *refusal)
                    return
                asked = asked.shorter
                content = asked.content()

    async def _leaves_no_room(self, asked: Asked) -> bool:
        """Whether a prompt is longer than it may be; one that cannot be counted is tried."""
        if asked.most_prompt_tokens is None:
            return False
        written = await self._told("/apply-template", {"messages": asked.body["messages"]})
        text = {"content": written.get("prompt", ""), "add_special": True, "parse_special": True}
        return len((await self._told("/tokenize", text)).get("tokens", ())) > (
            asked.most_prompt_tokens
        )

    async def _told(self, path: str, body: Body) -> Body:
        """What the engine says; nothing where it refuses."""
        async with asking(self._socket, path, encoded(body)) as reply:
            told: Body = json.loads(await reply.whole()) if reply.status == 200 else {}
            return told

    async def _tried(self, asked: Asked, content: bytes, send: Send) -> tuple[int, Body] | None:
        """Pass an answer on; status and body of the engine's refusal, of which nothing is sent."""
        async with asking(self._socket, asked.path, content) as reply:
            if reply.status != 200:
                return _reworded(await reply.whole(), reply.status)
            if asked.streams:
                events = with_extra(renamed(reply.pieces(), asked.model), asked.extra)
                await send_events(send, events)
            elif asked.joins:
                pieces, num_choices = reply.pieces(), asked.body.get("n", 1)
                status, body = await joined(pieces, asked.model, num_choices=num_choices)
                await send_json(send, status, {**body, **asked.extra})
            else:
                body = {**json.loads(await reply.whole()), "model": asked.model, **asked.extra}
                if "choices" in body:
                    body["choices"] = [finished(one) for one in body["choices"]]
                await send_json(send, 200, body)
        return None


@dataclass
class _Reply:
    """What has been sent to a client."""

    send: Send
    begun: bool = False
    ended: bool = False

    async def __call__(self, message: Message) -> None:
        self.begun = True
        await self.send(message)
        self.ended = message["type"] == "http.response.body" and not message.get("more_body")

    async def give_up(self) -> None:
        """Tell the client that there will be no more."""
        body = error_body("the server is stopping", 503)
        if not self.begun:
            await send_json(self.send, 503, body)
        elif not self.ended:
            event = b"data: " + json.dumps(body).encode() + b"\n\n"
            await self.send({"type": "http.response.body", "body": event})


async def _while_connected(receive: Receive, work: Callable[[], Awaitable[None]]) -> None:
    """Do something until the client hangs up, which is the next that it says."""
    async with anyio.create_task_group() as group:

        async def watch() -> None:
            while (await receive())["type"] != "http.disconnect":
                pass
            group.cancel_scope.cancel()

        group.start_soon(watch)
        await work()
        group.cancel_scope.cancel()


async def send_json(send: Send, status: int, body: Body) -> None:
    """Answer with a JSON object."""
    data = json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(data)).encode()),
    ]
    if status == 429:
        headers.append((b"retry-after", _COME_BACK_SECONDS))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": data})


async def send_events(send: Send, events: AsyncIterator[bytes]) -> None:
    """Answer with a stream."""
    await send({"type": "http.response.start", "status": 200, "headers": _EVENTS})
    async for data in events:
        await send({"type": "http.response.body", "body": data, "more_body": True})
    await send({"type": "http.response.body"})


def _reworded(data: bytes, status: int) -> tuple[int, Body]:
    """An error of llama.cpp as OpenAI words one."""
    try:
        error = json.loads(data)["error"]
        message, kind = str(error["message"]), error.get("type")
    except (ValueError, KeyError, TypeError):
        message, kind = f"the engine answered with status {status}", ""
    code = _TOO_LONG if kind == "exceed_context_size_error" else None
    if _TOO_LARGE in message:
        message, code = message.partition(_TOO_LARGE)[0] + _TOO_LARGE, _TOO_LONG
    if kind in _REFUSED or code:
        status = 400
    return status, error_body(message, status, code=code)
