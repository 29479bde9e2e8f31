"""Calls of an endpoint that are kept in a file: what was answered once is not asked again."""

import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import CancelledError, Future
from contextlib import contextmanager, suppress
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

from hanpaca.data.generating.card import without_secrets
from hanpaca.data.generating.talks import SCHEMA, TalkCall, TalkReply, whole_characters
from hanpaca.data.jsonl import appended_rows
from hanpaca.files import digest_of
from hanpaca.inference.budget import Budget, Tokens
from hanpaca.inference.endpoint import CHAT, TEXT, Completion, Endpoint, NotOffered, Unanswered

_Made = TypeVar("_Made")
_FORM = {
    "type": "json_schema",
    "json_schema": {"name": "instruction", "strict": True, "schema": SCHEMA},
}


class CallFile:
    """What several threads write of their calls, a line of JSON an event, until they are stopped.

    Threads that are stopped raise `CancelledError`.
    """

    def __init__(self, endpoint: Endpoint, file: Path) -> None:
        """Begin nothing yet.

        Args:
            endpoint: Whose connections end with it.
            file: To append to; may be missing.
        """
        self.file, self._endpoint = file, endpoint
        self._lock, self._stopped = threading.Lock(), threading.Event()

    def write(self, row: Mapping[str, Any]) -> None:
        """Append a line."""
        line = json.dumps(row, ensure_ascii=False) + "\n"
        with self._lock:
            self.go_on()
            with self.file.open("a", encoding="utf-8") as stream:
                stream.write(line)

    def go_on(self) -> None:
        """Raise where nothing more is to be begun."""
        if self._stopped.is_set():
            raise CancelledError

    def sleep(self, seconds: float) -> None:
        """Wait between two tries."""
        if self._stopped.wait(seconds):
            raise CancelledError

    def stop(self) -> None:
        """Begin nothing more, write nothing more, and end the connections."""
        with self._lock:
            self._stopped.set()
        self._endpoint.close()


class KeptCalls:
    """An endpoint, and a file with a line before each attempt and one after it.

    Where a process dies, the attempts without an end may have been worked on, and count as spent.
    """

    def __init__(self, endpoint: Endpoint, budget: Budget, file: Path, *, schema: bool) -> None:
        """Read the file, where there is one, and go on with it.

        Args:
            endpoint: Asked for what is not there.
            budget: Is told what was spent before.
            file: One line of JSON an event.
            schema: Have the reply held to a form; turned off where the endpoint refuses.
        """
        self.endpoint, self.budget, self.schema = endpoint, budget, schema
        self._file, self._lock = CallFile(endpoint, file), threading.Lock()
        self._replies: dict[str, TalkReply] = {}
        spent, num_calls = self._read()
        budget.count(spent, num_calls)

    def ask(self, question: TalkCall, seed: int) -> tuple[str, TalkReply]:
        """The hash of a call and its reply, kept or new; for several threads.

        Raises:
            BudgetSpent: The call could cost too much.
            ArtifactError: The endpoint refuses, or replies what is no completion.
            ResourceError: It cannot be reached, or is still busy after the last try.
        """
        endpoint = self.endpoint
        body = question.body(
            model=endpoint.model,
            temperature=endpoint.temperature,
            seed=seed,
            max_tokens=endpoint.max_tokens,
        )
        route = CHAT if question.messages else TEXT
        asked = digest_of([without_secrets(endpoint.url), route, body])
        with self._lock:
            kept = self._replies.get(asked)
        if kept is not None:
            return asked, kept
        most = (question.most_input_tokens, int(body["max_tokens"]))
        if self.schema and question.asked_for == "instruction":
            try:
                return asked, self._called(asked, {**body, "response_format": _FORM}, route, most)
            except NotOffered:
                found = self._called(asked, body, route, most)
                self.schema = False
                return asked, found
        return asked, self._called(asked, body, route, most)

    def stop(self) -> None:
        """Begin nothing more, write nothing more, and end the connections."""
        self._file.stop()

    def _called(self, asked: str, body: dict[str, Any], route: str, most: Tokens) -> TalkReply:
        def paying() -> Any:  # noqa: ANN401  # a context manager; see `Paying`
            return self._attempt(asked, most)

        self.endpoint.complete(body, route=route, paying=paying, sleep=self._file.sleep)
        with self._lock:
            return self._replies[asked]

    @contextmanager
    def _attempt(self, asked: str, most: Tokens) -> Iterator[Callable[[Completion], None]]:
        with self.budget.attempt(most) as settle:
            self._file.write({"asked": asked, "most": most})
            begun = time.monotonic()

            def settled(found: Completion) -> None:
                reply = TalkReply(whole_characters(found.text), found.ended)
                seconds = round(time.monotonic() - begun, 3)
                told = {"tokens": settle(found), "seconds": seconds}
                self._file.write(
                    {"asked": asked, **told, "ended": reply.ended, "reply": reply.text}
                )
                with self._lock:
                    self._replies[asked] = reply

            try:
                yield settled
            except (Unanswered, NotOffered) as error:
                if isinstance(error, NotOffered) or error.refused:
                    self._file.write({"asked": asked, "refused": True})
                raise

    def _read(self) -> tuple[Tokens, int]:
        """Take the replies of before; what was spent, and how many attempts were made."""
        open_calls: dict[str, list[Tokens]] = {}
        taken: list[Tokens] = []
        num_calls = 0
        for row in appended_rows(self._file.file):
            asked = row["asked"]
            if "most" in row:
                open_calls.setdefault(asked, []).append((row["most"][0], row["most"][1]))
                num_calls += 1
                continue
            open_calls[asked].pop()
            if "reply" in row:
                taken.append((row["tokens"][0], row["tokens"][1]))
                self._replies[asked] = TalkReply(row["reply"], row["ended"])
        taken += [one for left in open_calls.values() for one in left]
        return (sum(one[0] for one in taken), sum(one[1] for one in taken)), num_calls


class Workers:
    """Threads that do one thing after the other; they hold up no program that ends."""

    def __init__(self, number: int) -> None:
        self._jobs: SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None] = SimpleQueue()
        self._number = number
        for _ in range(number):
            threading.Thread(target=self._work, daemon=True).start()

    def submit(self, job: Callable[[], _Made]) -> "Future[_Made]":
        """Have something done, when its turn comes."""
        future: Future[_Made] = Future()
        self._jobs.put((future, job))
        return future

    def stop(self) -> None:
        """Begin nothing that is waiting, and end each thread after what it does."""
        with suppress(Empty):
            while True:
                self._jobs.get_nowait()
        for _ in range(self._number):
            self._jobs.put(None)

    def _work(self) -> None:
        while (taken := self._jobs.get()) is not None:
            future, job = taken
            try:
                future.set_result(job())
            except BaseException as error:  # noqa: BLE001  # raised where the result is wanted
                future.set_exception(error)
