"""Summarise a document of any length, in the calls that it takes, and go on where it stopped."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import IO, Literal

from hanpaca.data.asking import AskingWords, wording_for
from hanpaca.data.passages import passages
from hanpaca.data.readers.parts import AUTO, TextPart, read_parts
from hanpaca.errors import ArtifactError, DataError, RecipeError
from hanpaca.files import PARTIAL, content_key, describe_file, locked, remove, telling_where
from hanpaca.inference.engine import PromptTooLong
from hanpaca.inference.sampling import Sampling
from hanpaca.progress import Progress, Tell, silent
from hanpaca.steps.batch import kept_rows
from hanpaca.steps.chat import Chat, Loading, read_template

Method = Literal["auto", "stuff", "map_reduce", "refine"]
CONTEXT_TOKENS = 4096
_MOST_REFINED = 4
"""Parts that are read one after the other; of more, each is read by itself."""
_CALLS = "calls.jsonl"
_VERSION = 1
"""Of what is asked about the same text."""
_SAMPLE = 2_000
"""Characters from which the size of a part is guessed; each part is then counted."""
_SPARE = 0.9
_LEAST_CHARACTERS = 20
_SHOWN = 10_000
"""Characters by which the language is told."""


@dataclass(frozen=True)
class DocumentSummary:
    """What a document says, in short."""

    text: str
    method: str
    """`stuff`: the model saw it as a whole; `refine`: part after part, with the summary so far;
    `map_reduce`: notes on each part, then a summary of the notes."""
    num_parts: int
    num_calls: int
    """Answers of the model that it took."""
    num_kept: int
    """Of them from an attempt before, which was interrupted."""


def summarise(
    file: str | Path,
    output: str | Path,
    *,
    model: str | Path,
    method: Method = "auto",
    encoding: str = AUTO,
    sampling: Sampling | None = None,
    loading: Loading | None = None,
    tell: Tell = silent,
) -> DocumentSummary:
    """Summarise a document in its own language; the output appears when all is done.

    The same call goes on after an interruption; another document, model or other settings begin
    anew.

    ```python
    print(hanpaca.steps.summarise.summarise("report.pdf", "short.txt", model="chat.gguf").text)
    ```

    Args:
        file: Text, .html, .docx, .epub or .pdf.
        output: Text file to write.
        model: As `Chat` takes it.
        method: See `DocumentSummary.method`; `auto` takes the first that the length allows, and
            `refine` up to four parts.
        encoding: Of a text, by its Python name; "auto" finds it out.
        sampling: How tokens are chosen; `max_tokens` holds for each answer.
        loading: How the model is loaded.
        tell: Told how many parts are read.

    Raises:
        ArtifactError: The output exists, or the model cannot be loaded.
        DataError: The document cannot be read, or has no text.
        RecipeError: The document is too long for `stuff`, or the context for any part.
        ResourceError: It cannot be written there, or another process is at it.
    """
    file, output = Path(file), Path(output)
    if output.exists():
        raise ArtifactError(f"{output}: already exists", "remove it or give another {output}")
    text = _text_of(file, encoding, tell)
    loading = loading or Loading(context_tokens=CONTEXT_TOKENS)
    partial = output.with_name(output.name + PARTIAL)
    with (
        Chat(model, sampling=sampling, loading=loading, tell=tell) as chat,
        telling_where(output),
        locked(partial),
    ):
        kept = kept_rows(partial, _key(chat, text, method), _CALLS)
        with (partial / _CALLS).open("a", encoding="utf-8") as stream:
            asking = _Asking(chat, wording_for(text[:_SHOWN]), stream, kept, tell)
            summary = asking.summary(text, method)
        (partial / "text").write_text(summary.text + "\n", encoding="utf-8")
        (partial / "text").rename(output)
    remove(partial)
    return summary


class _Asking:
    """A model that is asked about parts of a text; each answer is kept at once."""

    def __init__(
        self,
        chat: Chat,
        wording: AskingWords,
        stream: IO[str],
        kept: Sequence[dict[str, str]],
        tell: Tell,
    ) -> None:
        self.chat, self.wording, self.stream, self.tell = chat, wording, stream, tell
        self.kept = {one["prompt"]: one["answer"] for one in kept}
        self.num_calls = self.num_kept = 0
        sampling = chat.session.sampling
        self.room = min(sampling.max_tokens, chat.context_tokens // 4)

    def summary(self, text: str, method: Method) -> DocumentSummary:
        wording = self.wording
        fits = self._fits(wording.summary.format(text=text))
        if method == "stuff" and not fits:
            found = f"{len(text):,} characters are too many to be read as a whole"
            raise RecipeError(found, "give another {method} or more {context_tokens}")
        if fits and method in ("auto", "stuff"):
            return self._made(self._answer(wording.summary.format(text=text), 1), "stuff", 1)
        parts = list(self._parts(text, self.room))
        if method == "map_reduce" or (method == "auto" and len(parts) > _MOST_REFINED):
            return self._made(self._mapped(parts), "map_reduce", len(parts))
        return self._made(self._refined(parts), "refine", len(parts))

    def _made(self, text: str, method: str, num_parts: int) -> DocumentSummary:
        return DocumentSummary(text, method, num_parts, self.num_calls, self.num_kept)

    def _refined(self, parts: Sequence[str]) -> str:
        summary = self._answer(self.wording.summary.format(text=parts[0]), len(parts))
        for part in parts[1:]:
            prompt = self.wording.refined.format(summary=summary, text=part)
            summary = self._answer(prompt, len(parts))
        return summary

    def _mapped(self, parts: Sequence[str]) -> str:
        """Notes on each part; while they are too long together, notes on the notes."""
        total = len(parts) + 1
        notes = [self._answer(self.wording.part.format(text=one), total) for one in parts]
        while not self._fits(prompt := self.wording.whole.format(text="\n\n".join(notes))):
            groups = list(self._parts("\n".join(notes), self.room))
            if len(groups) >= len(notes):
                raise RecipeError(
                    "the notes on the parts do not get shorter than the parts",
                    "give more {context_tokens} or fewer {max_tokens}",
                )
            total += len(groups)
            notes = [self._answer(self.wording.part.format(text=one), total) for one in groups]
        return self._answer(prompt, total)

    def _parts(self, text: str, spare: int) -> Iterator[str]:
        """Parts that fit into the context with a summary beside them, cut at sentences."""
        empty = self._num_tokens(self.wording.refined.format(summary="", text=""))
        sample = text[:_SAMPLE]
        rate = self._num_tokens(self.wording.refined.format(summary="", text=sample)) - empty
        room = self.chat.context_tokens - self.room - spare - empty
        size = int(_SPARE * room * len(sample) / max(1, rate))
        yield from self._cut(text, size, room + empty)

    def _cut(self, text: str, size: int, most: int) -> Iterator[str]:
        if size < _LEAST_CHARACTERS:
            tokens = self.chat.context_tokens
            raise RecipeError(
                f"a context of {tokens:,} tokens has no room for a part of the text",
                "give more {context_tokens} or fewer {max_tokens}",
            )
        for one in passages([TextPart(text, "page", 1)], characters=size):
            if self._num_tokens(self.wording.refined.format(summary="", text=one.text)) <= most:
                yield one.text
            else:
                yield from self._cut(one.text, min(size, len(one.text)) // 2, most)

    def _fits(self, prompt: str) -> bool:
        most = self.chat.context_tokens - self.room
        return len(prompt) < 16 * most and self._num_tokens(prompt) <= most

    def _num_tokens(self, prompt: str) -> int:
        """Of a prompt, the template's included; it is refused as too long before it is read."""
        messages = [{"role": "user", "content": prompt}]
        more = self.chat.context_tokens + 1
        try:
            next(self.chat.session.ask_model(messages, self.chat.session.sampling, more))
        except PromptTooLong as error:
            return error.num_tokens
        raise ArtifactError(f"{self.chat.file}: llama.cpp does not tell a prompt's length")

    def _answer(self, prompt: str, total: int) -> str:
        key = sha256(prompt.encode()).hexdigest()
        self.num_calls += 1
        if key in self.kept:
            self.num_kept += 1
            return self.kept[key]
        messages = [{"role": "user", "content": prompt}]
        sampling = self.chat.session.sampling
        answer = "".join(self.chat.session.ask_model(messages, sampling, 1)).strip()
        self.kept[key] = answer
        row = json.dumps({"prompt": key, "answer": answer}, ensure_ascii=False)
        self.stream.write(row + "\n")
        self.stream.flush()
        self.tell(Progress(min(self.num_calls, total), total, "parts", "read"))
        return answer


def _text_of(file: Path, encoding: str, tell: Tell) -> str:
    """All that can be read of a document."""
    if file.is_dir():
        raise DataError(f"{file}: is a folder", "give one file of it")
    if not file.is_file():
        raise DataError(f"{file}: no such file")
    notes: list[str] = []
    parts = read_parts(file, encoding=encoding, note=notes.append)
    text = "\n".join(part.text for part in parts).strip()
    if not text:
        raise DataError(f"{file}: no text in it")
    for note in notes:
        tell(Progress(0, note=f"{file}: {note}"))
    return text


def _key(chat: Chat, text: str, method: Method) -> str:
    settings = {
        "version": _VERSION,
        "method": method,
        "sampling": asdict(chat.session.sampling),
        "context_tokens": chat.loading.context_tokens,
        "template": read_template(chat.loading.template),
    }
    model = describe_file(chat.file, name=chat.file.name)
    return content_key([settings, text], [model])
