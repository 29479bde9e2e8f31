"""Conversations: reading the usual formats."""

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, cast

from hanpaca.data.files import row_files
from hanpaca.data.json_list import ADVICE
from hanpaca.data.rows import read_rows
from hanpaca.errors import DataError
from hanpaca.progress import Progress, Tell, silent

Role = Literal["system", "user", "assistant"]
_ROLES: Mapping[str, Role] = {
    "system": "system",
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "gpt": "assistant",
}


_KNOWN = {
    "output": ("instruction", "input", "output", "history"),
    "messages": ("messages",),
    "conversations": ("conversations",),
}
"""Keys of a row that are read, by the one that tells its layout."""
_WEIGHTS = ("weight", "loss_weight", "loss_mask", "loss", "train", "learned")
"""Keys of a turn or row that say whether its answer is learned."""


@dataclass(frozen=True)
class Message:
    """One turn."""

    role: Role
    content: str
    learned: bool = True
    """Of an answer: whether it is to be learned, or only stands before later ones."""


Conversation = tuple[Message, ...]


def read_conversations(
    paths: Sequence[Path | str],
    *,
    encoding: str = "utf-8",
    skip_bad_rows: bool = False,
    tell: Tell = silent,
) -> Iterator[tuple[Conversation, str]]:
    """Read conversations and where each comes from (`file:row`, counted from 1).

    ```python
    talks = [talk for talk, place in read_conversations(["alpaca.json"], skip_bad_rows=True)]
    ```

    Formats, told apart row by row: Alpaca (`instruction`, `input`, `output`, `system`, `history`),
    OpenAI (`messages` of `role`, `content`), ShareGPT (`conversations` of `from`, `value`); the
    last two may have a `system` beside them. Rows lie in a JSON list, one a line, in CSV with a
    header or in parquet, packed or not; files are streamed. An answer whose turn or row says
    `weight`, `loss_weight`, `loss_mask`, `loss` or `train` 0 or false, or `label` false, is not
    learned. Every other key is named once at the end.

    Args:
        paths: Files, or folders that are searched for .json, .jsonl, .ndjson, .csv and .parquet.
        encoding: Of all of them, by its Python name.
        skip_bad_rows: Leave malformed rows out and count them, instead of raising at the first.
        tell: Called at the end with each note: keys without use, rows left out.

    Raises:
        DataError: A file or row is missing or malformed: names it.
    """
    notes = _Notes()
    for path in (file for given in paths for file in row_files(Path(given))):
        for place, row in read_rows(path, encoding=encoding):
            try:
                conversation = _conversation(row, place, notes)
            except DataError as error:
                if not skip_bad_rows:
                    raise
                notes.first_skipped = notes.first_skipped or error.message
                notes.num_skipped += 1
                continue
            if any(turn.role == "assistant" and turn.learned for turn in conversation):
                notes.num_read += 1
                yield conversation, place
            else:
                notes.num_unlearned += 1
    for line in notes.lines():
        tell(Progress(notes.num_read, notes.num_read, "rows", line))


def conversation_of(row: object, place: str) -> Conversation:
    """Read one row of `read_rows`, as `read_conversations` reads it.

    Raises:
        DataError: It is malformed: names its place.
    """
    return _conversation(row, place, _Notes())


def as_row(conversation: Conversation) -> dict[str, Any]:
    """A conversation as a JSON row of `messages`, for `from_row`."""
    return {
        "messages": [
            {"role": turn.role, "content": turn.content}
            | ({} if turn.learned else {"learned": False})
            for turn in conversation
        ]
    }


def from_row(row: Mapping[str, Any]) -> Conversation:
    """Take back what `as_row` made."""
    return tuple(
        Message(one["role"], one["content"], one.get("learned", True)) for one in row["messages"]
    )


@dataclass
class _Notes:
    """What a reader should know of rows that were read, or not."""

    num_read: int = 0
    num_unlearned: int = 0
    num_skipped: int = 0
    first_skipped: str = ""
    unused: Counter[str] = field(default_factory=Counter)

    def lines(self) -> Iterator[str]:
        if self.num_skipped:
            yield f"{self.num_skipped} bad rows are left out; the first: {self.first_skipped}"
        if self.num_unlearned:
            yield f"{self.num_unlearned} rows are left out: all their answers are marked so"
        for key, count in self.unused.items():
            yield f"the key {key!r} is not used ({count} times)"

    def name_unused(self, row: Mapping[str, Any], known: Collection[str]) -> None:
        for key, value in row.items():
            if key not in known and value not in (None, "", [], {}):
                self.unused[key] += 1


def _conversation(row: object, place: str, notes: _Notes) -> Conversation:
    if isinstance(row, DataError):
        raise row
    if not isinstance(row, dict):
        raise _bad(place, f"an object is needed, not {type(row).__name__}")
    found = [key for key in ("output", "messages", "conversations") if key in row]
    layout = next((key for key in found if row[key] is not None), found[0] if found else None)
    match layout:
        case "output":
            turns = _alpaca(row, place)
        case "messages":
            turns = _turns(row["messages"], "role", "content", place, notes)
        case "conversations":
            turns = _turns(row["conversations"], "from", "value", place, notes)
        case _:
            keys = ", ".join(sorted(map(str, row))) or "nothing"
            raise _bad(
                place,
                f"found {keys}; expected instruction and output, or messages, or conversations",
            )
    notes.name_unused(row, (*_KNOWN[layout], "system", "label", *_WEIGHTS))
    turns = _with_system(row, turns, place)
    _check_order(turns, row, place)
    if not _is_learned(row, notes):
        turns = [replace(turn, learned=False) for turn in turns]
    return tuple(turns)


def _alpaca(row: Mapping[str, Any], place: str) -> list[Message]:
    asked = "\n".join(
        part for part in (_text(row, "instruction", place), _input(row, place)) if part
    )
    turns = []
    history = row.get("history") or []
    if not isinstance(history, list):
        raise _bad(place, f"history must be a list of [question, answer], not {_short(history)}")
    for pair in history:
        if not isinstance(pair, list) or len(pair) != 2:
            raise _bad(place, f"history must be a list of [question, answer], not {_short(pair)}")
        said = {"history's question": pair[0], "history's answer": pair[1]}
        turns.append(Message("user", _text(said, "history's question", place)))
        turns.append(Message("assistant", _text(said, "history's answer", place)))
    answer = _text(row, "output", place)
    return [*turns, Message("user", asked), Message("assistant", answer)]


def _input(row: Mapping[str, Any], place: str) -> str:
    value = row.get("input")
    if value is None or value == "":
        return ""
    if isinstance(value, str) and value.isspace():
        return value
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return str(value) if is_number else _text(row, "input", place)


def _with_system(row: Mapping[str, Any], turns: list[Message], place: str) -> list[Message]:
    if row.get("system") in (None, ""):
        return turns
    system = Message("system", _text(row, "system", place))
    if turns[:1] == [system]:
        return turns
    if turns and turns[0].role == "system":
        raise _bad(place, "two system prompts: one beside the turns, another as the first of them")
    return [system, *turns]


def _check_order(turns: Sequence[Message], row: Mapping[str, Any], place: str) -> None:
    if not any(turn.role == "assistant" for turn in turns):
        chosen = "; chosen and rejected are preferences, no answers to learn" * ("chosen" in row)
        raise _bad(place, f"there is no answer in this conversation{chosen}")
    if turns[0].role == "assistant":
        raise _bad(place, "this conversation begins with an answer, so that nothing is asked")


def _turns(messages: object, who: str, what: str, place: str, notes: _Notes) -> list[Message]:
    if not isinstance(messages, list) or not all(isinstance(m, dict) for m in messages):
        raise _bad(place, f"a list of objects with {who!r} and {what!r} is needed")
    turns = []
    for message in cast(list[dict[str, Any]], messages):
        role = _ROLES.get(str(message.get(who)))
        if role is None:
            raise _bad(
                place, f"{who} {_short(message.get(who))} is unknown; known: {', '.join(_ROLES)}"
            )
        notes.name_unused(message, (who, what, "label", *_WEIGHTS))
        turns.append(Message(role, _text(message, what, place), _is_learned(message, notes)))
    return turns


def _is_learned(row: Mapping[str, Any], notes: _Notes) -> bool:
    """Whether nothing beside an answer says that it is not to be learned."""
    learned = row.get("label") is not False
    if not isinstance(row.get("label"), bool):
        notes.name_unused({"label": row.get("label")}, ())  # a class, not a judgement
    for key in _WEIGHTS:
        value = row.get(key)
        if isinstance(value, int | float) and value in (0, 1):
            learned = learned and bool(value)
        elif value is not None:
            notes.unused[f"{key} other than 0 and 1"] += 1
    return learned


def _text(row: Mapping[str, Any], field: str, place: str) -> str:
    text = row.get(field)
    if isinstance(text, list):
        text = _joined(text, field, place)
    if not isinstance(text, str) or not text.strip():
        raise _bad(place, f"field {field!r} is empty or not text (found {_short(text)})")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        half = ascii(text[error.start])[1:-1]
        raise _bad(
            place, f"half a character, {half}, at position {error.start} of {field!r}"
        ) from error
    return text


def _joined(parts: Sequence[object], field: str, place: str) -> str:
    """The text of OpenAI's content parts."""
    texts = []
    for part in parts:
        text = part.get("text") if isinstance(part, dict) and part.get("type") == "text" else None
        if not isinstance(text, str):
            raise _bad(place, f"field {field!r} is a list with {_short(part)}, which is no text")
        texts.append(text)
    return "".join(texts)


def _bad(place: str, reason: str) -> DataError:
    return DataError(f"{place}: {reason}", ADVICE)


def _short(value: object) -> str:
    return f"{value!r:.80}"
