"""Answers from a GGUF model, through llama.cpp (the xllamacpp wheel)."""

import queue
import threading
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self, cast

from hanpaca.errors import ArtifactError, DataError
from hanpaca.inference.sampling import Sampling
from hanpaca.inference.start import (
    context_in_force,
    loading_failed,
    parameters,
    private_folder,
    started,
)

Messages = Sequence[Mapping[str, str]]
Pieces = Generator[str, None, "Answer"]
"""Text as it comes; what `yield from` gives is the whole."""
_BATCH_TOKENS = 512
"""Read between two chances to stop."""
_SOCKET = "e.sock"
_SECONDS_TO_STOP = 0.5


@dataclass(frozen=True)
class Answer:
    """What a model wrote, and how fast."""

    text: str
    num_tokens: int
    seconds: float
    """Of writing only, without reading the prompt."""
    stopped: bool
    """The model ended by itself; False when the length limit cut it off."""
    too_long: bool = False
    """The prompt did not fit into the context: nothing was read, and nothing written."""

    def __str__(self) -> str:
        return self.text


class PromptTooLong(ArtifactError):  # noqa: N818  # it is one among others, not their kind
    """The prompt leaves too little of the context."""

    def __init__(self, num_tokens: int, context_tokens: int) -> None:
        super().__init__(
            f"the prompt has {num_tokens:,} tokens, too many for a context of {context_tokens:,}",
            "shorten it, or give more {context_tokens} if the model holds more",
        )
        self.num_tokens, self.context_tokens = num_tokens, context_tokens


NOT_READ = Answer("", 0, 0.0, stopped=False, too_long=True)
"""Of many prompts that are asked, one that is too long has this answer, and the rest goes on."""


class ChatModel:
    """A GGUF model in memory; use it as a context manager.

    Text never holds half a character: llama.cpp keeps bytes back until a character is whole, and a
    character cut off by the length limit is dropped.

    llama.cpp's server is asked from within the process. It listens all the same: on a socket in a
    folder nobody else may enter, which is gone as soon as the model is loaded, or where it is told.
    """

    def __init__(
        self,
        gguf: Path,
        *,
        context_tokens: int = 2048,
        num_threads: int | None = None,
        num_parallel: int = 1,
        chat_template: str | None = None,
        socket: Path | None = None,
    ) -> None:
        """Load the model.

        Args:
            gguf: The file.
            context_tokens: Room for prompt and answer together, of each conversation; no more than
                the model was made for.
            num_threads: Of the CPU; None for as many as cores are free.
            num_parallel: Conversations answered at the same time by `answer_many`.
            chat_template: In Jinja; None for the file's own.
            socket: Where a front asks it too, in a folder of `private_folder`.

        Raises:
            ArtifactError: The file is missing or is no model llama.cpp can load.
        """
        self.gguf = gguf
        self.context_tokens = context_in_force(gguf, context_tokens)
        self.num_parallel = num_parallel
        self._lock, self._threads = threading.Lock(), list[threading.Thread]()
        self._stopping = threading.Event()
        try:
            with private_folder() as folder:
                params = parameters(
                    gguf,
                    socket or folder / _SOCKET,
                    context_tokens=self.context_tokens,
                    num_parallel=num_parallel,
                    num_threads=num_threads,
                    chat_template=chat_template,
                )
                if num_parallel == 1 or socket:
                    params.n_batch = _BATCH_TOKENS
                self.num_threads: int = params.cpuparams.n_threads
                self._server = started(params)
        except RuntimeError as error:
            if chat_template is not None:
                found = f"{gguf}: llama.cpp cannot load this model with the template given"
                raise ArtifactError(found, "mend the template") from error
            raise loading_failed(str(gguf), params) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()
        for thread in self._threads:
            thread.join()
        # The wrapper stops its threads and frees the model when it is deleted.
        self._server = None

    def stop(self) -> None:
        """End what is being written; nothing is written any more."""
        self._stopping.set()

    def stream(
        self, messages: Messages, sampling: Sampling | None = None, *, least_room: int = 1
    ) -> Pieces:
        """Answer a conversation, piece by piece; closing the iterator stops the model.

        Args:
            messages: Turns with `role` and `content`; the chat template writes them.
            sampling: How tokens are chosen.
            least_room: Tokens that the prompt must leave for the answer.

        Raises:
            PromptTooLong: It does not leave them; nothing was read yet.
            ArtifactError: llama.cpp refuses.
            DataError: A message holds half a surrogate pair.
        """
        request = {"messages": [dict(one) for one in messages]}
        return self._stream(
            self._server.handle_chat_completions, request, sampling or Sampling(), least_room
        )

    def stream_on(self, prompt: str, sampling: Sampling | None = None) -> Pieces:
        """Continue a text without a chat template, piece by piece; see `stream`."""
        request = {"prompt": prompt}
        return self._stream(self._server.handle_completions, request, sampling or Sampling(), 1)

    def answer(self, messages: Messages, sampling: Sampling | None = None) -> Answer:
        """Answer a conversation as a whole, without reusing what was read before; see `stream`."""
        request = {"messages": [dict(one) for one in messages], "cache_prompt": False}
        pieces = self._stream(
            self._server.handle_chat_completions, request, sampling or Sampling(), 1
        )
        while True:
            try:
                next(pieces)
            except StopIteration as end:
                return cast(Answer, end.value)

    def answer_if_short(self, messages: Messages, sampling: Sampling) -> Answer:
        """As `answer`, with `NOT_READ` for a prompt that does not fit into the context."""
        try:
            return self.answer(messages, sampling)
        except PromptTooLong:
            return NOT_READ

    def answer_many(
        self, conversations: Sequence[Messages], *, max_tokens: int = 512
    ) -> list[Answer]:
        """Answer many conversations greedily, `num_parallel` at a time, in the order given.

        One that does not fit into the context has the answer `NOT_READ`.
        """
        sampling = Sampling(max_tokens=max_tokens)
        with self.asking() as pool:
            asked = [pool.submit(self.answer_if_short, one, sampling) for one in conversations]
            return [one.result() for one in asked]

    @contextmanager
    def asking(self) -> Iterator[ThreadPoolExecutor]:
        """Give `num_parallel` threads that ask; who leaves them early waits for no answer.

        After Ctrl-C too, at any moment: what is being written is cut, what waits is not begun.
        """
        pool = ThreadPoolExecutor(self.num_parallel)
        try:
            yield pool
        except BaseException:
            self._stopping.set()
            pool.shutdown(cancel_futures=True)
            self._stopping.clear()
            raise
        pool.shutdown()

    def complete(
        self,
        prompt: str,
        *,
        max_tokens: int,
        ignore_end: bool = False,
        repeat_penalty: float = Sampling.repeat_penalty,
    ) -> Answer:
        """Continue a text greedily, without a chat template.

        Args:
            prompt: The text so far.
            max_tokens: The text is cut off there.
            ignore_end: Go on past the end token, to time a fixed number of tokens.
            repeat_penalty: Divides the likelihood of recent tokens; 1 for none.
        """
        sampling = Sampling(max_tokens=max_tokens, repeat_penalty=repeat_penalty)
        request = {**_request(sampling), "prompt": prompt, "ignore_eos": ignore_end}
        reply = _checked(self._server.handle_completions(request))
        return _answer(reply, reply["choices"][0]["text"])

    def next_token(self, request: Mapping[str, Any]) -> Mapping[str, Any] | None:
        """What llama.cpp tells of the one token that it writes after a prompt.

        None where that is the beginning of a character, of which it tells nothing.

        Args:
            request: With `prompt`, which may be ids, and `n_probs`; see its server's completions.

        Raises:
            PromptTooLong: The prompt does not fit into the context.
            ArtifactError: llama.cpp refuses.
        """
        asked = {"max_tokens": 1, "temperature": 0, "cache_prompt": True, **request}
        reply = _checked(self._server.handle_completions(asked))
        told = reply["choices"][0].get("logprobs")
        return cast(Mapping[str, Any], told["content"][0]) if told else None

    def write_on(self, ids: Sequence[int], *, max_tokens: int, stop: Sequence[str]) -> str:
        """Continue a prompt given as ids, greedily and without a penalty, up to a stop text."""
        sampling = Sampling(max_tokens=max_tokens, repeat_penalty=1.0)
        request = {**_request(sampling), "prompt": list(ids), "stop": list(stop)}
        reply = _checked(self._server.handle_completions(request))
        return str(reply["choices"][0]["text"]).rstrip("\ufffd")

    def _stream(
        self,
        handle: Callable[[Any, Callable[[Any], bool]], object],
        request: Mapping[str, Any],
        sampling: Sampling,
        least_room: int,
    ) -> Pieces:
        asked = {
            **_request(sampling),
            "cache_prompt": True,
            **request,
            "stream": True,
            "return_progress": True,
            "stream_options": {"include_usage": True},
        }
        said: list[str] = []
        last: Mapping[str, Any] = {}
        stopped = False
        for event in self._events(lambda take: handle(asked, take)):
            last = _checked(event)
            self._check_room(event, least_room)
            for choice in event["choices"]:
                stopped = stopped or choice["finish_reason"] == "stop"
                if piece := _piece(choice):
                    said.append(piece)
                    yield piece
        used, timings = last.get("usage", {}), last.get("timings", {})
        num_tokens = int(used.get("completion_tokens", 0))
        seconds = float(timings.get("predicted_ms", 0)) / 1000
        return Answer("".join(said), num_tokens, seconds, stopped)

    def _events(self, ask: Callable[[Callable[[Any], bool]], object]) -> Iterator[Any]:
        """What llama.cpp tells while it works in a thread; closing the iterator stops it."""
        events: queue.Queue[Any] = queue.Queue()
        stopping = threading.Event()

        def take(event: Any) -> bool:  # noqa: ANN401  # a JSON object
            events.put(event)
            return stopping.is_set() or self._stopping.is_set()

        def work() -> None:
            try:
                ask(take)
            except (RuntimeError, ValueError, TypeError) as error:  # what the wrapper raises
                events.put(error)
            finally:
                events.put(None)

        thread = threading.Thread(target=work, daemon=True)
        with self._lock:
            self._threads = [*(one for one in self._threads if one.is_alive()), thread]
            thread.start()
        try:
            while (event := events.get()) is not None:
                if isinstance(event, Exception):
                    raise _refused(event) from event
                yield event
        finally:
            stopping.set()
            # In the middle of a batch it cannot stop; the next question waits for it.
            thread.join(_SECONDS_TO_STOP)

    def _check_room(self, event: Mapping[str, Any], least_room: int) -> None:
        progress = event.get("prompt_progress")
        if progress and progress["total"] + least_room > self.context_tokens:
            raise PromptTooLong(progress["total"], self.context_tokens)


def _request(sampling: Sampling) -> dict[str, Any]:
    # A prompt read in two parts rounds differently, which can tip a close decision: only a chat,
    # which grows turn by turn, reuses what was read before.
    return {**sampling.request(), "cache_prompt": False}


def _checked(reply: Any) -> dict[str, Any]:  # noqa: ANN401  # a JSON object
    if isinstance(reply, dict) and "choices" in reply:
        return reply
    fault = reply.get("error", reply) if isinstance(reply, dict) else reply
    if isinstance(fault, dict) and "n_prompt_tokens" in fault:
        raise PromptTooLong(int(fault["n_prompt_tokens"]), int(fault["n_ctx"]))
    message = fault.get("message", fault) if isinstance(fault, dict) else fault
    raise ArtifactError(f"llama.cpp refused the request: {message}")


def _refused(error: Exception) -> ArtifactError | DataError:
    if "surrogate" in str(error):
        return DataError("the text holds half a surrogate pair, which is no character")
    return ArtifactError(f"llama.cpp refused the request: {error}")


def _piece(choice: Mapping[str, Any]) -> str:
    text = choice["delta"].get("content") if "delta" in choice else choice.get("text")
    return str(text).replace("\ufffd", "") if text else ""


def _answer(reply: Mapping[str, Any], text: str) -> Answer:
    return Answer(
        text=text.rstrip("\ufffd"),
        num_tokens=int(reply["usage"]["completion_tokens"]),
        seconds=float(reply["timings"]["predicted_ms"]) / 1000,
        stopped=reply["choices"][0]["finish_reason"] == "stop",
    )
