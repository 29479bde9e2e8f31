"""llama.cpp as an oracle: what it makes of a conversation, by its server's own routes."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

Turns = Sequence[Mapping[str, str]]


class LlamaCpp:
    """A served GGUF file."""

    def __init__(self, connection: HTTPConnection) -> None:
        self._connection = connection

    def prompt_ids(self, turns: Turns) -> list[int]:
        """Ids that the chat route reads for these turns."""
        prompt = self("/apply-template", {"messages": list(turns)})["prompt"]
        question = {"content": prompt, "add_special": True, "parse_special": True}
        ids = [int(one) for one in self("/tokenize", question)["tokens"]]
        chat = {"messages": list(turns), "max_tokens": 1, "cache_prompt": False}
        read = self("/v1/chat/completions", chat)["usage"]["prompt_tokens"]
        assert read == len(ids)  # of the chat route itself, which does not give the ids
        return ids

    def __call__(self, route: str, question: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """The server's answer on a route; asked with GET where there is no question."""
        self._connection.close()  # the server hangs up after seconds without a question
        if question is None:
            self._connection.request("GET", route)
        else:
            self._connection.request("POST", route, json.dumps(question))
        with self._connection.getresponse() as reply:
            answer = json.loads(reply.read())
        assert reply.status == 200, answer
        return dict(answer)


def forced(model: LlamaCpp, token: int, prompt: Sequence[int]) -> str:
    """Why an answer ends whose every token is this one: "eos" or "limit"."""
    request = {
        "prompt": list(prompt),
        "n_predict": 4,
        "temperature": 0,
        "logit_bias": [[token, 1000.0]],
    }
    return str(model("/completion", request)["stop_type"])


@contextmanager
def served(gguf: Path, *, context_tokens: int = 1024) -> Iterator[LlamaCpp]:
    """Serve a file for as long as the context lasts."""
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = str(gguf)
    params.n_ctx = context_tokens
    params.verbosity = -1
    params.warmup = False
    server = xllamacpp.Server(params)
    try:
        with closing(HTTPConnection(server.listening_address.removeprefix("http://"))) as open_one:
            yield LlamaCpp(open_one)
    finally:
        del server  # which ends its threads
