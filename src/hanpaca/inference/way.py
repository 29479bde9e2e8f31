"""HTTP over a Unix socket to llama.cpp's server: as much of it as that server speaks.

It runs for every token, and a general client takes longer over one than all else that is done.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

_HEAD_END = b"\r\n\r\n"


@dataclass(frozen=True)
class Reply:
    """An answer whose head has come."""

    status: int
    media_type: str
    _reader: asyncio.StreamReader
    _num_bytes: int | None
    """Of the body; None where it comes in chunks."""

    async def pieces(self) -> AsyncIterator[bytes]:
        """The body as it comes.

        Raises:
            asyncio.IncompleteReadError: The server broke off.
        """
        if self._num_bytes is not None:
            yield await self._reader.readexactly(self._num_bytes)
            return
        while size := int(await self._reader.readuntil(b"\r\n"), 16):
            piece = await self._reader.readexactly(size + 2)
            yield piece[:-2]

    async def whole(self) -> bytes:
        """The whole body; see `pieces`."""
        return b"".join([piece async for piece in self.pieces()])


@asynccontextmanager
async def asked(socket: Path, path: str, content: bytes | None = None) -> AsyncIterator[Reply]:
    """Send a request on a connection of its own; closing it stops the server's work.

    The server ends idle connections when it likes, so none is used twice.

    Args:
        socket: Of the server.
        path: What is asked.
        content: JSON to post; None to get.
    """
    reader, writer = await asyncio.open_unix_connection(str(socket))
    try:
        method = "GET" if content is None else "POST"
        body = content or b""
        head = (
            f"{method} {path} HTTP/1.1\r\nHost: engine\r\nConnection: close\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        writer.write(head.encode() + body)
        first, *lines = (await reader.readuntil(_HEAD_END)).decode("latin-1").split("\r\n")
        named = [line.partition(":") for line in lines]
        headers = {name.lower(): value.strip() for name, _, value in named}
        chunked = headers.get("transfer-encoding") == "chunked"
        num_bytes = None if chunked else int(headers.get("content-length", 0))
        yield Reply(int(first.split()[1]), headers.get("content-type", ""), reader, num_bytes)
    finally:
        writer.close()
