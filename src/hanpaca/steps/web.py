"""One question to one model or to two: what a page talks with. It knows no page."""

import json
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from types import TracebackType
from typing import Any, Self

from hanpaca.errors import HanpacaError, RecipeError
from hanpaca.files import parse_json, read_text
from hanpaca.inference.engine import ChatModel, Messages, Pieces
from hanpaca.inference.grounding import Answering
from hanpaca.inference.sampling import Sampling
from hanpaca.inference.server import Engine, Serving
from hanpaca.inference.session import Asked, Message, Session
from hanpaca.inference.start import private_folder
from hanpaca.progress import Tell, silent
from hanpaca.steps.ask import Documents
from hanpaca.steps.chat import Loading, asked, described, loaded, read_template
from hanpaca.steps.offers import Offer, offers

__all__ = ["Documents", "Half", "Loading", "Models", "Offer", "Sampling", "Talk", "offers"]

_MOST_LOADED = 3
"""The two that programs may ask as well, and another that was picked."""
_NUM_PARALLEL = 2
"""An answer for the page and one for a program."""
_SAVED_AS = ("messages", "beside")
"""Keys of a saved conversation, for the first model and the second."""
_MAX_BYTES = 16 << 20
"""Of a saved conversation."""
_SECONDS = 0.2
"""That one waits for one's turn without a sign of life."""


class Models:
    """Models by name, at most three in memory, one at work; use it as a context manager."""

    def __init__(
        self,
        offered: Sequence[Offer],
        *,
        loading: Loading | None = None,
        documents: Documents | None = None,
        tell: Tell = silent,
    ) -> None:
        """Load nothing yet.

        Args:
            offered: What can be picked; at least one.
            loading: How each is loaded.
            documents: That questions are answered from; None to answer them as they are.
            tell: Told what is made on the way.
        """
        self.documents = documents
        self._offered = {one.name: one for one in offered}
        self._loading = loading or Loading()
        self._tell = tell
        self._loaded: dict[str, ChatModel] = {}
        self._kept: dict[str, Engine] = {}
        self._turn = Lock()
        self._open = ExitStack()

    def __enter__(self) -> Self:
        self._folder = self._open.enter_context(private_folder())
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with self._open as stack:
            for one in self._loaded.values():
                stack.push(one)
            self._loaded.clear()

    def stop(self) -> None:
        """End what is being written: no model is asked any more."""
        for one in list(self._loaded.values()):
            one.stop()

    @property
    def names(self) -> list[str]:
        """Of all that can be picked."""
        return list(self._offered)

    @property
    def context_tokens(self) -> int:
        """Room for prompt and answer together, of each."""
        return self._loading.context_tokens

    @property
    def engines(self) -> dict[str, Engine]:
        """Those that stay in memory, by name; see `keep`."""
        return dict(self._kept)

    def is_free(self, seconds: float) -> bool:
        """Wait so long for a moment in which no model is at work; whether there was one."""
        if free := self._turn.acquire(timeout=seconds):
            self._turn.release()
        return free

    @contextmanager
    def at_work(self, name: str) -> Iterator[Asked]:
        """A model for oneself, loaded where it is not yet; whoever comes second waits.

        Two at once would hold each other up on one machine's cores, and show wrong rates.

        Raises:
            ArtifactError: It cannot be loaded.
            RecipeError: There is no such name.
        """
        with self._turn:
            yield asked(self._load(name), raw=self._loading.raw)

    def keep(self, name: str) -> str:
        """Load a model for good, so that programs can ask it too through its engine.

        Returns:
            The file and what it has of the machine.

        Raises:
            ArtifactError: See above.
        """
        with self._turn:
            if alone := self._loaded.pop(name, None):
                alone.__exit__(None, None, None)
            socket = self._folder / f"{len(self._kept)}.sock"
            model = self._load(name, _NUM_PARALLEL, socket)
            serving = Serving(
                context_tokens=model.context_tokens,
                num_parallel=_NUM_PARALLEL,
                num_threads=model.num_threads,
                chat_template=read_template(self._loading.template),
            )
            self._kept[name] = Engine(model.gguf, socket, serving, model.num_threads)
            return described(model)

    def _load(self, name: str, num_parallel: int = 1, socket: Path | None = None) -> ChatModel:
        if name not in self._offered:
            raise RecipeError(f"{name!r} is not among the models of this page")
        if name not in self._loaded:
            self._make_room()
            one = self._offered[name]
            self._loaded[name] = loaded(
                one.model,
                one.adapters,
                self._loading,
                tell=self._tell,
                num_parallel=num_parallel,
                socket=socket,
            )
        self._loaded[name] = self._loaded.pop(name)  # the latest is last
        return self._loaded[name]

    def _make_room(self) -> None:
        others = [one for one in self._loaded if one not in self._kept]  # longest ago is first
        while others and len(self._loaded) >= _MOST_LOADED:
            self._loaded.pop(others.pop(0)).__exit__(None, None, None)


@dataclass
class Half:
    """What one of the models was asked and said."""

    name: str
    session: Session
    text: str = ""
    """Of the answer that is being written."""
    fault: HanpacaError | None = None
    """Why the last question came to nothing."""
    notes: list[str] = field(default_factory=list)
    """What is to be said about the last answer."""
    waited: float = 0.0
    """Seconds until the first character."""
    seconds: float = 0.0
    """Of writing the last answer, after its first character."""
    num_written: int = 0
    """Characters of the last answer."""
    sources: Sequence[Mapping[str, Any]] = ()
    """Passages that the last answer was made from, as `Grounding` has them."""

    @property
    def rate(self) -> float | None:
        """Characters a second, where enough were written to tell."""
        return self.num_written / self.seconds if self.seconds > 0 else None

    @property
    def shown(self) -> list[Message]:
        """All turns, the one being answered too."""
        asked = self.session.unanswered  # another thread may answer it meanwhile
        if asked is None:
            return [dict(one) for one in self.session.messages]
        question = {"role": "user", "content": asked}
        answer = {"role": "assistant", "content": self.text}
        return [*(dict(one) for one in self.session.messages), question, answer]

    def begin(self, question: str | None) -> None:
        """Forget the last answer, and show a question as asked before its turn has come."""
        self.text, self.fault, self.waited, self.seconds, self.num_written = "", None, 0, 0, 0
        self.notes.clear()
        self.sources = ()
        self.session.unanswered = question

    def answer(self, models: Models, ask: Callable[[Session], Iterator[str]]) -> Iterator[None]:
        """Let the model write; what comes of it stands in the fields.

        Closing the iterator stops the model, and one that waits for its turn loses it. A question
        that is refused leaves its fault.
        """
        while not models.is_free(_SECONDS):
            yield
        try:
            with models.at_work(self.name) as self.session.ask_model:
                if models.documents:
                    self.session.ask_model = Answering(
                        self.session.ask_model,
                        models.documents.grounding,
                        self.session.least_room,
                        self._found,
                    )
                yield from self._write(ask(self.session))
        except HanpacaError as error:
            self.fault = error

    def _found(self, sources: Sequence[Mapping[str, Any]]) -> None:
        self.sources = sources

    def _write(self, pieces: Iterator[str]) -> Iterator[None]:
        began = time.monotonic()
        first = None
        for piece in pieces:
            now = time.monotonic()
            if first is None:
                first, self.waited = now, now - began
            self.text += piece
            self.num_written, self.seconds = len(self.text), now - first
            yield
        if self.session.answer and self.session.answer.seconds:
            self.seconds = self.session.answer.seconds


class Talk:
    """One person's conversation; nothing of it is shared but the models."""

    def __init__(self, models: Models, names: Sequence[str]) -> None:
        """Begin with the models of these names: one, or two to compare."""
        self._models = models
        self._busy = Lock()
        self.halves = [_new_half(one, models.context_tokens) for one in names]

    def pick(self, names: Sequence[str]) -> None:
        """Go on with these models; one that joins goes on from the first one's conversation."""
        with self._busy:
            del self.halves[len(names) :]
            for half, name in zip(self.halves, names, strict=False):
                if half.name != name:
                    half.name, half.session.num_left_out = name, 0
            for name in names[len(self.halves) :]:
                half = _new_half(name, self._models.context_tokens)
                half.session.messages = [dict(one) for one in self.halves[0].session.messages]
                self.halves.append(half)

    @contextmanager
    def at_rest(self) -> Iterator[None]:
        """Wait until nothing is being written, and let nothing begin."""
        with self._busy:
            yield

    def set(self, sampling: Sampling, system: str | None) -> None:
        """How the next answers are written."""
        for half in self.halves:
            half.session.sampling, half.session.system = sampling, system or None

    def ask(self, question: str) -> Generator[Half, None, None]:
        """Ask on: one model after the other; gives who wrote on. Closing the iterator stops."""
        with self._busy:
            yield from self._ask(question, Session.ask)

    def retry(self) -> Generator[Half, None, None]:
        """Ask the last question again, with another seed.

        Raises:
            RecipeError: Nothing was asked yet.
        """
        with self._busy:
            question = self._take_back(1)
            if question is None:
                raise RecipeError("there is no question to ask again")
            yield from self._ask(question, lambda session, _: session.retry())

    def edit(self, num_back: int, question: str) -> Generator[Half, None, None]:
        """Ask another question in place of the one so many turns back (1 for the last)."""
        with self._busy:
            self._take_back(num_back)
            yield from self._ask(question, Session.ask)

    def undo(self) -> str | None:
        """Take back the last question and its answers; gives the question."""
        with self._busy:
            return self._take_back(1)

    def clear(self) -> None:
        """Begin anew."""
        with self._busy:
            for half in self.halves:
                half.session.clear()
                half.begin(None)

    def saved(self) -> str:
        """The conversation as JSON.

        The first model's is in `messages`, as `chat` saves it and `sft` reads it; the second's, if
        there is one, in `beside`.
        """
        tree = {
            key: half.session.whole() for key, half in zip(_SAVED_AS, self.halves, strict=False)
        }
        return json.dumps(tree, ensure_ascii=False, indent=2) + "\n"

    def load(self, path: Path) -> str | None:
        """Go on with a saved conversation; gives its system prompt.

        Raises:
            ArtifactError: The file holds none; the present conversation stays.
        """
        tree = parse_json(read_text(path, max_bytes=_MAX_BYTES), path.name)
        with self._busy:
            parts = [{"messages": tree.get(key, tree.get("messages"))} for key in _SAVED_AS]
            for part in parts:
                Session(_not_loaded, self._models.context_tokens).go_on_with(part, path.name)
            for half, part in zip(self.halves, parts, strict=False):
                half.session.go_on_with(part, path.name)
                half.begin(None)
            return self.halves[0].session.system

    def _ask(self, question: str, ask: Callable[[Session, str], Iterator[str]]) -> Iterator[Half]:
        for half in self.halves:
            half.begin(question)
        for half in self.halves:
            yield half
            for _ in half.answer(self._models, lambda session: ask(session, question)):
                yield half
            yield half

    def _take_back(self, num_turns: int) -> str | None:
        """From each half; gives the earliest question taken back."""
        question = None
        for half in self.halves:
            taken = [half.session.undo() for _ in range(num_turns)]
            half.begin(None)
            question = question or taken[-1]
        return question


def _new_half(name: str, context_tokens: int) -> Half:
    notes: list[str] = []
    session = Session(
        _not_loaded, context_tokens, tell=lambda progress: notes.append(progress.note)
    )
    return Half(name, session, notes=notes)


def _not_loaded(messages: Messages, sampling: Sampling, least_room: int) -> Pieces:
    """What a session asks until its model's turn comes."""
    raise RecipeError("no model is loaded")
