"""Preferences: of two answers to one prompt, which is the better one."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import takewhile
from pathlib import Path
from typing import Any

from hanpaca.data.conversations import Conversation, Message, conversation_of
from hanpaca.data.files import row_files
from hanpaca.data.json_list import ADVICE
from hanpaca.data.rows import read_rows
from hanpaca.errors import DataError
from hanpaca.progress import Progress, Tell, silent

_PROMPTS = ("conversations", "messages", "prompt", "instruction", "question")
"""Keys that what both answers follow may stand under; the first that a row has is taken."""


@dataclass(frozen=True)
class Preference:
    """Two answers to one prompt."""

    prompt: Conversation
    """Ends with a question; none of its answers is learned."""
    chosen: str
    """The better answer."""
    rejected: str
    """The worse one."""

    def conversation(self, answer: str) -> Conversation:
        """The prompt with one of the answers, which alone is learned."""
        return (*self.prompt, Message("assistant", answer))


def read_preferences(
    paths: Sequence[Path | str],
    *,
    encoding: str = "utf-8",
    skip_bad_rows: bool = False,
    tell: Tell = silent,
) -> Iterator[tuple[Preference, str]]:
    """Read preferences and where each comes from (`file:row`, counted from 1).

    ```python
    pairs = [pair for pair, place in read_preferences(["pairs.jsonl"], skip_bad_rows=True)]
    ```

    Every row has `chosen` and `rejected`: each a text, a turn, or a list of turns, which may begin
    with those of the prompt. What both follow stands under `prompt`, `instruction` (with `input`)
    or `question`, or as turns under `messages`, `conversations` or `prompt`; turns are `role` and
    `content`, or ShareGPT's `from` and `value`. A `system` may stand beside them. Files are read as
    `read_conversations` reads them.

    Args:
        paths: Files, or folders that are searched for .json, .jsonl, .ndjson, .csv and .parquet.
        encoding: Of all of them, by its Python name.
        skip_bad_rows: Leave malformed rows out and count them, instead of raising at the first.
        tell: Called at the end where rows were left out.

    Raises:
        DataError: A file or row is missing or malformed: names it.
    """
    num_read, skipped = 0, 0
    first = ""
    for path in (file for given in paths for file in row_files(Path(given))):
        for place, row in read_rows(path, encoding=encoding):
            try:
                preference = _preference(row, place)
            except DataError as error:
                if not skip_bad_rows:
                    raise
                first = first or error.message
                skipped += 1
                continue
            num_read += 1
            yield preference, place
    if skipped:
        note = f"{skipped} bad rows are left out; the first: {first}"
        tell(Progress(num_read, num_read, "rows", note))


def preference_row(preference: Preference) -> dict[str, Any]:
    """A preference as a JSON row of `prompt`, `chosen` and `rejected`, as it can be read again."""
    turns = [{"role": turn.role, "content": turn.content} for turn in preference.prompt]
    return {"prompt": turns, "chosen": preference.chosen, "rejected": preference.rejected}


def _preference(row: object, place: str) -> Preference:
    if isinstance(row, DataError):
        raise row
    if not isinstance(row, dict):
        raise _bad(place, f"an object is needed, not {type(row).__name__}")
    for side in ("chosen", "rejected"):
        if row.get(side) in (None, "", [], {}):
            keys = ", ".join(sorted(map(str, row))) or "nothing"
            raise _bad(place, f"{side} is missing or empty; found {keys}")
    chosen, rejected = (_conversation(row, side, place) for side in ("chosen", "rejected"))
    same = takewhile(lambda two: two[0] == two[1], zip(chosen, rejected, strict=False))
    prompt = tuple(one for one, _ in same)
    if chosen == rejected:
        raise _bad(place, "chosen and rejected are the same")
    if (len(prompt) + 1, len(prompt) + 1) != (len(chosen), len(rejected)):
        raise _bad(place, "chosen and rejected differ in more than their last answers")
    prompt = tuple(replace(turn, learned=False) for turn in prompt)
    return Preference(prompt, chosen[-1].content, rejected[-1].content)


def _conversation(row: Mapping[str, Any], side: str, place: str) -> Conversation:
    """The whole conversation that one answer ends."""
    prompt, answer = _prompt(row), _turns(row[side], "assistant")
    turns = answer if _holds_prompt(answer) else [*prompt, *answer]
    asked = {"messages": turns, "system": row.get("system")}
    conversation = conversation_of(asked, f"{place}: {side}")
    if conversation[-1].role != "assistant":
        raise _bad(place, f"{side} ends with no answer")
    return conversation


def _prompt(row: Mapping[str, Any]) -> list[Any]:
    """The turns that both answers follow; none where the answers have them themselves."""
    key = next((name for name in _PROMPTS if row.get(name) not in (None, "", [])), None)
    if key is None:
        return []
    more = row.get("input") if key == "instruction" else None
    found = row[key]
    return _turns(f"{found}\n{more}" if more and isinstance(found, str) else found, "user")


def _holds_prompt(turns: Sequence[Any]) -> bool:
    """Whether turns begin with a question, and so with the prompt."""
    return isinstance(turns[0], dict) and turns[0].get("role") in ("system", "user", "human")


def _turns(value: object, role: str) -> list[Any]:
    """Turns of `role` and `content`; what is none is left for the reader of turns to refuse."""
    if isinstance(value, str):
        return [{"role": role, "content": value}]
    found = value if isinstance(value, list) else [value]
    return [_named(turn) for turn in found]


def _named(turn: object) -> object:
    if isinstance(turn, dict) and "from" in turn:
        return {"role": turn["from"], "content": turn.get("value")}
    return turn


def _bad(place: str, reason: str) -> DataError:
    return DataError(f"{place}: {reason}", ADVICE)
