"""Any endpoint that speaks OpenAI's completions, asked for whole replies."""

import json
import os
import random
import re
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from hanpaca.errors import ArtifactError, RecipeError, ResourceError

CHAT, TEXT = "/chat/completions", "/completions"
"""Routes below the version."""
_AGAIN = frozenset({408, 409, 429, 500, 502, 503, 504})
"""Statuses after which the same request may be answered."""
_TOO_LARGE = frozenset({400, 413, 422})
_TOO_LONG = re.compile(r"context.?(length|size|window)|too long|model.?len", re.IGNORECASE)
"""How OpenAI, llama.cpp, vLLM and others say that a prompt does not fit."""
_SECONDS = re.compile(r"\d+(\.\d*)?", re.ASCII)
_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 30.0
_ABSENT_TRIES = 4
"""Where nobody listens: an address that is wrong stays so."""
_JITTER = 0.25
"""Share of a pause that is added by chance, so that clients sent away together come back apart."""
_MOST_TOLD = 200
_OPENING = threading.Lock()
_CLIENT = "_opened"


@dataclass(frozen=True)
class Completion:
    """What came back."""

    text: str
    ended: str
    """`stop` where the model ended it, `length` where the limit of tokens did."""
    num_tokens: tuple[int, int] | None = None
    """Of the prompt and of the answer, as the server counts them; None where it does not say."""


Paying = Callable[[], AbstractContextManager[Callable[[Completion], object]]]
"""Entered for each attempt and handed what it brings; `Unanswered` passes through it."""


class Unanswered(Exception):  # noqa: N818  # how an attempt ended; none leaves this package
    """An attempt without an answer, after which another one may have one."""

    def __init__(
        self, told: str, *, pause: float | None = None, refused: bool = False, absent: bool = False
    ) -> None:
        super().__init__(told)
        self.pause = pause
        """Seconds that the server asks for."""
        self.refused = refused
        """Nothing was done: the server said so, or is not there; else that is not known."""
        self.absent = absent
        """Nobody listens."""


class NotOffered(ArtifactError):  # noqa: N818  # one among others
    """The endpoint refuses a request for what stands in it."""


class QuestionTooLong(NotOffered):
    """The server has no room for what it was asked; it may answer the next."""


@dataclass(frozen=True)
class Endpoint:
    """Where a model is asked, and how."""

    url: str
    """Up to the version, such as `http://127.0.0.1:8080/v1`."""
    model: str
    key_from: str | None = None
    """Environment variable that holds the key; the key itself is written nowhere."""
    temperature: float = 0.0
    seed: int = 0
    max_tokens: int = 512
    timeout_seconds: float = 120.0
    num_tries: int = 5

    def __post_init__(self) -> None:
        if not self.url.startswith(("http://", "https://")):
            raise RecipeError(
                f"{self.url!r} is no address of a server", "give {url} with http(s)://"
            )

    def request(self, messages: Sequence[Mapping[str, str]]) -> dict[str, Any]:
        """What is asked, JSON-safe and without the key: it decides the reply."""
        return {
            "model": self.model,
            "messages": [dict(one) for one in messages],
            "temperature": self.temperature,
            "seed": self.seed,
            "max_tokens": self.max_tokens,
        }

    def headers(self) -> dict[str, str]:
        """With the key, where one is named.

        Raises:
            RecipeError: The variable is not set.
        """
        return {"authorization": f"Bearer {key}"} if (key := self._key()) else {}

    def reply(self, messages: Sequence[Mapping[str, str]]) -> str:
        """The reply to a conversation; see `complete`."""
        return self.complete(self.request(messages)).text

    def complete(
        self,
        body: Mapping[str, Any],
        *,
        route: str = CHAT,
        paying: Paying = lambda: nullcontext(lambda _: None),
        sleep: Callable[[float], object] = time.sleep,
    ) -> Completion:
        """Ask, and again after a pause where the server is busy or fails for a moment.

        Args:
            body: Such as `request` gives.
            route: `CHAT` or `TEXT`.
            paying: Entered for each attempt.
            sleep: Called with the seconds of each pause.

        Raises:
            RecipeError: The key is missing, or the address is none.
            ResourceError: The server is not there, is still busy after the last try, or httpx2 is
                not installed.
            QuestionTooLong: It says that its context is too small for the question.
            NotOffered: It refuses the request.
            ArtifactError: It replies what is no completion.
        """
        headers, pause, absent = self.headers(), _FIRST_PAUSE, 0
        for left in range(self.num_tries - 1, -1, -1):
            try:
                with paying() as settle:
                    found = self._attempt(body, route, headers)
                    settle(found)
            except Unanswered as error:
                absent += error.absent
                if not left or absent == _ABSENT_TRIES:
                    raise ResourceError(str(error)) from error
                wanted = pause if error.pause is None else error.pause
                sleep(min(wanted, _LONGEST_PAUSE) * (1 + random.uniform(0, _JITTER)))
                pause *= 2
            else:
                return found
        raise ResourceError(f"{self.url}: no reply")

    def close(self) -> None:
        """End the connections; what is open then comes to nothing."""
        with _OPENING:
            client = self.__dict__.pop(_CLIENT, None)
        if client:
            client.close()

    def _attempt(
        self, body: Mapping[str, Any], route: str, headers: Mapping[str, str]
    ) -> Completion:
        try:
            found = self._client.post(self.url.rstrip("/") + route, json=body, headers=headers)
        except _httpx2().InvalidURL as error:
            raise RecipeError(
                f"{self.url!r} is no address of a server: {error}", "give another {url}"
            ) from error
        except self._failures as error:
            absent = isinstance(error, _httpx2().ConnectError | _httpx2().ConnectTimeout)
            told = f"{self.url}: {type(error).__name__}: no reply"
            raise Unanswered(told, refused=absent, absent=absent) from error
        if found.status_code == 200:
            return _completion(found.content, self.url)
        told = f"{self.url}: status {found.status_code}: {self._without_key(found.text)}"
        if found.status_code in _TOO_LARGE and _TOO_LONG.search(found.text):
            raise QuestionTooLong(told)
        if found.status_code not in _AGAIN:
            raise NotOffered(told)
        raise Unanswered(told, pause=_wanted(found.headers.get("retry-after")), refused=True)

    def _key(self) -> str | None:
        if self.key_from is None:
            return None
        key = os.environ.get(self.key_from)
        if not key or not (key.isascii() and key.isprintable()):
            raise RecipeError(f"the environment has no key in {self.key_from!r}", "see {key_from}")
        return key

    def _without_key(self, text: str) -> str:
        """The beginning of what a server said, which may repeat the key that it was given."""
        key = self._key()
        return (text.replace(key, "…") if key else text)[:_MOST_TOLD]

    @property
    def _client(self) -> Any:  # noqa: ANN401  # of a package that may be missing
        """One for all threads that ask."""
        with _OPENING:
            if _CLIENT not in self.__dict__:
                self.__dict__[_CLIENT] = _httpx2().Client(timeout=self.timeout_seconds)
            return self.__dict__[_CLIENT]

    @cached_property
    def _failures(self) -> type[Exception]:
        failure: type[Exception] = _httpx2().HTTPError
        return failure


def _httpx2() -> Any:  # noqa: ANN401
    try:
        import httpx2
    except ModuleNotFoundError as error:
        needed = "asking an endpoint needs the package httpx2; pip install httpx2"
        raise ResourceError(needed) from error
    return httpx2


def _wanted(header: str | None) -> float | None:
    """Seconds a busy server asks for; a date is none."""
    return float(header) if header and _SECONDS.fullmatch(header) else None


def _completion(data: bytes, url: str) -> Completion:
    try:
        tree = json.loads(data)
    except (ValueError, RecursionError) as error:
        if data.lstrip().startswith(b"{"):  # it broke off
            raise Unanswered(f"{url}: the reply is damaged JSON") from error
        raise ArtifactError(f"{url}: the reply is no chat completion") from error
    try:
        choice = tree["choices"][0]
        text = choice["message"]["content"] if "message" in choice else choice["text"]
        ended = choice.get("finish_reason")
        usage = tree.get("usage")
    except (KeyError, IndexError, TypeError, AttributeError) as error:
        raise ArtifactError(f"{url}: the reply is no chat completion") from error
    if not isinstance(text, str | None):
        raise ArtifactError(f"{url}: the reply is no text but a {type(text).__name__}")
    return Completion(_writable(text or ""), str(ended or "stop"), _counted(usage))


def _writable(text: str) -> str:
    """With � for half a character that an answer was cut off in: UTF-8 has no place for it."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _counted(usage: object) -> tuple[int, int] | None:
    """Tokens of prompt and answer, where they are numbers that can be."""
    if not isinstance(usage, dict):
        return None
    found = [usage.get(name) for name in ("prompt_tokens", "completion_tokens")]
    if all(isinstance(one, int) and not isinstance(one, bool) and one >= 0 for one in found):
        return found[0], found[1]  # type: ignore[return-value]
    return None
