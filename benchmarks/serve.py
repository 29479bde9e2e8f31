"""What the server bears and costs, and how soon a model answers.

One piece at a time, each in a few minutes; each writes its part of the result. The model is any
GGUF file of a size that is used; `load` has a model of its own whose every answer is known.

    python -m benchmarks.serve load
    python -m benchmarks.serve front MODEL.gguf
    python -m benchmarks.serve turns MODEL.gguf
    python -m benchmarks.serve cold MODEL.gguf

Other programs on the machine change seconds, so what is compared takes turns in one run. The front
runs on the first thread of its process, whose own time on a core is its cost.
"""

import argparse
import asyncio
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from tests.support.models import make_pico_model
from tests.support.scripted import ANSWER, scripted_model
from tests.support.serving import MAIN, Served, served

RESULT = Path(__file__).parent / "results" / "serve.json"
CHAT, COMPLETION = "/v1/chat/completions", "/v1/completions"
SENTENCE = "The quick brown fox jumps over the lazy dog, and number {} of its friends looks on. "
CLIENTS = 16
PARALLEL = 4
Address = tuple[str, int] | Path


@dataclass
class Reply:
    """An answer, whole or as far as it was waited for."""

    status: int = 0
    data: bytes = b""
    first: float = 0.0
    """Seconds until the first byte of the body."""

    @property
    def text(self) -> str:
        """What was said."""
        body = self.data.decode()
        events = re.findall(r"^data: (\{.*\})", body, re.MULTILINE)
        trees = [
            json.loads(one) for one in events or [body[body.index("{") : body.rindex("}") + 1]]
        ]
        said = [choice for tree in trees for choice in tree.get("choices", ())]
        parts = [one.get("delta") or one.get("message") or one for one in said]
        return "".join(one.get("content") or one.get("text") or "" for one in parts)


@asynccontextmanager
async def asking(
    at: Address, path: str, body: dict[str, Any]
) -> AsyncIterator[asyncio.StreamReader]:
    """Send a request on a connection of its own, which is closed at the end."""
    opened = (
        asyncio.open_unix_connection(str(at))
        if isinstance(at, Path)
        else asyncio.open_connection(*at)
    )
    reader, writer = await opened
    data = json.dumps(body).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
    writer.write(f"{head}Content-Length: {len(data)}\r\n\r\n".encode() + data)
    try:
        yield reader
    finally:
        writer.close()


async def ask(at: Address, path: str, body: dict[str, Any], *, leaves: bool = False) -> Reply:
    """Ask, and wait for the end, or only for the first piece."""
    begun = time.perf_counter()
    reply = Reply()
    async with asking(at, path, body) as reader:
        reply.status = int((await reader.readuntil(b"\r\n\r\n")).split()[1])
        while part := await reader.read(1 << 16):
            reply.first = reply.first or time.perf_counter() - begun
            reply.data += part
            if leaves:
                break
    return reply


def port_of(server: Served) -> Address:
    """Where the front is."""
    host, port = server.url.removeprefix("http://").split(":")
    return host, int(port)


def resident_mib(pid: int) -> float:
    """Memory of a process now."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    return int(re.findall(r"VmRSS:\s+(\d+)", status)[0]) / 1024


def front_seconds(pid: int) -> float:
    """Time on a core that the first thread of a process has had."""
    return (
        int(Path(f"/proc/{pid}/task/{pid}/schedstat").read_text(encoding="ascii").split()[0]) / 1e9
    )


async def one_of_many(at: Address, number: int) -> str:
    """A request of the load and what became of it: 1 % are malformed, 11 % hang up."""
    long, short = {"max_tokens": 20_000}, {"max_tokens": 10}
    asked: dict[str, Any] = {"messages": [{"role": "user", "content": "问"}], "temperature": 0}
    if number % 100 == 50:
        reply = await ask(at, CHAT, {"messages": []})
        return "refused" if reply.status == 400 else "lost"
    if number % 100 == 31:
        async with asking(at, CHAT, asked | long):
            return "left without a word"
    if number % 10 == 4:
        reply = await ask(at, CHAT, asked | long | {"stream": True}, leaves=True)
        return "left in the middle" if reply.status == 200 else "lost"
    streams = number % 2 == 0
    reply = await ask(at, CHAT, asked | short | {"stream": streams})
    right = reply.status == 200 and reply.text == f"{ANSWER}\n"
    return ("streamed" if streams else "whole") if right else "lost"


async def many(at: Address, numbers: range) -> list[str]:
    """So many requests, some at a time."""
    left = iter(numbers)

    async def work() -> list[str]:
        return [await one_of_many(at, number) for number in left]

    return [one for each in await asyncio.gather(*(work() for _ in range(CLIENTS))) for one in each]


async def seconds_to_free(at: Address, server: Served) -> float:
    """How long places are taken after all their clients have hung up."""
    body = {"messages": [{"role": "user", "content": "问"}], "max_tokens": 20_000, "stream": True}
    await asyncio.gather(*(ask(at, CHAT, body, leaves=True) for _ in range(PARALLEL)))
    begun = time.perf_counter()
    while server.num_processing():
        await asyncio.sleep(0.01)
    return time.perf_counter() - begun


def load(num_requests: int) -> dict[str, Any]:
    """Many requests at a time."""
    with tempfile.TemporaryDirectory() as name:
        make_pico_model(Path(name) / "base")
        model = scripted_model(Path(name) / "base", Path(name) / "endless", last="\n")
        words = ("--context-tokens", "24000", "--num-parallel", str(PARALLEL))
        with served(model, *words) as server:
            at, found = port_of(server), list[str]()
            begun, memory = time.perf_counter(), list[float]()
            for start in range(0, num_requests, 1000):
                found += asyncio.run(many(at, range(start, min(start + 1000, num_requests))))
                memory.append(round(resident_mib(server.process.pid), 1))
            seconds = time.perf_counter() - begun
            freed = [asyncio.run(seconds_to_free(at, server)) for _ in range(10)]
    return {
        "requests": {one: found.count(one) for one in sorted(set(found))},
        "lost": found.count("lost"),
        "at_a_time": CLIENTS,
        "seconds": round(seconds, 1),
        "mib_after_each_thousand": memory,
        "most_seconds_until_places_are_free": round(max(freed), 2),
    }


def front(model: Path, rounds: int, num_tokens: int) -> dict[str, Any]:
    """The same answers from the engine's own socket and through the front, in turn."""
    words = ("--num-parallel", str(PARALLEL), "--context-tokens", "1024")
    arms = [(place, kind) for place in ("engine", "front") for kind in ("streamed", "whole")]
    rates: dict[str, list[float]] = {f"{place}, {kind}": [] for place, kind in arms}
    cost = {"streamed": 0.0, "whole": 0.0}
    with (
        tempfile.TemporaryDirectory() as name,
        served(model, *words, temporary=Path(name)) as server,
    ):
        (socket,) = Path(name).glob("*/e.sock")
        at: dict[str, Address] = {"engine": socket, "front": port_of(server)}
        body = {"prompt": SENTENCE.format(1), "max_tokens": num_tokens, "ignore_eos": True}
        body |= {"temperature": 0, "repeat_penalty": 1.1, "lora": []}

        async def arm(place: str, kind: str) -> float:
            asked = body | {"stream": kind == "streamed"}
            begun = time.perf_counter()
            await asyncio.gather(*(ask(at[place], COMPLETION, asked) for _ in range(PARALLEL)))
            return PARALLEL * num_tokens / (time.perf_counter() - begun)

        for number in range(rounds + 1):
            for place, kind in arms if number % 2 else arms[::-1]:
                before = front_seconds(server.process.pid)
                rate = asyncio.run(arm(place, kind))
                if number:  # the first is warm-up
                    rates[f"{place}, {kind}"].append(round(rate, 1))
                    if place == "front":
                        cost[kind] += front_seconds(server.process.pid) - before
    written = rounds * PARALLEL * num_tokens
    return {
        "model": model.name,
        "tokens_per_second": rates,
        "front_over_engine": {
            kind: round(median(map(_ratio, rates[f"front, {kind}"], rates[f"engine, {kind}"])), 3)
            for kind in cost
        },
        "front_milliseconds_per_token": {
            kind: round(1000 * seconds / written, 3) for kind, seconds in cost.items()
        },
    }


def _ratio(one: float, other: float) -> float:
    return one / other


def turns(model: Path, rounds: int) -> dict[str, Any]:
    """Seconds to the first piece of the first and the second answer of a conversation."""
    firsts, seconds = list[float](), list[float]()
    with served(model, "--context-tokens", "2048", "--num-parallel", "1") as server:
        for number in range(rounds):
            told = "".join(SENTENCE.format(100 * number + one) for one in range(40))
            talk = [{"role": "user", "content": f"{told}What does the fox do?"}]
            body = {"messages": talk, "max_tokens": 16, "temperature": 0, "stream": True}
            one = asyncio.run(ask(port_of(server), CHAT, body))
            talk += [{"role": "assistant", "content": one.text}]
            talk += [{"role": "user", "content": "And its friends?"}]
            other = asyncio.run(ask(port_of(server), CHAT, body))
            firsts.append(round(one.first, 3))
            seconds.append(round(other.first, 3))
    return {
        "model": model.name,
        "first_turn_seconds": firsts,
        "second_turn_seconds": seconds,
        "second_over_first": round(median(map(_ratio, seconds, firsts)), 3),
    }


def cold(model: Path, rounds: int) -> dict[str, Any]:
    """Seconds from the start of `chat` until it takes a question, its file not in memory."""
    waited, worked = list[float](), list[float]()
    for _ in range(rounds):
        with model.open("rb") as stream:
            os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        begun = time.perf_counter()
        with subprocess.Popen(
            [sys.executable, "-c", MAIN, "chat", str(model), "--threads", "1"],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        ) as process:
            assert process.stderr is not None
            assert b"tokens of context" in process.stderr.readline()
            waited.append(round(time.perf_counter() - begun, 2))
            stat = Path(f"/proc/{process.pid}/stat").read_text(encoding="ascii").rpartition(")")[2]
            worked.append(sum(map(int, stat.split()[11:13])) / os.sysconf("SC_CLK_TCK"))
            process.communicate(b"")
    return {
        "model": f"{model.name}, {model.stat().st_size / 1e6:.0f} MB",
        "seconds": waited,
        "of_them_on_a_core": [round(one, 2) for one in worked],
        "least_seconds": min(waited),
    }


def main(words: Sequence[str] | None = None) -> None:
    """Measure one piece, print, and write its part of the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("piece", choices=("load", "front", "turns", "cold"))
    parser.add_argument("model", type=Path, nargs="?")
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--tokens", type=int, default=64)
    options = parser.parse_args(words)
    if options.model is None and options.piece != "load":
        parser.error("a model is wanted")
    pieces: dict[str, Callable[[], dict[str, Any]]] = {
        "load": lambda: load(options.requests),
        "front": lambda: front(options.model, options.rounds, options.tokens),
        "turns": lambda: turns(options.model, options.rounds),
        "cold": lambda: cold(options.model, options.rounds),
    }
    command = f"python -m benchmarks.serve {options.piece}"
    if options.model:
        command += f" {options.model.name}"
    machine = f"{platform.machine()}, {os.cpu_count()} cores, other work beside; load before it "
    machine += f"{os.getloadavg()[0]:.1f}"
    found = {"command": command, "machine": machine, **pieces[options.piece]()}
    known = json.loads(RESULT.read_text(encoding="utf-8")) if RESULT.exists() else {}
    tree = {**known, options.piece: found}
    RESULT.write_text(json.dumps(tree, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
