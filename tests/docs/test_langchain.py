"""The examples for LangChain, each run as a user runs it, against a live server."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import pytest

from hanpaca.steps.ask_add import ask_add
from tests.support.scripted import ANSWER, END, scripted_model
from tests.support.serving import Served, served

pytest.importorskip("langchain_core", reason="langchain-core is not installed")
pytest.importorskip("langchain_openai", reason="langchain-openai is not installed")
pytest.importorskip("starlette")
EXAMPLES = Path(__file__).parents[2] / "examples/langchain"
TEA, RAIN = "龙井茶产于杭州，是绿茶。", "第一天下雨，河水涨了。" * 80


@pytest.fixture(scope="module")
def server(pico_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("scripted")
    model = scripted_model(pico_base, folder / "short", last=END)
    with served(model, "--context-tokens", "4096", "--num-parallel", "2") as one:
        yield one


def example(url: str, name: str, *words: object, said: str = "") -> str:
    given = map(str, (EXAMPLES / name, "--url", f"{url}/v1", *words))
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, *given],
        input=said,
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_a_question_is_answered_with_its_sources(server: Served, tmp_path: Path) -> None:
    (tmp_path / "tea.txt").write_text(TEA, encoding="utf-8")
    (tmp_path / "rain.txt").write_text(RAIN, encoding="gb18030")
    ask_add([tmp_path], tmp_path / "i.sqlite")
    said = example(server.url, "retrieval_qa.py", tmp_path / "i.sqlite", "龙井茶产于哪里？")
    assert said.splitlines() == [ANSWER, f"{tmp_path}/tea.txt, line 1"]


@pytest.mark.slow
@pytest.mark.parametrize("method", ["stuff", "map_reduce", "refine"])
def test_a_document_is_summarised(server: Served, tmp_path: Path, method: str) -> None:
    (tmp_path / "rain.txt").write_text(RAIN, encoding="utf-8")
    said = example(server.url, "summarise.py", tmp_path / "rain.txt", "--method", method)
    assert said == ANSWER + "\n"


class Recording(BaseHTTPRequestHandler):
    """Answers in the order asked, and keeps what it was asked."""

    asked: ClassVar[list[list[dict[str, str]]]] = []

    def do_GET(self) -> None:
        self._send("application/json", json.dumps({"data": [{"id": "one"}]}))

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.asked.append(body["messages"])
        delta = {"role": "assistant", "content": f"答{len(self.asked)}"}
        event = {"choices": [{"index": 0, "delta": delta, "finish_reason": "stop"}]}
        self._send("text/event-stream", f"data: {json.dumps(event)}\n\ndata: [DONE]\n\n")

    def _send(self, kind: str, text: str) -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(text.encode())))
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, format: str, *words: object) -> None:
        """Say nothing."""


@pytest.mark.slow
def test_a_conversation_goes_on_with_its_last_turns(server: Served) -> None:
    assert example(server.url, "chat_with_memory.py", said="你好\n") == f"{ANSWER}\n"
    with ThreadingHTTPServer(("127.0.0.1", 0), Recording) as one:
        threading.Thread(target=one.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{one.server_port}"
        said = example(url, "chat_with_memory.py", "--turns", 1, said="甲\n\n乙\n丙\n")
        one.shutdown()
    assert said == "答1\n答2\n答3\n"
    turns = [[message["content"] for message in asked[1:]] for asked in Recording.asked]
    assert turns == [["甲"], ["甲", "答1", "乙"], ["乙", "答2", "丙"]]


def test_the_page_names_every_example() -> None:
    text = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    examples = {one.name for one in EXAMPLES.glob("*.py")} - {"connection.py"}
    assert all(f"python {name}" in text for name in examples)
    assert (
        json.dumps(sorted(examples)) == '["chat_with_memory.py", "retrieval_qa.py", "summarise.py"]'
    )
