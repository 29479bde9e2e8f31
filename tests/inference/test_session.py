from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from hanpaca.errors import ArtifactError, RecipeError
from hanpaca.inference.engine import Answer, Messages, Pieces, PromptTooLong
from hanpaca.inference.sampling import Sampling
from hanpaca.inference.session import Session
from hanpaca.progress import Progress


class Echo:
    """Answers with the last message, and remembers what it was given; a character is a token."""

    def __init__(self, context_tokens: int = 1000) -> None:
        self.context_tokens = context_tokens
        self.seen: list[list[str]] = []
        self.seeds: list[int] = []

    def __call__(self, messages: Messages, sampling: Sampling, least_room: int) -> Pieces:
        num_tokens = sum(len(one["content"]) for one in messages)
        if num_tokens + least_room > self.context_tokens:
            raise PromptTooLong(num_tokens, self.context_tokens)
        self.seen.append([one["content"] for one in messages])
        self.seeds.append(sampling.seed)
        yield "你说"
        yield messages[-1]["content"]
        return Answer("你说" + messages[-1]["content"], 2, 0.1, stopped=True)


def session(echo: Echo, **more: Any) -> Session:
    return Session(echo, echo.context_tokens, **more)


def ask(talk: Session, *questions: str) -> list[str]:
    return ["".join(talk.ask(one)) for one in questions]


def contents(messages: Sequence[dict[str, str]]) -> list[str]:
    return [message["content"] for message in messages]


def test_a_conversation_grows_turn_by_turn() -> None:
    talk = session(echo := Echo(), system="好")
    assert ask(talk, "一", "二") == ["你说一", "你说二"]
    assert echo.seen[1] == ["好", "一", "你说一", "二"]
    assert talk.answer == Answer("你说二", 2, 0.1, stopped=True)


def test_the_last_turn_is_taken_back_or_asked_again_with_another_seed() -> None:
    talk = session(echo := Echo(), sampling=Sampling(seed=5))
    assert talk.undo() is None
    with pytest.raises(RecipeError, match="no question to ask again"):
        talk.retry()
    ask(talk, "一", "二")
    assert "".join(talk.retry()) == "你说二"
    assert "".join(talk.retry()) == "你说二"
    assert contents(talk.messages) == ["一", "你说一", "二", "你说二"]
    ask(talk, "三")
    assert echo.seeds == [5, 5, 6, 7, 5]
    assert [talk.undo(), talk.undo()] == ["三", "二"]
    assert contents(talk.messages) == ["一", "你说一"]


def test_what_was_said_stays_when_an_answer_is_stopped() -> None:
    talk = session(Echo())
    pieces = talk.ask("一")
    next(pieces)
    pieces.close()  # type: ignore[attr-defined]
    assert contents(talk.messages) == ["一", "你说"]


def test_a_question_to_which_nothing_was_said_can_be_asked_again() -> None:
    def refuse(messages: Messages, sampling: Sampling, least_room: int) -> Pieces:
        raise ArtifactError("no")
        yield ""

    talk = Session(refuse, 100)
    with pytest.raises(ArtifactError, match="no"):
        ask(talk, "一")
    assert talk.messages == []
    talk.ask_model = Echo()
    assert "".join(talk.retry()) == "你说一"
    assert contents(talk.messages) == ["一", "你说一"]


def test_the_oldest_turns_are_left_out_of_what_the_model_sees_and_kept() -> None:
    told: list[Progress] = []
    talk = session(echo := Echo(40), system="好", tell=told.append)
    ask(talk, *(str(n) * 5 for n in range(6)))
    # A quarter of the context stays free for the answer: 30 tokens for all that is seen.
    turns = ["33333", "你说33333", "44444", "你说44444", "55555"]
    assert echo.seen[-1] == ["好", *turns]
    assert len(talk.messages) == 12
    assert told[0].note == ("the oldest turn is left out: a context of 40 tokens is full")
    ask(talk, "6" * 25)
    assert echo.seen[-1] == ["好", "6" * 25]
    assert told[-1].note.startswith("the 3 oldest turns are left out")


def test_a_question_that_fits_not_even_alone_changes_nothing() -> None:
    told: list[Progress] = []
    talk = session(Echo(40), tell=told.append)
    ask(talk, "一")
    with pytest.raises(PromptTooLong, match=r"100 tokens, too many for a context of 40"):
        ask(talk, "长" * 100)
    assert (contents(talk.messages), talk.num_left_out, told) == (["一", "你说一"], 0, [])
    assert ask(talk, "二") == ["你说二"]


def test_a_conversation_is_saved_and_gone_on_with(tmp_path: Path) -> None:
    talk = session(Echo(), system="好")
    ask(talk, "一")
    talk.save(tmp_path / "talk.json")
    other = session(echo := Echo())
    other.load(tmp_path / "talk.json")
    ask(other, "二")
    assert echo.seen == [["好", "一", "你说一", "二"]]
    other.clear()
    assert (other.messages, other.system) == ([], "好")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[1]", "a JSON object is expected"),
        ("{}", "'messages' is no list of turns"),
        ('{"messages": [{"role": "wizard", "content": ""}]}', "turn 1 is no role"),
        ('{"messages": [{"role": "user", "content": 1}]}', "turn 1 is no role"),
        ('{"messages": [{"role": "user", "content": "a"}]}', "do not take turns"),
    ],
)
def test_a_file_that_holds_no_conversation_is_refused(
    tmp_path: Path, text: str, message: str
) -> None:
    (tmp_path / "talk.json").write_text(text)
    talk = session(Echo())
    ask(talk, "一")
    with pytest.raises(ArtifactError, match=message):
        talk.load(tmp_path / "talk.json")
    assert len(talk.messages) == 2
