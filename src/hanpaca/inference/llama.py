"""Answers from a GGUF model, through llama.cpp (the xllamacpp wheel)."""

import os
import queue
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from hanpaca.errors import ArtifactError

Messages = Sequence[Mapping[str, str]]
_GGUF_MAGIC = b"GGUF"
_QUIET = -1
_REPEAT_PENALTY = 1.1
"""The reference system's default too: small models loop without it, most of all when greedy."""


@dataclass(frozen=True)
class Answer:
    """What a model wrote, and how fast."""

    text: str
    num_tokens: int
    seconds: float
    """Of writing only, without reading the prompt."""
    stopped: bool
    """The model ended by itself; False when the length limit cut it off."""


class ChatModel:
    """A GGUF model in memory; use it as a context manager.

    Text never holds half a character: llama.cpp keeps bytes back until a character is whole, and a
    character cut off by the length limit is dropped.
    """

    def __init__(
        self,
        gguf: Path,
        *,
        context_tokens: int = 2048,
        num_threads: int | None = None,
        num_parallel: int = 1,
    ) -> None:
        """Load the model.

        Args:
            gguf: The file.
            context_tokens: Room for prompt and answer together, of each conversation.
            num_threads: Of the CPU; None for one a core.
            num_parallel: Conversations answered at the same time by `answer_many`.

        Raises:
            ArtifactError: The file is missing or is no model llama.cpp can load.
        """
        import xllamacpp

        _check_is_gguf(gguf)
        params = xllamacpp.CommonParams()
        params.model.path = str(gguf)
        params.n_ctx = context_tokens * num_parallel
        params.n_parallel = num_parallel
        params.cpuparams.n_threads = num_threads or os.cpu_count() or 1
        params.verbosity = _QUIET
        params.warmup = False
        self.num_parallel = num_parallel
        try:
            self._server: Any = xllamacpp.Server(params)
        except RuntimeError as error:
            raise ArtifactError(
                f"{gguf}: llama.cpp cannot load this model; make it again with `hanpaca gguf`"
            ) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # The wrapper stops its threads and frees the model when it is deleted.
        self._server = None

    def stream(
        self, messages: Messages, *, max_tokens: int = 512, temperature: float = 0.0, seed: int = 0
    ) -> Iterator[str]:
        """Answer a conversation, piece by piece; closing the iterator stops the model.

        Recent tokens are made less likely by a factor of 1.1.

        Args:
            messages: Turns with `role` and `content`; the file's own chat template writes them.
            max_tokens: The answer is cut off there.
            temperature: 0 always takes the likeliest token.
            seed: For temperatures above 0.

        Raises:
            ArtifactError: llama.cpp refuses, for instance a conversation longer than the context.
        """
        request = {**_request(max_tokens, temperature, seed), "messages": list(messages)}
        request |= {"stream": True, "cache_prompt": True}
        events: queue.Queue[Any] = queue.Queue()
        stopping = threading.Event()

        def take(event: Any) -> bool:  # noqa: ANN401  # a JSON object
            events.put(event)
            return stopping.is_set()

        def work() -> None:
            try:
                self._server.handle_chat_completions(request, take)
            finally:
                events.put(None)

        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        try:
            while (event := events.get()) is not None:
                text = _delta(event)
                if text:
                    yield text
        finally:
            stopping.set()
            thread.join()

    def answer(
        self, messages: Messages, *, max_tokens: int = 512, temperature: float = 0.0, seed: int = 0
    ) -> Answer:
        """Answer a conversation as a whole; see `stream`."""
        request = {**_request(max_tokens, temperature, seed), "messages": list(messages)}
        reply = _checked(self._server.handle_chat_completions(request))
        return _answer(reply, reply["choices"][0]["message"]["content"])

    def answer_many(
        self, conversations: Sequence[Messages], *, max_tokens: int = 512
    ) -> list[Answer]:
        """Answer many conversations greedily, `num_parallel` at a time, in the order given."""
        with ThreadPoolExecutor(self.num_parallel) as pool:
            return list(
                pool.map(lambda one: self.answer(one, max_tokens=max_tokens), conversations)
            )

    def complete(
        self,
        prompt: str,
        *,
        max_tokens: int,
        ignore_end: bool = False,
        repeat_penalty: float = _REPEAT_PENALTY,
    ) -> Answer:
        """Continue a text greedily, without a chat template.

        Args:
            prompt: The text so far.
            max_tokens: The text is cut off there.
            ignore_end: Go on past the end token, to time a fixed number of tokens.
            repeat_penalty: Divides the likelihood of recent tokens; 1 for none.
        """
        request = {**_request(max_tokens, 0.0, 0), "prompt": prompt, "ignore_eos": ignore_end}
        request["repeat_penalty"] = repeat_penalty
        reply = _checked(self._server.handle_completions(request))
        return _answer(reply, reply["choices"][0]["text"])


def _check_is_gguf(path: Path) -> None:
    try:
        with path.open("rb") as stream:
            magic = stream.read(4)
    except OSError as error:
        raise ArtifactError(f"{path}: cannot be read: {error.strerror}") from error
    if magic != _GGUF_MAGIC:
        raise ArtifactError(f"{path}: not a GGUF file; make one with `hanpaca gguf`")


def _request(max_tokens: int, temperature: float, seed: int) -> dict[str, Any]:
    # A prompt read in two parts rounds differently, which can tip a close decision: only a chat,
    # which grows turn by turn, reuses what was read before.
    return {
        "max_tokens": max_tokens,
        "temperature": temperature,
        "seed": seed,
        "cache_prompt": False,
        "repeat_penalty": _REPEAT_PENALTY,
    }


def _checked(reply: Any) -> dict[str, Any]:  # noqa: ANN401  # a JSON object
    if not isinstance(reply, dict) or "choices" not in reply:
        fault = reply.get("error", reply) if isinstance(reply, dict) else reply
        message = fault.get("message", fault) if isinstance(fault, dict) else fault
        raise ArtifactError(f"llama.cpp refused the request: {message}")
    return reply


def _delta(event: Any) -> str:  # noqa: ANN401
    text = _checked(event)["choices"][0].get("delta", {}).get("content")
    return str(text).replace("\ufffd", "") if text else ""


def _answer(reply: Mapping[str, Any], text: str) -> Answer:
    return Answer(
        text=text.rstrip("\ufffd"),
        num_tokens=int(reply["usage"]["completion_tokens"]),
        seconds=float(reply["timings"]["predicted_ms"]) / 1000,
        stopped=reply["choices"][0]["finish_reason"] == "stop",
    )
