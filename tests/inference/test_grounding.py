"""What a model is asked in place of a question: as many passages as leave room for an answer."""

from collections.abc import Sequence

import pytest

from hanpaca.inference.engine import Answer, Messages, Pieces, PromptTooLong
from hanpaca.inference.grounding import Answering, Grounding
from hanpaca.inference.sampling import Sampling

CONTEXT = 100


def asked_in(context: int, seen: list[str]) -> object:
    """A model that counts characters as tokens."""

    def ask(messages: Messages, sampling: Sampling, least_room: int) -> Pieces:
        prompt = str(messages[-1]["content"])
        if len(prompt) + least_room > context:
            raise PromptTooLong(len(prompt), context)
        seen.append(prompt)
        yield "said"
        return Answer("said", 1, 0.0, stopped=True)

    return ask


@pytest.mark.parametrize(
    ("lengths", "taken"),
    [([90, 80, 70], 70), ([90, 75, 20], 75), ([60, 40, 20], 60), ([200, 150, 99], 99)],
)
def test_passages_leave_room_for_the_answer_while_one_can_be_left_out(
    lengths: Sequence[int], taken: int
) -> None:
    seen: list[str] = []
    prompts = ["p" * length for length in lengths]
    sources = [{"number": number} for number in range(1, 4)]
    told: list[Sequence[dict[str, object]]] = []
    answering = Answering(
        asked_in(CONTEXT, seen),  # type: ignore[arg-type]
        lambda question: Grounding(sources, prompts, "nothing"),
        CONTEXT // 4,
        told.append,
    )
    pieces = list(answering([{"role": "user", "content": "?"}], Sampling(), 1))
    assert pieces == ["said"]
    assert [len(one) for one in seen] == [taken]
    assert len(told[0]) == 3 - lengths.index(taken)
