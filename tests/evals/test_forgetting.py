"""Short English questions before and after, and what is said of them."""

from collections.abc import Sequence

import numpy as np
import pytest

from hanpaca.errors import DataError
from hanpaca.evals.tasks.forgetting import (
    abilities,
    answers_kept,
    bits_kept,
    mcnemar,
    right_answers,
)
from hanpaca.evals.tasks.suite.checks import check_answer

ASKED = abilities()


def test_there_are_sixty_questions_each_asked_once() -> None:
    assert len(ASKED) >= 60
    assert len({one.question for one in ASKED}) == len(ASKED)
    assert {one.kind for one in ASKED} == {"facts", "instructions"}
    with pytest.raises(DataError, match="no short questions in 'xx'"):
        abilities("xx")


def test_what_is_asked_for_is_right_and_something_else_is_not() -> None:
    for one in ASKED:
        if "answers" in one.check:
            assert all(check_answer(one.check, text).loose for text in one.check["answers"])
        if "number" in one.check:
            assert check_answer(one.check, f"It is {one.check['number']}.").loose
        assert not check_answer(one.check, "比喻做事多此一举，反而坏事。").loose, one.question


def test_answers_come_in_the_order_of_the_questions() -> None:
    def answer(questions: Sequence[str]) -> list[str]:
        return ["Paris" if "France" in one else "" for one in questions]

    found = right_answers(answer, ASKED)
    assert [one.question for one, right in zip(ASKED, found, strict=True) if right] == [
        "What is the capital of France?"
    ]
    with pytest.raises(DataError, match="had 0 answers"):
        right_answers(lambda questions: [], ASKED)


@pytest.mark.parametrize(
    ("lost", "gained", "p"),
    [
        # 2 * P(X <= min) of a binomial of lost + gained throws of a fair coin, by hand.
        *((0, 0, 1.0), (1, 0, 1.0), (6, 0, 2 / 64), (7, 1, 2 * 9 / 256), (5, 5, 1.0)),
        (15, 5, 2 * (1 + 20 + 190 + 1140 + 4845 + 15504) / 2**20),
    ],
)
def test_mcnemars_test(lost: int, gained: int, p: float) -> None:
    assert mcnemar(lost, gained) == pytest.approx(p)
    assert mcnemar(gained, lost) == mcnemar(lost, gained)


def test_did_not_suffer_is_said_only_where_the_interval_says_so() -> None:
    right = [True] * 40 + [False] * 24
    same = answers_kept(right, right)
    assert (same.judgement, same.share, same.p_value) == ("did not suffer", 1.0, 1.0)
    gone = answers_kept(right, [True] * 8 + [False] * 56)
    assert gone.judgement == "suffered"
    assert gone.p_value < 1e-8
    # Four lost of ten: a share of 60 % to 90 % and not told apart from none by four gained.
    few = answers_kept([True] * 10 + [False] * 10, [True] * 6 + [False] * 10 + [True] * 4)
    assert few.judgement == "not shown either way"
    # As many right, though not the same ones: the interval knows.
    other = answers_kept([True] * 20 + [False] * 20, [False] * 20 + [True] * 20)
    assert (other.share, other.judgement) == (1.0, "not shown either way")
    assert "20 lost, 20 gained" in str(other)
    with pytest.raises(DataError, match="no answer was right before"):
        answers_kept([False], [True])
    with pytest.raises(DataError, match="are 2 after"):
        answers_kept([True], [True, False])


def test_bits_are_compared_text_by_text() -> None:
    generator = np.random.default_rng(0)
    before = generator.uniform(100, 5_000, 60)
    assert bits_kept(before.tolist(), (before * 1.01).tolist()).judgement == "did not suffer"
    assert bits_kept(before.tolist(), (before * 1.05).tolist()).judgement == "suffered"
    noisy = before * generator.normal(1.01, 0.1, 60)
    found = bits_kept(before.tolist(), noisy.tolist())
    assert found.judgement == "not shown either way"
    assert found.low < found.ratio < found.high
    said = bits_kept(before.tolist(), (before * 1.05).tolist()).sentence("English")
    assert said == (
        "English text takes the final model 105.0% of the base's bits per character, 95 % interval "
        "105.0% to 105.0% over 60 texts in pairs. English text: suffered."
    )
    with pytest.raises(DataError, match="the same two at least"):
        bits_kept([1.0], [1.0])


def test_the_interval_of_a_share_holds_the_truth() -> None:
    generator = np.random.default_rng(3)
    held = 0
    for number in range(150):
        old = generator.random(64) < 0.7
        new = np.where(old, generator.random(64) < 0.8, generator.random(64) < 0.1)
        found = answers_kept(old.tolist(), new.tolist(), seed=number)
        held += found.low <= (0.7 * 0.8 + 0.3 * 0.1) / 0.7 <= found.high
    assert 133 <= held <= 149
