"""Answer a file of questions: one after the other, each by itself, and go on where it stopped."""

import json
import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from hanpaca.data.rows import read_rows
from hanpaca.errors import ArtifactError, DataError
from hanpaca.files import (
    KEY,
    PARTIAL,
    content_key,
    describe_file,
    locked,
    remove,
    telling_where,
    write_atomically,
)
from hanpaca.inference.engine import NOT_READ, Answer, PromptTooLong
from hanpaca.inference.session import Message, read_messages
from hanpaca.progress import Progress, Tell, silent
from hanpaca.steps.chat import Chat, read_template

_QUESTIONS = ("prompt", "question", "instruction")
"""Keys a row may have its question under, where it has no `messages`."""
_ANSWER, _TOO_LONG = "answer", "too_long"
_ANSWERS = "answers.jsonl"
_VERSION = 1
"""Of what is answered to the same question."""


@dataclass(frozen=True)
class BatchReport:
    """What was written."""

    num_answers: int
    num_kept: int
    """Of them from an attempt before, which was interrupted."""
    num_cut: int
    """That the limit of tokens cut off."""
    num_too_long: int
    """Of questions that did not fit into the context; these have an empty answer."""
    characters_per_second: float
    """Of those written now, reading the questions included."""


def answer_file(
    chat: Chat, questions: Path, output: Path, *, encoding: str = "utf-8", tell: Tell = silent
) -> BatchReport:
    """Answer every row of a JSON file; the output appears when all are answered.

    Each row of it is one of the input with `answer`, `num_tokens` and `stopped` (false where the
    limit cut the answer off); a row that does not fit into the context has an empty answer and
    `too_long`. The same call goes on after an interruption; other questions,
    another model or other settings begin anew.

    Args:
        chat: The model, with the system prompt and sampling that hold for every row.
        questions: Rows with `prompt`, `question`, `instruction` (with `input`) or `messages`, or
            texts alone; a list or one a line.
        output: JSON lines.
        encoding: Of the questions, where they are not UTF-8.
        tell: Told how many are answered, and how fast.

    Raises:
        ArtifactError: The output exists.
        DataError: A row is malformed: names it.
        ResourceError: It cannot be written there, or another process is at it.
    """
    if output.exists():
        raise ArtifactError(f"{output}: already exists", "remove it or give another {output}")
    rows = [_Row.read(row, place) for place, row in read_rows(questions, encoding=encoding)]
    partial = output.with_name(output.name + PARTIAL)
    with telling_where(output), locked(partial):
        kept = kept_rows(partial, _key(chat, questions), _ANSWERS)
        report = _answer_rest(chat, rows, partial / _ANSWERS, kept, tell)
        (partial / _ANSWERS).rename(output)
    remove(partial)
    return report


@dataclass(frozen=True)
class _Row:
    place: str
    given: Mapping[str, Any]
    turns: list[Message]

    @classmethod
    def read(cls, row: object, place: str) -> "_Row":
        if isinstance(row, DataError):
            raise DataError(row.message)
        given = {"prompt": row} if isinstance(row, str) else row
        if not isinstance(given, dict):
            raise DataError(f"{place}: a text or an object is needed, not {type(row).__name__}")
        if _ANSWER in given:
            raise DataError(f"{place}: there is an {_ANSWER!r} already; call it something else")
        return cls(place, given, _turns(given, place))


def _turns(row: dict[str, Any], place: str) -> list[Message]:
    """A conversation that ends with a question."""
    if "messages" in row:
        try:
            turns = read_messages(row, place)
        except ArtifactError as error:
            raise DataError(str(error)) from error
        asked = [one["role"] for one in turns if one["role"] != "system"]
        if asked != ["user", "assistant"] * (len(asked) // 2) + ["user"]:
            raise DataError(f"{place}: questions and answers must take turns, a question last")
        return turns
    found = [row[key] for key in _QUESTIONS if key in row]
    if len(found) != 1 or not isinstance(found[0], str) or not found[0].strip():
        raise DataError(f"{place}: one of {', '.join(_QUESTIONS)} with a text, or messages")
    more = row.get("input", "")
    if not isinstance(more, str):
        raise DataError(f"{place}: 'input' is no text")
    return [{"role": "user", "content": f"{found[0]}\n{more}" if more else found[0]}]


def _key(chat: Chat, questions: Path) -> str:
    loading = chat.loading
    settings = {
        "version": _VERSION,
        "sampling": asdict(chat.session.sampling),
        "system": chat.session.system,
        "context_tokens": loading.context_tokens,
        "template": read_template(loading.template),
        "raw": loading.raw,
    }
    inputs = [describe_file(one, name=one.name) for one in (chat.file, questions)]
    return content_key([settings, [one.sha256 for one in inputs]], [])


def kept_rows(folder: Path, key: str, name: str) -> list[Any]:
    """The whole lines of an attempt at the same work; what is left of other work is removed."""
    file, mark = folder / name, folder / KEY
    if not (mark.is_file() and mark.read_text(encoding="utf-8") == key):
        remove(file)
        write_atomically(mark, key)
    if not file.is_file():
        return []
    data = file.read_bytes()
    whole = data[: data.rfind(b"\n") + 1]
    os.truncate(file, len(whole))
    return [json.loads(line) for line in whole.splitlines()]


def _answer_rest(
    chat: Chat, rows: list[_Row], file: Path, kept: list[Mapping[str, Any]], tell: Tell
) -> BatchReport:
    long = sum(one.get(_TOO_LONG, False) for one in kept)
    num_characters, num_cut = 0, sum(not one["stopped"] for one in kept) - long
    begun = time.monotonic()
    rate = 0.0
    with file.open("a", encoding="utf-8") as stream:
        for number, (row, answer) in enumerate(_answers(chat, rows[len(kept) :]), len(kept) + 1):
            said = {_ANSWER: answer.text, "num_tokens": answer.num_tokens}
            line = {**row.given, **said, "stopped": answer.stopped}
            line |= {_TOO_LONG: True} if answer.too_long else {}
            stream.write(json.dumps(line, ensure_ascii=False) + "\n")
            stream.flush()
            num_characters += len(answer.text)
            num_cut += not (answer.stopped or answer.too_long)
            long += answer.too_long
            rate = num_characters / max(time.monotonic() - begun, 1e-9)
            tell(Progress(number, len(rows), "rows", f"{rate:.1f} characters/s"))
    return BatchReport(len(rows), len(kept), num_cut, long, rate)


def _answers(chat: Chat, rows: list[_Row]) -> Iterator[tuple[_Row, Answer]]:
    system = chat.session.system
    for row in rows:
        own = [one["content"] for one in row.turns if one["role"] == "system"]
        turns = [one for one in row.turns if one["role"] != "system"]
        chat.session.system = own[0] if own else system
        chat.session.messages = turns[:-1]
        try:
            yield row, chat.ask(turns[-1]["content"])
        except PromptTooLong:
            yield row, NOT_READ
        except DataError as error:
            raise DataError(f"{row.place}: {error.message}", error.advice) from error
        finally:
            chat.session.clear()
            chat.session.system = system
