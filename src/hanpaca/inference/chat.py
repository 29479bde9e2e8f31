"""A conversation in a terminal, without the terminal: reading and writing are given."""

from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any, cast

HELP = (
    "/clear starts anew, /system TEXT sets the system prompt, /exit leaves; Ctrl-C stops an answer."
)
Message = dict[str, str]


def chat_loop(
    stream: Callable[[list[Message]], Iterator[str]],
    *,
    read: Callable[[], str],
    write: Callable[[str], None],
    system: str | None = None,
) -> None:
    """Talk until the user leaves: `/exit`, end of input, or Ctrl-C at the prompt.

    Ctrl-C during an answer stops the answer; what was said so far stays in the conversation.

    Args:
        stream: Answers a conversation piece by piece; see `ChatModel.stream`.
        read: Gives the next line; raises EOFError at the end of the input.
        write: Shows text as it comes.
        system: The system prompt to begin with.
    """
    messages = _opening(system)
    while True:
        try:
            line = read().strip()
        except (EOFError, KeyboardInterrupt):
            write("\n")
            return
        if line == "/exit":
            return
        if line == "/clear":
            messages = [message for message in messages if message["role"] == "system"]
        elif line.startswith("/system"):
            messages = _opening(line.removeprefix("/system").strip())
        elif line.startswith("/"):
            write(HELP + "\n")
        elif line:
            messages.append({"role": "user", "content": line})
            answer = _say(stream(messages), write)
            messages.append({"role": "assistant", "content": answer})


def _opening(system: str | None) -> list[Message]:
    return [{"role": "system", "content": system}] if system else []


def _say(pieces: Iterator[str], write: Callable[[str], None]) -> str:
    said: list[str] = []
    with closing(cast(Any, pieces)):
        try:
            for piece in pieces:
                said.append(piece)
                write(piece)
        except KeyboardInterrupt:
            write(" …")
    write("\n")
    return "".join(said)
