"""A judge on loopback that replies by a rule, and can be busy or wrong."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from hanpaca.evals.judge.controls import control_pairs

Rule = Callable[[str], str]
"""What a judge says to what it is asked."""


@dataclass
class FakeJudge:
    """What was asked of it, and the statuses it gives before it replies."""

    url: str
    asked: list[dict[str, Any]] = field(default_factory=list)
    keys: list[str | None] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)
    body: bytes | None = None
    """In place of a reply."""
    no_room_for: str | None = None
    """What is asked with this in it does not fit its context."""


def answers_in(text: str) -> tuple[str, str]:
    """All that assistants A and B said."""
    return tuple(  # type: ignore[return-value]
        "\n".join(
            part.split("\nUser: ")[0].split(f"\n[End of the conversation with assistant {name}]")[0]
            for part in text.split(f"\nAssistant {name}: ")[1:]
        )
        for name in "AB"
    )


def careful(rule: Rule) -> Rule:
    """Right about the control pairs; about others as the rule says."""
    good = {one.good.turns[0]: one.good.answers[0] for one in control_pairs()}

    def judge(text: str) -> str:
        first, second = answers_in(text)
        if first == second:
            return "They are the same.\n[[C]]"
        asked = text.split("User: ")[1].split("\nAssistant")[0]
        if asked in good and good[asked] in (first, second):
            return "[[A]]" if first == good[asked] else "[[B]]"
        return rule(text)

    return judge


@contextmanager
def judging(rule: Rule) -> Iterator[FakeJudge]:
    """Serve a judge for as long as the context lasts."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            length = int(self.headers["content-length"])
            request = json.loads(self.rfile.read(length))
            judge.asked.append(request)
            judge.keys.append(self.headers.get("authorization"))
            status = judge.statuses.pop(0) if judge.statuses else 200
            content = request["messages"][-1]["content"]
            if judge.no_room_for and judge.no_room_for in content:
                status = 400
            said = rule(content) if status == 200 else "busy: maximum context length"
            tree = {"choices": [{"message": {"role": "assistant", "content": said}}]}
            body = judge.body or json.dumps(tree).encode()
            self.send_response(status)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    judge = FakeJudge(f"http://127.0.0.1:{server.server_port}/v1")
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield judge
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
