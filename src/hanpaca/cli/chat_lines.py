"""Where the lines of a conversation come from: an editor, a plain terminal, or a pipe."""

import codecs
import os
import sys
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO

from hanpaca.data.lines import MAX_CHARACTERS, text_decoder
from hanpaca.errors import DataError, RecipeError

Read = Callable[[str], str]
"""Gives the next line, which begins as the text given; EOFError at the end of the input,
KeyboardInterrupt at Ctrl-C."""
_PROMPT = "› "


def at_terminal() -> bool:
    """Whether a person types and reads."""
    return sys.stdin.isatty() and sys.stdout.isatty()


def typed_lines() -> Read:
    """Lines from a person: edited where prompt_toolkit is installed and the terminal can."""
    if os.environ.get("TERM", "dumb") == "dumb":
        return _plain
    try:
        from prompt_toolkit import PromptSession
    except ImportError:
        return _with_readline()
    session: PromptSession[str] = PromptSession(
        key_bindings=_keys(), multiline=True, prompt_continuation=lambda *_: "  "
    )
    return lambda begun: session.prompt(_prompt(), default=begun)


def piped_lines(stream: BinaryIO, encoding: str) -> Read:
    """Lines of bytes; ones that are not in the encoding end the reading with a `DataError`.

    Raises:
        RecipeError: There is no such encoding.
    """
    try:
        decoder = text_decoder(encoding)
    except DataError as error:
        raise RecipeError(f"{encoding!r} is no encoding", "mend {encoding}") from error
    lines = _decoded(stream, encoding, decoder)

    def read(begun: str) -> str:
        line = next(lines, None)
        if line is None:
            raise EOFError
        return line

    return read


def _decoded(stream: BinaryIO, encoding: str, decoder: codecs.IncrementalDecoder) -> Iterator[str]:
    number, pending, data = 1, "", b"..."
    num_bytes = 0  # of the present line
    while data:
        data = stream.readline(MAX_CHARACTERS)
        num_bytes += len(data)
        try:
            *lines, pending = (pending + decoder.decode(data, final=not data)).split("\n")
        except UnicodeDecodeError as error:
            first = num_bytes - len(error.object)
            raise DataError(
                f"standard input, line {number}: not {encoding} at byte {first + error.start + 1}"
                f"{_fits(bytes(error.object))}",
                "give its {encoding}",
            ) from error
        num_bytes = 0 if lines else num_bytes
        for line in lines:
            yield _clean(line)
        number += len(lines)
        if len(pending) > MAX_CHARACTERS:
            raise DataError(f"standard input, line {number}: more than {MAX_CHARACTERS} characters")
    if pending:
        yield _clean(pending)


def _clean(line: str) -> str:
    return line.removeprefix("\ufeff").rstrip("\r")


def _fits(data: bytes) -> str:
    """Which encoding of Chinese text the bytes are in, if it is one."""
    for encoding in ("utf-8", "gb18030", "big5"):
        try:
            data.decode(encoding)
        except UnicodeDecodeError:
            continue
        return f", but it could be {encoding}"
    return ""


def _prompt() -> str:
    try:
        _PROMPT.encode(sys.stdout.encoding)
    except UnicodeEncodeError:
        return "> "
    return _PROMPT


def _plain(begun: str) -> str:
    return input(_prompt())


def _with_readline() -> Read:
    try:
        import readline
    except ImportError:
        return _plain

    def read(begun: str) -> str:
        readline.set_startup_hook(lambda: readline.insert_text(begun))
        try:
            return input(_prompt())
        finally:
            readline.set_startup_hook(None)

    return read


def _keys() -> Any:  # noqa: ANN401  # a class of a package that may be missing
    """Enter sends, also a text of several lines that was pasted; Alt-Enter begins a new line."""
    from prompt_toolkit.key_binding import KeyBindings

    keys = KeyBindings()

    @keys.add("enter")
    def _send(event: Any) -> None:  # noqa: ANN401
        event.current_buffer.validate_and_handle()

    @keys.add("escape", "enter")
    def _break(event: Any) -> None:  # noqa: ANN401
        event.current_buffer.insert_text("\n")

    return keys
