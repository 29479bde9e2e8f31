"""Ask documents: answers from their own passages, each with its file and place."""

import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from threading import Lock
from types import TracebackType
from typing import Self

from hanpaca.data.asking import numbered, subject_of, wording_for
from hanpaca.errors import RecipeError
from hanpaca.inference.engine import PromptTooLong
from hanpaca.inference.grounding import Answering, Grounding
from hanpaca.inference.retrieval.embedders import Embedder, embedder_at
from hanpaca.inference.retrieval.index import Index
from hanpaca.inference.retrieval.search import Hit, search
from hanpaca.inference.retrieval.settings import AskSettings, IndexSettings
from hanpaca.inference.retrieval.vectors import embedder_of, fused, similar
from hanpaca.inference.sampling import Sampling
from hanpaca.progress import Progress, Tell, silent
from hanpaca.steps.ask_add import AddReport, ask_add
from hanpaca.steps.chat import Chat, Loading

_FUSED = 40
"""Passages by words, and as many by meaning, of which the best together are taken."""
CONTEXT_TOKENS = 4096
"""Room for five passages of Chinese, which small models' tokenizers cut into two tokens a
character."""


@dataclass(frozen=True)
class CitedSource:
    """A passage that an answer may come from."""

    number: int
    """By which an answer names it, from 1."""
    path: str
    """Of the file."""
    unit: str
    """What its place is counted in: line, row, paragraph, page or chapter."""
    place: int
    """Where in the file it begins, from 1."""
    text: str
    score: float
    """The higher, the more like the question."""
    share: float
    """Of the weight of the question's terms, what it has."""
    similarity: float
    """Cosine of its vector and the question's; 0 where there are none."""

    def __str__(self) -> str:
        """Such as `[1] guide.pdf, page 3`."""
        return f"[{self.number}] {_shown(self.path)}, {self.unit} {self.place}"


@dataclass(frozen=True)
class CitedAnswer:
    """What was said, and what it was made from."""

    text: str
    sources: list[CitedSource]
    """Best first; empty where nothing was like the question, and no model was asked."""

    def __str__(self) -> str:
        return "\n".join([self.text, *map(str, self.sources)])


class Documents:
    """An index of documents, and perhaps a model; use it as a context manager.

    Example:
        >>> with Documents("documents.sqlite", model="chat.gguf") as documents:  # doctest: +SKIP
        ...     documents.add("papers")
        ...     print(documents.ask("画蛇添足是什么意思？"))
    """

    def __init__(
        self,
        index: str | Path,
        *,
        model: str | Path | None = None,
        settings: AskSettings | None = None,
        sampling: Sampling | None = None,
        loading: Loading | None = None,
        api_key: str | None = None,
        tell: Tell = silent,
    ) -> None:
        """Name an index and a model; each is opened when it is needed.

        Args:
            index: The file; `add` makes it.
            model: As `Chat` takes it; only for answers.
            settings: How many passages an answer is made from, and how like the question they must
                be.
            sampling: How tokens are chosen.
            loading: How the model is loaded.
            api_key: Of the server that gives vectors, where the index has some.
            tell: Told what is loaded, how far reading is, and which passages are left out.
        """
        self.index = Path(index)
        self.model = model
        self.settings = settings or AskSettings()
        self.sampling = sampling or Sampling()
        self.loading = loading or Loading(context_tokens=CONTEXT_TOKENS)
        self._api_key = api_key
        self._tell = tell
        self._chat: Chat | None = None
        self._embedders, self._turn = ExitStack(), Lock()
        self._embedder: tuple[str, Embedder] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._embedders.close()
        self._embedder = None
        if self._chat is not None:
            self._chat.__exit__(kind, error, trace)
            self._chat = None

    def add(
        self,
        *paths: str | Path,
        settings: IndexSettings | None = None,
        embedder: str | None = None,
    ) -> AddReport:
        """Read files and folders; see `hanpaca.steps.ask_add.ask_add`."""
        return ask_add(
            paths,
            self.index,
            settings=settings,
            embedder=embedder,
            api_key=self._api_key,
            tell=self._tell,
        )

    def check(self) -> None:
        """See that there is an index.

        Raises:
            ArtifactError: There is none, or the file is none.
        """
        with Index(self.index):
            pass

    def search(self, question: str) -> list[CitedSource]:
        """The passages most like a question, best first; none where none is enough like it.

        Raises:
            ArtifactError: There is no index, or the file is none.
            RecipeError: The question is empty.
        """
        if not question.strip():
            raise RecipeError("the question is empty", "ask something")
        with Index(self.index) as index:
            hits = self._hits(index, question)
            if not any(self._is_like(hit) for hit in hits):
                return []
            return [_cited(index, number, hit) for number, hit in enumerate(hits, start=1)]

    def ask(self, question: str) -> CitedAnswer:
        """Answer a question from the documents, and wait for the whole answer; see `stream`."""
        sources = self.search(question)
        return CitedAnswer("".join(self.stream(question, sources)), sources)

    def stream(self, question: str, sources: Sequence[CitedSource] | None = None) -> Iterator[str]:
        """Answer a question piece by piece, in its own language.

        Args:
            question: Chinese is answered in Chinese, all else in English.
            sources: What `search` gave; None to search.

        Raises:
            ArtifactError: There is no index or no model, or it cannot be loaded.
            PromptTooLong: Not even one passage fits into the context.
            RecipeError: No model was named.
        """
        found = self.grounding(question, sources)
        if not found.prompts:
            yield found.nothing
            return
        chat = self._loaded()
        room = max(1, min(self.sampling.max_tokens, chat.context_tokens // 4))
        answering = Answering(chat.session.ask_model, lambda _: found, left_out=self._say_left_out)
        yield from answering([{"role": "user", "content": question}], self.sampling, room)

    def grounding(self, question: str, sources: Sequence[CitedSource] | None = None) -> Grounding:
        """What a model is asked in place of a question, for whoever asks it; see `stream`."""
        found = self.search(question) if sources is None else sources
        wording = wording_for(question)
        prompts = [
            wording.answer.format(
                sources=numbered([one.text for one in found[:number]]), question=question
            )
            for number in range(len(found), 0, -1)
        ]
        shown = [{**asdict(one), "path": _shown(one.path)} for one in found]
        return Grounding(shown, prompts, wording.nothing)

    def _hits(self, index: Index, question: str) -> list[Hit]:
        number, subject = self.settings.num_sources, subject_of(question)
        if not (place := embedder_of(index)):
            return search(index, subject, num_hits=number)
        lexical = search(index, subject, num_hits=_FUSED)
        with self._turn:  # those who ask may be several
            if not self._embedder or self._embedder[0] != place:
                opened = embedder_at(place, api_key=self._api_key)
                self._embedder = (place, self._embedders.enter_context(opened))
            dense = similar(index, self._embedder[1], question, num_hits=_FUSED)
        return fused(lexical, dense, num_hits=number)

    def _is_like(self, hit: Hit) -> bool:
        near = hit.similarity > self.settings.least_similarity
        return near or hit.share >= self.settings.least_share

    def _say_left_out(self, number: int, error: PromptTooLong) -> None:
        left = f"the context of {error.context_tokens:,} tokens is full"
        self._tell(Progress(number - 1, note=f"passage {number} is left out: {left}"))

    def _loaded(self) -> Chat:
        if self._chat is None:
            if self.model is None:
                raise RecipeError("no model to answer with", "give {model}")
            self._chat = Chat(self.model, loading=self.loading, tell=self._tell)
        return self._chat


def _cited(index: Index, number: int, hit: Hit) -> CitedSource:
    asked = (
        "SELECT path, unit, number, text FROM passages JOIN files ON file = files.id "
        "WHERE passages.id = ?"
    )
    path, unit, place, text = index.database.execute(asked, (hit.number,)).fetchone()
    return CitedSource(number, path, unit, place, text, hit.score, hit.share, hit.similarity)


def _shown(path: str) -> str:
    """A path as a person has it before them: from here, where it lies below."""
    here = os.path.join(os.getcwd(), "")  # noqa: PTH109, PTH118  # of texts, not of files
    return path.removeprefix(here)
