"""One comparison, both orders; and judges that the controls find out."""

import pytest

from hanpaca.evals.judge.controls import check_judge, control_pairs
from hanpaca.evals.judge.rates import win_rate
from hanpaca.evals.judge.verdicts import (
    JudgedTalk,
    Messages,
    Outcome,
    compare,
    question,
    verdict_of,
)

SHORT, LONG = JudgedTalk(("问",), ("短",)), JudgedTalk(("问",), ("长" * 9,))
GOOD = {one.good.answers[0] for one in control_pairs()}


def answers_in(messages: Messages) -> tuple[str, str]:
    """What assistant A and assistant B said last."""
    text = messages[-1]["content"]
    first = text.split("\nAssistant A: ")[-1].split("\n[End of the conversation with assistant A]")
    second = text.split("\nAssistant B: ")[-1].split("\n[End of the conversation with assistant B]")
    return first[0], second[0]


def always_first(messages: Messages) -> str:
    return "[[A]]"


def longer(messages: Messages) -> str:
    first, second = answers_in(messages)
    return (
        "[[C]]" if len(first) == len(second) else "[[A]]" if len(first) > len(second) else "[[B]]"
    )


def careful(messages: Messages) -> str:
    first, second = answers_in(messages)
    if first == second:
        return "They are the same. [[C]]"
    text = messages[-1]["content"].split("User: ")[1]
    own = next(one.good.answers[0] for one in control_pairs() if one.good.turns[0] in text)
    return "[[A]]" if first == own else "[[B]]"


@pytest.mark.parametrize(
    ("reply", "worth"),
    [
        *(("[[A]]", 1.0), ("[[B]]", 0.0), ("[[C]]", 0.5), ("[[tie]]", 0.5), ("[[ b ]]", 0.0)),
        *(("First I thought [[A]], but no: [[B]]", 0.0), ("A is better", None), ("", None)),
        *(("[A]", None), ("[[D]]", None)),
    ],
)
def test_a_verdict_is_the_last_one_in_a_reply(reply: str, worth: float | None) -> None:
    assert verdict_of(reply) == worth


def test_both_orders_must_agree() -> None:
    assert compare(LONG, SHORT, longer) == Outcome(1.0, flipped=False, unreadable=0)
    assert compare(SHORT, LONG, longer) == Outcome(0.0, flipped=False, unreadable=0)
    assert compare(LONG, SHORT, always_first) == Outcome(0.5, flipped=True, unreadable=0)
    assert compare(LONG, LONG, longer) == Outcome(0.5, flipped=False, unreadable=0)
    assert compare(LONG, SHORT, lambda messages: "?") == Outcome(0.5, flipped=False, unreadable=2)


def test_a_judge_that_always_says_first_gives_half_and_flips_always() -> None:
    found = [compare(JudgedTalk(("问",), (str(n),)), SHORT, always_first) for n in range(40)]
    rate = win_rate([one.score for one in found])
    assert (rate.value, rate.low, rate.high) == (50, 50, 50)
    assert all(one.flipped for one in found)


def test_a_conversation_is_judged_as_a_whole() -> None:
    talk = JudgedTalk(("一问", "二问"), ("一答", "二答"), notes="要点")
    asked = question(talk, talk)[-1]["content"]
    places = [asked.index(one) for one in ("要点", "一问", "一答", "二问", "二答")]
    assert places == sorted(places)
    assert asked.count("二答") == 2


def test_there_are_twenty_controls_of_three_kinds() -> None:
    kinds = [one.kind for one in control_pairs()]
    assert len(kinds) == 20
    assert [kinds.count(kind) for kind in ("same", "worse", "padded")] == [5, 10, 5]
    assert len({one.other.answers for one in control_pairs() if one.kind == "worse"}) >= 7


def test_a_careful_judge_passes_and_others_are_found_out() -> None:
    assert check_judge(careful, control_pairs()).passed
    assert check_judge(always_first, control_pairs()).faults[0].startswith("called equal answers")
    found = check_judge(longer, control_pairs())
    assert found.padded == 1.0
    assert not found.passed
    assert check_judge(lambda messages: "?", control_pairs()).right == 0
