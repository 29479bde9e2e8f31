"""Talk with a model, whatever form it is in."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from hanpaca.checkpoints.gguf import read_header
from hanpaca.data.named_templates import NAMED
from hanpaca.errors import RecipeError
from hanpaca.files import read_text
from hanpaca.inference.engine import Answer, ChatModel, Messages, Pieces
from hanpaca.inference.sampling import Sampling
from hanpaca.inference.session import Asked, Message, Session
from hanpaca.progress import Progress, Tell, silent
from hanpaca.steps.model_file import model_file
from hanpaca.threads import num_cores

__all__ = ["Answer", "Chat", "Loading", "Sampling"]

TEMPLATE_KEY = "tokenizer.chat_template"
"""Of a GGUF file's header."""
_LEAST_CONTEXT = 64
_MOST_CONTEXT = 1 << 24
"""Of tokens; no model comes near, and llama.cpp counts in 32 bits."""
_MOST_THREADS = 512
"""GGML's own bound; with more it crashes."""


@dataclass(frozen=True)
class Loading:
    """How a model is loaded."""

    context_tokens: int = 2048
    """Room for prompt and answer together."""
    threads: int | None = None
    """None for as many as cores are free."""
    template: str | None = None
    """How turns are written: `chatml`, `alpaca` or a file with a Jinja template; None for the
    model's own."""
    raw: bool = False
    """Continue each text alone and without a template, as a model without instructions wants."""
    exact: bool = False
    """Where a GGUF file is made: 16-bit weights, not 8-bit ones."""

    def __post_init__(self) -> None:
        if self.context_tokens < _LEAST_CONTEXT:
            found = f"a context of {self.context_tokens} tokens holds no conversation"
            raise RecipeError(found, f"{{context_tokens}} must be at least {_LEAST_CONTEXT}")
        if self.context_tokens > _MOST_CONTEXT:
            found = f"no model has a context of {self.context_tokens} tokens"
            raise RecipeError(found, f"{{context_tokens}} must be at most {_MOST_CONTEXT}")
        if self.threads is not None and not 1 <= self.threads <= _MOST_THREADS:
            wanted = f"{{threads}} must be at least 1 and at most {_MOST_THREADS}"
            raise RecipeError(f"threads is {self.threads}", wanted)
        if self.raw and self.template:
            raise RecipeError("a text that is continued has no template", "leave out {template}")


class Chat:
    """A model and a conversation with it; use it as a context manager.

    Example:
        >>> with Chat("tests/tiny.gguf") as chat:  # doctest: +SKIP
        ...     print(chat.ask("画蛇添足是什么意思？"))
    """

    def __init__(
        self,
        model: str | Path,
        *,
        adapters: Sequence[str | Path] = (),
        system: str | None = None,
        sampling: Sampling | None = None,
        loading: Loading | None = None,
        tell: Tell = silent,
    ) -> None:
        """Load a model.

        Args:
            model: A GGUF file, a folder of them, a run, or a folder of weights, of which a file is
                made and kept.
            adapters: To fold into it, in order.
            system: The system prompt.
            sampling: How tokens are chosen.
            loading: How the model is loaded.
            tell: Told what is made and which turns are left out.

        Raises:
            ArtifactError: There is no model, or it cannot be loaded.
            RecipeError: A choice is out of its range.
            ResourceError: The cache cannot be written.
        """
        self.loading = loading or Loading()
        self._tell = tell
        self._model = self._load(Path(model), [Path(one) for one in adapters])
        self.session = Session(
            self._ask,
            self.context_tokens,
            system=system,
            sampling=sampling or Sampling(),
            tell=tell,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._model.__exit__(kind, error, trace)

    @property
    def file(self) -> Path:
        """The GGUF file that is loaded."""
        return self._model.gguf

    @property
    def context_tokens(self) -> int:
        """Room for a conversation: what was asked for, or what the model was made for."""
        return self._model.context_tokens

    @property
    def described(self) -> str:
        """The file, and what it has been given of the machine."""
        return described(self._model)

    @property
    def history(self) -> list[Message]:
        """All that was said, without the system prompt."""
        return [dict(one) for one in self.session.messages]

    def ask(self, question: str) -> Answer:
        """Ask on, and wait for the whole answer; see `stream`."""
        return self._whole(self.stream(question))

    def stream(self, question: str) -> Iterator[str]:
        """Ask on, and give the answer piece by piece; closing the iterator stops the model.

        Raises:
            PromptTooLong: The question does not fit into the context even alone.
            ArtifactError: llama.cpp refuses.
            DataError: The question holds half a surrogate pair.
        """
        return self.session.ask(question)

    def retry(self) -> Answer:
        """Ask the last question again, with another seed.

        Raises:
            RecipeError: Nothing was asked yet.
        """
        return self._whole(self.session.retry())

    def undo(self) -> str | None:
        """Take back the last question and its answer; gives the question, None if there is none."""
        return self.session.undo()

    def use(self, model: str | Path, *, adapters: Sequence[str | Path] = ()) -> None:
        """Go on with another model; where it cannot be loaded, with the present one.

        Raises:
            ArtifactError: See above.
        """
        other = self._load(Path(model), [Path(one) for one in adapters])
        self._model.__exit__(None, None, None)
        self._model = other
        self.session.num_left_out = 0

    def _whole(self, pieces: Iterator[str]) -> Answer:
        for _ in pieces:
            pass
        return self.session.answer or Answer("", 0, 0.0, stopped=False)

    def _ask(self, messages: Messages, sampling: Sampling, least_room: int) -> Pieces:
        return asked(self._model, raw=self.loading.raw)(messages, sampling, least_room)

    def _load(self, model: Path, adapters: Sequence[Path]) -> ChatModel:
        return loaded(model, adapters, self.loading, tell=self._tell)


def loaded(
    model: Path,
    adapters: Sequence[Path],
    loading: Loading,
    *,
    tell: Tell,
    num_parallel: int = 1,
    socket: Path | None = None,
) -> ChatModel:
    """The model in memory; see `Chat` and `ChatModel`."""
    template = read_template(loading.template)
    file = model_file(model, adapters=adapters, exact=loading.exact, tell=tell)
    in_memory = ChatModel(
        file,
        context_tokens=loading.context_tokens,
        num_threads=loading.threads,
        num_parallel=num_parallel,
        chat_template=template,
        socket=socket,
    )
    if not (template or loading.raw):
        note_template(file, tell)
    return in_memory


def asked(model: ChatModel, *, raw: bool) -> Asked:
    """How a session asks a model: by its template, or raw, with its last message alone."""

    def ask(messages: Messages, sampling: Sampling, least_room: int) -> Pieces:
        if raw:
            return model.stream_on(messages[-1]["content"], sampling)
        return model.stream(messages, sampling, least_room=least_room)

    return ask


def described(model: ChatModel) -> str:
    """The file, and what it has been given of the machine."""
    given = f"{model.num_threads} of {num_cores()} cores"
    return f"{model.gguf.name}: {given}, {model.context_tokens:,} tokens of context"


def note_template(file: Path, tell: Tell) -> None:
    """Say so where a file has no chat template."""
    if TEMPLATE_KEY not in read_header(file).fields:
        told = f"{file.name} has no chat template: it is asked in ChatML, which it may not know"
        tell(Progress(1, note=told))


def read_template(named: str | None) -> str | None:
    """A chat template in Jinja: by name, or of a file; None where none is named.

    Raises:
        RecipeError: There is none of that name.
    """
    if named is None or named in NAMED:
        return NAMED.get(named or "")
    if not Path(named).is_file():
        known = ", ".join(NAMED)
        raise RecipeError(
            f"template {named!r} is neither known nor a file", f"{{template}} is {known} or a file"
        )
    return read_text(Path(named))
