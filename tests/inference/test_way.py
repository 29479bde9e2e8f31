"""HTTP as llama.cpp's server speaks it, over its socket."""

import asyncio
import logging
import socket
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from hanpaca.inference.way import Reply, asked

CHUNKED = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
)
COUNTED = b"HTTP/1.1 404 Not Found\r\nContent-Length: 4\r\nContent-Type: application/json\r\n\r\n"
Use = Callable[[Reply, socket.socket], Coroutine[Any, Any, Any]]


def answered(path: Path, parts: list[bytes], use: Use) -> tuple[bytes, Any]:
    """Let a server say these parts; gives what it was asked, and what came of the answer."""

    async def run() -> tuple[bytes, Any]:
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(path / "e.sock"))
            listener.listen()

            def serve() -> tuple[socket.socket, bytes]:
                peer, _ = listener.accept()
                heard = peer.recv(10_000)
                for part in parts:
                    peer.send(part)
                return peer, heard

            serving = asyncio.create_task(asyncio.to_thread(serve))
            async with asked(path / "e.sock", "/v1/completions", b"{}") as reply:
                peer, heard = await serving
                with peer:
                    return heard, await use(reply, peer)

    return asyncio.run(run())


async def pieces(reply: Reply, peer: socket.socket) -> list[bytes]:
    peer.close()
    return [piece async for piece in reply.pieces()]


async def whole(reply: Reply, _: socket.socket) -> tuple[int, str, bytes]:
    return reply.status, reply.media_type, await reply.whole()


def test_chunks_come_one_by_one_wherever_they_are_cut(tmp_path: Path) -> None:
    body = b"6\r\nab\r\ncd\r\nA\r\n0123456789\r\n0\r\n\r\n"
    stream = CHUNKED + body
    (heard, found) = answered(tmp_path, [stream[:90], stream[90:101], stream[101:]], pieces)
    assert found == [b"ab\r\ncd", b"0123456789"]
    assert heard.startswith(
        b"POST /v1/completions HTTP/1.1\r\nHost: engine\r\nConnection: close\r\n"
    )
    assert heard.endswith(b"Content-Length: 2\r\n\r\n{}")


def test_a_body_of_known_length_is_read_to_its_end(tmp_path: Path) -> None:
    _, found = answered(tmp_path, [COUNTED, b"none", b" more"], whole)
    assert found == (404, "application/json", b"none")


def test_a_server_that_breaks_off_is_no_end(tmp_path: Path) -> None:
    with pytest.raises(asyncio.IncompleteReadError):
        answered(tmp_path, [CHUNKED, b"9\r\nhalf"], pieces)


def test_an_answer_given_up_as_it_comes_says_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Both sockets can be read in one turn of the loop: the first gives up reading the second."""

    async def give_up(reply: Reply, peer: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        near, far = socket.socketpair()
        with near, far:
            reading = asyncio.create_task(reply.whole())
            await asyncio.sleep(0)
            loop.add_reader(near, reading.cancel)
            far.send(b"now")
            peer.send(b"2\r\nab\r\n")
            with pytest.raises(asyncio.CancelledError):
                await reading
            loop.remove_reader(near)

    with caplog.at_level(logging.ERROR):
        answered(tmp_path, [CHUNKED], give_up)
    assert caplog.records == []
