"""Conversations: reading the usual formats, and turning them into tokens and labels."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

from hanpaca.errors import ArtifactError, DataError

Role = Literal["system", "user", "assistant"]
IGNORED = -100
"""A label that is not learned (PyTorch's `ignore_index`)."""
_ROLES: Mapping[str, Role] = {
    "system": "system",
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "gpt": "assistant",
}

CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content']"
    " + '<|im_end|>' + '\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
"""OpenAI's ChatML, without a system prompt of its own."""

ALPACA = (
    "{{ bos_token }}Below is an instruction that describes a task. "
    "Write a response that appropriately completes the request.\n\n"
    "{% for message in messages %}"
    "{% if message['role'] == 'assistant' %}"
    "{{ '### Response:\\n\\n' + message['content'] + eos_token + '\\n\\n' }}"
    "{% else %}{{ '### Instruction:\\n' + message['content'] + '\\n\\n' }}{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}{{ '### Response:\\n\\n' }}{% endif %}"
)
"""The prompt of Stanford Alpaca, which the Chinese Alpaca models were tuned with."""


@dataclass(frozen=True)
class Message:
    """One turn."""

    role: Role
    content: str


Conversation = tuple[Message, ...]


def read_conversations(paths: Sequence[Path]) -> Iterator[tuple[Conversation, str]]:
    """Read conversations and where each comes from (`file:row`, counted from 1).

    Formats, told apart row by row: Alpaca (`instruction`, `input`, `output`), OpenAI (`messages` of
    `role`, `content`), ShareGPT (`conversations` of `from`, `value`). `.jsonl` holds one object a
    line, `.json` a list.

    Raises:
        DataError: A file or row is missing or malformed: names it.
    """
    for path in paths:
        for number, row in enumerate(_rows(path), start=1):
            place = f"{path}:{number}"
            yield _conversation(row, place), place


def encode_conversation(
    conversation: Conversation,
    *,
    render: Callable[[list[dict[str, str]], bool], str],
    encode: Callable[[str], list[int]],
) -> tuple[list[int], list[int]]:
    """Turn a conversation into token ids and labels: only answers are learned.

    An answer's label span starts after the generation prompt and takes in the end-of-turn token,
    so that the model learns to stop.

    Args:
        conversation: Any number of turns.
        render: The chat template: messages, and whether to add the generation prompt.
        encode: Text with special tokens to ids, adding none of its own.

    Returns:
        Two lists of the same length: ids, and labels with -100 where nothing is learned.

    Raises:
        ArtifactError: The template writes earlier turns differently once later ones are there.
    """
    ids: list[int] = []
    labels: list[int] = []
    written = ""
    messages: list[dict[str, str]] = []
    for message in conversation:
        if message.role == "assistant":
            opened = _continues(written, render(messages, True))
            ids += (new := encode(opened))
            labels += [IGNORED] * len(new)
            written += opened
        messages.append({"role": message.role, "content": message.content})
        if message.role != "assistant":
            continue
        said = _continues(written, render(messages, False))
        written += said
        answer = encode(said)
        # What follows the end-of-turn token (a line break in ChatML) is the next turn's.
        tail = len(encode(said[len(said.rstrip("\n")) :])) if said.endswith("\n") else 0
        ids += answer
        labels += answer[: len(answer) - tail] + [IGNORED] * tail
    return ids, labels


def _continues(written: str, longer: str) -> str:
    if not longer.startswith(written):
        raise ArtifactError(
            "the chat template rewrites earlier turns when later ones are added; "
            "set sft.template to chatml or alpaca"
        )
    return longer[len(written) :]


def _rows(path: Path) -> Iterator[Any]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: cannot be read as UTF-8: {error}") from error
    if path.suffix == ".jsonl":
        # Not splitlines(): a text may hold U+2028 or U+0085, which JSON does not escape.
        for number, line in enumerate(text.split("\n"), start=1):
            if line.strip():
                yield _json(line, f"{path}:{number}")
        return
    rows = _json(text, str(path))
    if not isinstance(rows, list):
        raise DataError(f"{path}: a list of conversations is needed, not {type(rows).__name__}")
    yield from rows


def _json(text: str, place: str) -> Any:  # noqa: ANN401  # whatever the user wrote
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise DataError(f"{place}: not JSON: {error.msg} (line {error.lineno})") from error
    except RecursionError as error:
        raise DataError(f"{place}: not JSON that can be read: nested too deeply") from error


def _conversation(row: object, place: str) -> Conversation:
    if not isinstance(row, dict):
        raise DataError(f"{place}: an object is needed, not {type(row).__name__}")
    if "output" in row:
        instruction = _text(row, "instruction", place)
        asked = "\n".join(part for part in (instruction, str(row.get("input") or "")) if part)
        turns = [Message("user", asked), Message("assistant", _text(row, "output", place))]
    elif "messages" in row:
        turns = _turns(row["messages"], "role", "content", place)
    elif "conversations" in row:
        turns = _turns(row["conversations"], "from", "value", place)
    else:
        raise DataError(
            f"{place}: found {', '.join(sorted(map(str, row))) or 'nothing'}; expected instruction "
            "and output, or messages, or conversations"
        )
    if not any(turn.role == "assistant" for turn in turns):
        raise DataError(f"{place}: there is no answer in this conversation")
    return tuple(turns)


def _turns(messages: object, who: str, what: str, place: str) -> list[Message]:
    if not isinstance(messages, list) or not all(isinstance(m, dict) for m in messages):
        raise DataError(f"{place}: a list of objects with {who!r} and {what!r} is needed")
    turns = []
    for message in cast(list[dict[str, Any]], messages):
        role = _ROLES.get(str(message.get(who)))
        if role is None:
            raise DataError(
                f"{place}: {who} {message.get(who)!r} is unknown; known: {', '.join(_ROLES)}"
            )
        turns.append(Message(role, _text(message, what, place)))
    return turns


def _text(row: Mapping[str, Any], field: str, place: str) -> str:
    text = row.get(field)
    if not isinstance(text, str) or not text.strip():
        raise DataError(f"{place}: field {field!r} is empty or not text (found {text!r})")
    return text
