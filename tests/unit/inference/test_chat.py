from collections.abc import Callable, Iterator

from hanpaca.inference.chat import Message, chat_loop

Stream = Callable[[list[Message]], Iterator[str]]


def talk(stream: Stream, *lines: str | type[BaseException], system: str | None = None) -> str:
    """Run the loop on given input lines; an exception class is raised instead of a line."""
    feed = iter(lines)
    written: list[str] = []

    def read() -> str:
        line = next(feed, EOFError)
        if isinstance(line, str):
            return line
        raise line

    chat_loop(stream, read=read, write=written.append, system=system)
    return "".join(written)


class Echo:
    """Answers with the last message and remembers what it was given."""

    def __init__(self) -> None:
        self.seen: list[list[Message]] = []

    def __call__(self, messages: list[Message]) -> Iterator[str]:
        self.seen.append([dict(message) for message in messages])
        yield from ("你说", messages[-1]["content"])


def contents(messages: list[Message]) -> list[str]:
    return [message["content"] for message in messages]


def test_a_conversation_grows_turn_by_turn() -> None:
    echo = Echo()
    assert talk(echo, "一", "", "二") == "你说一\n你说二\n\n"
    assert contents(echo.seen[1]) == ["一", "你说一", "二"]


def test_clear_keeps_the_system_prompt_and_system_starts_anew() -> None:
    echo = Echo()
    talk(echo, "一", "/clear", "二", "/system 短", "三", "/exit", "四", system="好")
    assert [contents(seen) for seen in echo.seen] == [["好", "一"], ["好", "二"], ["短", "三"]]


def test_ctrl_c_stops_the_answer_and_not_the_program() -> None:
    closed = []
    asked: list[list[str]] = []

    def stream(messages: list[Message]) -> Iterator[str]:
        asked.append(contents(messages))
        try:
            yield "半"
            if len(asked) == 1:
                raise KeyboardInterrupt
            yield "句"
        finally:
            closed.append(True)

    assert talk(stream, "一", "二") == "半 …\n半句\n\n"
    assert asked[1] == ["一", "半", "二"]
    assert len(closed) == 2


def test_ctrl_c_at_the_prompt_leaves() -> None:
    echo = Echo()
    assert talk(echo, KeyboardInterrupt, "一") == "\n"
    assert echo.seen == []


def test_an_unknown_command_shows_the_commands() -> None:
    echo = Echo()
    assert "/clear" in talk(echo, "/help")
    assert echo.seen == []
