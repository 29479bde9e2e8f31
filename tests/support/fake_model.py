"""A model on loopback that writes instructions and answers, and fails as real endpoints do.

What it replies is decided by the request alone, how it fails by the request and how often it came.
"""

import hashlib
import json
import os
import random
import re
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import hanpaca as hp

Fault = str
"""`busy` (429), `failing` (500), `broken` (damaged JSON), `hanging`, or nothing."""
Faults = dict[Fault, float]
"""Shares of the requests."""
FAULTS: Faults = {"busy": 0.2, "failing": 0.05, "broken": 0.05, "hanging": 0.01}
PAUSE = "0.01"
HANGS = 3.0


def words_by(key: str, number: int) -> str:
    """Han characters drawn by a key; two keys share hardly any in order."""
    drawn = random.Random(key)
    return "".join(chr(0x4E00 + drawn.randrange(3000)) for _ in range(number))


def instruction_by(request: dict[str, Any]) -> str:
    """An instruction that no other request gets."""
    return f"请说明{words_by(json.dumps(request, sort_keys=True), 20)}。"


def said_to(request: dict[str, Any]) -> str:
    """What a good model replies."""
    if "prompt" in request:
        return instruction_by(request)
    asked = request["messages"][-1]["content"]
    if "JSON" in asked:
        return json.dumps({"instruction": instruction_by(request)}, ensure_ascii=False)
    return f"这是关于{words_by(asked, 30)}的回答。"


@dataclass
class FakeModel:
    """What was asked of it, and how it behaves."""

    url: str = ""
    faults: Faults = field(default_factory=dict)
    say: Callable[[dict[str, Any]], str] = said_to
    schema: bool = True
    """It holds replies to a schema where it is told to; else it refuses."""
    context: int = 100_000
    """Characters of a prompt that it has room for."""
    status: int = 200
    kills: tuple[int, int] | None = None
    """A process, and the number of the request at which it is killed."""
    counted: bool = True
    """It tells how many tokens it counted."""
    tokens: tuple[int, int] = (0, 0)
    asked: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    most_open: int = 0
    _open: int = 0
    _times: Counter[str] = field(default_factory=Counter)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def fault(self, request: dict[str, Any]) -> Fault:
        """How this attempt fails."""
        key = json.dumps(request, sort_keys=True)
        with self._lock:
            self._times[key] += 1
            time_of_it = self._times[key]
        drawn = int(hashlib.sha256(f"{key} {time_of_it}".encode()).hexdigest()[:8], 16) / 2**32
        for name, share in self.faults.items():
            if drawn < share:
                return name
            drawn -= share
        return ""

    def replied(self, request: dict[str, Any]) -> tuple[int, bytes]:
        """Status and body; the tokens are paid for even if nobody waits for them."""
        if self.status != 200:
            return self.status, b'{"error": {"message": "no, ' + self._key() + b'"}}'
        if not self.schema and "response_format" in request:
            return 400, b'{"error": {"message": "response_format is not supported"}}'
        if len(str(request.get("messages"))) > self.context:
            return 400, b'{"error": {"message": "maximum context length exceeded"}}'
        match self.fault(request):
            case "busy":
                return 429, b"busy"
            case "failing":
                return 500, b"failing"
            case fault:
                said = self.say(request)
        if fault == "hanging":
            time.sleep(HANGS)
        body = self._body(request, said[: len(said) // 2] if fault == "broken" else said)
        return 200, body[:-9] if fault == "broken" and "JSON" not in str(request) else body

    def _body(self, request: dict[str, Any], said: str) -> bytes:
        num_read = sum(len(one["content"]) for one in request.get("messages", ()))
        usage = {"prompt_tokens": num_read, "completion_tokens": len(said)}
        with self._lock:
            self.tokens = (self.tokens[0] + num_read, self.tokens[1] + len(said))
        turn = {"text": said} if "prompt" in request else {"message": {"content": said}}
        tree = {"choices": [{**turn, "finish_reason": "stop"}]}
        told = {"usage": usage} if self.counted else {}
        return json.dumps(tree | told, ensure_ascii=False).encode()

    def _key(self) -> bytes:
        return self.headers[-1].get("authorization", "").encode()

    def enter(self, request: dict[str, Any], headers: dict[str, str]) -> None:
        """A request has come."""
        with self._lock:
            self.asked.append(request)
            self.headers.append(headers)
            self._open += 1
            self.most_open = max(self.most_open, self._open)
            number = len(self.asked)
        if self.kills and number == self.kills[1]:
            os.kill(self.kills[0], signal.SIGKILL)

    def leave(self) -> None:
        """A request was answered."""
        with self._lock:
            self._open -= 1


def hashes_in(text: str) -> set[str]:
    """Of requests, in a file of calls."""
    return set(re.findall(r'"asked": "(\w{64})"', text))


def generate_when(gate: Any, place: Path, given: dict[str, Any]) -> None:
    """Generate in a process of its own, when its parent knows it."""
    gate.wait()
    hp.generate_data(place, **given)


@contextmanager
def fake_model(**given: Any) -> Iterator[FakeModel]:
    """Serve one for as long as the context lasts."""
    model = FakeModel(**given)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_POST(self) -> None:
            request = json.loads(self.rfile.read(int(self.headers["content-length"])))
            model.enter(request, {key.lower(): value for key, value in self.headers.items()})
            try:
                status, body = model.replied(request)
            finally:
                model.leave()
            try:
                self.send_response(status)
                self.send_header("content-length", str(len(body)))
                if status in (429, 500):
                    self.send_header("retry-after", PAUSE)
                self.end_headers()
                self.wfile.write(body)
            except ConnectionError:
                self.close_connection = True

        def log_message(self, *_: object) -> None:
            """Nothing."""

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        block_on_close = False
        request_queue_size = 64

        def handle_error(self, *_: object) -> None:
            """A client that is gone is none."""

    server = Server(("127.0.0.1", 0), Handler)
    model.url = f"http://127.0.0.1:{server.server_port}/v1"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield model
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
