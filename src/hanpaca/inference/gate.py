"""Who may ask at all: the middleware before the routes of a server.

A page that somebody visits can point a name of its own at 127.0.0.1 and ask whatever listens there
(DNS rebinding); it is refused by its Host. Pages of other origins are refused by their Origin.
"""

import hmac
import ipaddress
from collections.abc import Collection
from dataclasses import dataclass
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from hanpaca.inference.requests import Refused, error_body

LOOPBACK = ("127.0.0.1", "localhost", "::1")
_FREE = ("/health",)
"""Answered without a key: what watches a server has none."""
_DRAINED = 16
"""Times the most that is allowed."""


@dataclass(frozen=True)
class Gate:
    """What is asked of every request."""

    hosts: Collection[str] = LOOPBACK
    """Names a client may call the server by."""
    any_address: bool = False
    """Also any number, where the server listens on all of the machine's: no name, no rebinding."""
    api_key: str | None = None

    def knows(self, host: str) -> bool:
        """Whether this server goes by that name, given with or without a port."""
        try:
            name = (urlsplit(f"//{host}").hostname or "").lower()
        except ValueError:
            return False
        return name in self.hosts or (self.any_address and _is_address(name))

    def may_ask(self, path: str, authorization: str) -> bool:
        """Whether the key is right, where one is wanted."""
        if self.api_key is None or path in _FREE:
            return True
        given = authorization.partition(" ")[2].strip()
        return hmac.compare_digest(given.encode(), self.api_key.encode())

    def refusal(self, scope: Scope) -> JSONResponse | None:
        """The answer to a request that may not pass."""
        headers = Headers(scope=scope)
        if not self.knows(headers.get("host", "")):
            return refused("this server does not go by that Host", 400)
        origin = headers.get("origin")
        if origin and not self.knows(urlsplit(origin).netloc):
            return refused("pages of other origins may not ask this server", 403)
        if not self.may_ask(scope["path"], headers.get("authorization", "")):
            wanted = "the API key is wrong or missing: Authorization: Bearer KEY"
            return refused(wanted, 401, code="invalid_api_key")
        return None


class Guarded:
    """An application behind a gate."""

    def __init__(self, app: ASGIApp, gate: Gate) -> None:
        self.app = app
        self.gate = gate

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on what may pass."""
        asks = scope["type"] in ("http", "websocket")
        answer = self.gate.refusal(scope) if asks else None
        if answer is None:
            await self.app(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
        else:
            await answer(scope, receive, send)


async def read_body(receive: Receive, most_bytes: int) -> bytes | None:
    """The body of a request; None where the client is gone.

    One that is too large is read on to its end before it is refused, within reason: a client that
    is still sending does not see an answer.

    Raises:
        Refused: It is too large.
    """
    parts: list[bytes] = []
    num_bytes, more = 0, True
    while more and num_bytes <= _DRAINED * most_bytes:
        message: Message = await receive()
        if message["type"] == "http.disconnect":
            return None
        part = message.get("body", b"")
        num_bytes += len(part)
        if num_bytes <= most_bytes:
            parts.append(part)
        more = message.get("more_body", False)
    if num_bytes > most_bytes:
        raise Refused(f"the body has more than {most_bytes:,} bytes")
    return b"".join(parts)


def refused(message: str, status: int, *, code: str | None = None) -> JSONResponse:
    """An error as an answer."""
    return JSONResponse(error_body(message, status, code=code), status)


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
