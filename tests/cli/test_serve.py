"""The command: who may ask, what it leaves behind, and how it carries load."""

import json
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.support.commands import hanpaca
from tests.support.scripted import ANSWER, END, scripted_model
from tests.support.serving import Served, served

pytest.importorskip("starlette")
ASKED: dict[str, Any] = {"messages": [{"role": "user", "content": "问"}], "temperature": 0}
CHAT = "/v1/chat/completions"
LONG = ("--context-tokens", "30000", "--num-parallel", "2")


@pytest.fixture(scope="module")
def short(pico_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """It answers and stops."""
    return scripted_model(pico_base, tmp_path_factory.mktemp("short") / "short", last=END)


@pytest.fixture(scope="module")
def endless(pico_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """It goes on and on."""
    return scripted_model(pico_base, tmp_path_factory.mktemp("long") / "endless", last="\n")


@pytest.fixture(scope="module")
def server(short: Path) -> Iterator[Served]:
    with served(short, "--context-tokens", "256") as one:
        yield one


def test_other_hosts_and_origins_are_refused_and_no_page_is_let_in(server: Served) -> None:
    evil = httpx2.get(server.url + "/v1/models", headers={"Host": "evil.example"}, timeout=120)
    assert (evil.status_code, evil.json()["error"]["param"]) == (400, None)
    for name in ("localhost", "127.0.0.1", "[::1]:80", "LOCALHOST:9"):
        reply = httpx2.get(server.url + "/v1/models", headers={"Host": name}, timeout=120)
        assert reply.status_code == 200
    for headers in ({"Origin": "https://evil.example"}, {"Origin": "null"}):
        for method, path in (("OPTIONS", CHAT), ("POST", CHAT), ("GET", "/health")):
            reply = httpx2.request(method, server.url + path, headers=headers, json=ASKED)
            assert reply.status_code == 403
            assert not [name for name in reply.headers if name.startswith("access-control")]
    own = httpx2.post(server.url + CHAT, headers={"Origin": server.url}, json=ASKED, timeout=120)
    assert own.json()["choices"][0]["message"]["content"] == ANSWER


@pytest.mark.skipif(shutil.which("ss") is None, reason="ss is not installed")
def test_one_port_of_this_machine_is_open(server: Served) -> None:
    done = subprocess.run(["ss", "-ltnpH"], check=True, capture_output=True, text=True)
    (line,) = [one for one in done.stdout.splitlines() if f"pid={server.process.pid}," in one]
    assert line.split()[3] == server.url.removeprefix("http://")


def test_every_one_of_many_requests_is_answered(server: Served) -> None:
    """200, 16 at a time: 2 malformed, half of the rest streamed, some of them hung up on."""

    def ask(number: int) -> str:
        if number % 100 == 50:
            return str(client.post(CHAT, json={"messages": []}).status_code)
        if number % 2:
            return str(client.post(CHAT, json=ASKED).json()["choices"][0])
        with client.stream("POST", CHAT, json=ASKED | {"stream": True}) as reply:
            if number % 10 == 4:
                next(reply.iter_raw())
                return "left"
            return "".join(_said(reply.read().decode()))

    with httpx2.Client(base_url=server.url, timeout=240) as client, ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(ask, range(200)))
    assert [answers[number] for number in (50, 150)] == ["400", "400"]
    whole = [answers[number] for number in range(1, 200, 2)]
    assert all(f"'{ANSWER}'" in one for one in whole)
    streamed = [answers[number] for number in range(0, 200, 2) if number not in (50, 150)]
    assert set(streamed) == {"left", ANSWER}
    assert streamed.count("left") == 20
    assert server.waits_until_idle(30)


@pytest.mark.slow
def test_rare_characters_come_whole(server: Served) -> None:
    """200 streams of characters of three and four bytes, each byte a token of its own."""
    rare = ["𠮷", "龘", "😀", "👩‍🔬", "🇨🇳", "𓀀", "é", "ﷺ", "쀍", "한"]

    def ask(number: int) -> tuple[str, str]:
        text = "".join(rare[(number * step) % len(rare)] for step in (1, 3, 7, 9)) + str(number)
        body = ASKED | {"grammar": f'root ::= "{text}"', "stream": True}
        reply = client.post(CHAT, json=body)
        return text, "".join(_said(reply.content.decode()))

    with httpx2.Client(base_url=server.url, timeout=240) as client, ThreadPoolExecutor(4) as pool:
        for wanted, said in pool.map(ask, range(200)):
            assert said == wanted


@pytest.mark.slow
def test_a_client_that_hangs_up_frees_its_place(endless: Path) -> None:
    with served(endless, *LONG) as server:
        for more in ({"stream": True}, {}):
            with _asking(server, more), _asking(server, more):
                assert _until(lambda: server.num_processing() == 2)
            assert server.waits_until_idle(30), more


@pytest.mark.slow
def test_too_many_that_wait_are_told_to_come_back(endless: Path) -> None:
    words = ("--context-tokens", "30000", "--num-parallel", "1", "--most-waiting", "1")
    with served(endless, *words) as server, _asking(server), _asking(server):
        assert _until(lambda: server.num_processing() == 1)
        assert _until(lambda: _asked_in_vain(server).status_code == 429)
        reply = _asked_in_vain(server)
        assert (reply.headers["retry-after"], reply.json()["error"]["code"]) == ("1", "busy")


@pytest.mark.slow
@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM])
def test_two_open_streams_do_not_keep_it(
    endless: Path, tmp_path: Path, end: signal.Signals
) -> None:
    with (
        served(endless, *LONG, temporary=tmp_path) as server,
        _asking(server, {"stream": True}),
        _asking(server),
    ):
        assert _until(lambda: server.num_processing() == 2)
        assert [one.stat().st_mode & 0o777 for one in tmp_path.iterdir()] == [0o700, 0o700]
        status, seconds, said = server.stop(end)
    assert seconds < 30  # under 4 on a quiet machine; the answers would take minutes
    assert status == {signal.SIGINT: 0, signal.SIGTERM: 143}[end]
    assert list(tmp_path.iterdir()) == []
    assert said == ""


@pytest.mark.parametrize(
    ("words", "status", "message"),
    [
        (("--host", "0.0.0.0"), 2, "at 0.0.0.0 other machines can reach the server, so it needs"),
        (("--host", "192.0.2.1", "--api-key", "a"), 5, "192.0.2.1, port 8000: Cannot assign"),
        (("--api-key", ""), 2, "the API key is empty or not ASCII: mend --api-key"),
        (("--num-parallel", "0"), 2, "num parallel is 0: --num-parallel must be at least 1"),
        (("--port", "70000"), 2, "port is 70000: --port must be from 0 to 65535"),
        (("--adapter", "a.gguf"), 2, "adapter 'a.gguf' is no NAME=PATH with a name of its own"),
        (("--adapter", "short=a.gguf"), 2, "the adapter 'short' has the name of its base: give an"),
        (("--adapter", "a=none.gguf"), 4, "adapter a: none.gguf: no such file or folder"),
    ],
)
def test_what_cannot_be_served_is_one_line(
    short: Path, words: tuple[str, ...], status: int, message: str
) -> None:
    done = hanpaca("serve", short, *words)
    assert (done.returncode, done.stdout) == (status, "")
    assert len(done.stderr.splitlines()) == 1
    assert f"hanpaca: {message}" in done.stderr


def test_a_port_that_is_taken_is_said_before_the_model_is_loaded(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        done = hanpaca("serve", tmp_path / "none.gguf", "--port", port)
    assert done.returncode == 5
    assert f"127.0.0.1, port {port}: Address already in use: give another --port" in done.stderr


def _said(events: str) -> Iterator[str]:
    for line in events.splitlines():
        if line.startswith("data: {"):
            for choice in json.loads(line.removeprefix("data: "))["choices"]:
                yield choice["delta"].get("content") or ""


class _asking:  # noqa: N801  # a context
    """A client that asks and waits, until the context ends."""

    def __init__(self, server: Served, more: dict[str, Any] | None = None) -> None:
        host, port = server.url.removeprefix("http://").split(":")
        self.socket = socket.create_connection((host, int(port)))
        body = json.dumps(ASKED | (more or {})).encode()
        head = f"POST {CHAT} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n"
        self.socket.sendall(head.encode() + body)

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        self.socket.close()


def _asked_in_vain(server: Served) -> httpx2.Response:
    """What a question is told that finds no place; one that found the last place is given up."""
    while True:
        with suppress(httpx2.ReadTimeout):
            return httpx2.post(server.url + CHAT, json=ASKED)


def _until(done: Any, seconds: float = 60) -> bool:
    end = time.monotonic() + seconds
    while not done():
        if time.monotonic() > end:
            return False
        time.sleep(0.05)
    return True
