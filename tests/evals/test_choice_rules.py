"""Which ids a rule asks for, and what it makes of the log-probabilities."""

import math
from collections.abc import Callable

import pytest

from hanpaca.errors import ArtifactError
from hanpaca.evals.choice.rules import ChoiceRequest, Cue, Scored, ask, pick, scores

CHINESE, ENGLISH = Cue("：", ""), Cue(":", " ")
OPTIONS = ("one", "two", "three", "four")
Encode = Callable[[str], list[int]]


def said(log_ps: tuple[float, ...], log_sum: float | None = None) -> Scored:
    return Scored(log_ps, (False,) * len(log_ps), log_sum)


def letters(text: str) -> list[int]:
    """A tokenizer with an id a character."""
    return [ord(letter) for letter in text]


def pieces(text: str) -> list[int]:
    """As SentencePiece: a letter at the beginning or after a space is another piece."""
    found, text = [], "▁" + text.replace(" ", "▁")
    while text:
        size = 2 if text[0] == "▁" and text[1:2].isascii() and text[1:2].isalpha() else 1
        found.append(sum(ord(letter) << 17 * at for at, letter in enumerate(text[:size])))
        text = text[size:]
    return found


def test_letter_and_lm_eval_ask_for_other_ids() -> None:
    for rule, wanted in (("letter", "A"), ("lm-eval", " A")):
        asked = ask(rule, "问：", OPTIONS, encode=letters, cue=CHINESE)  # type: ignore[arg-type]
        assert asked.candidates[0] == tuple(letters(wanted))
        assert asked.prompt == tuple(letters("问："))
        assert not asked.with_sum


def test_in_english_a_letter_comes_after_a_space() -> None:
    asked = ask("letter", "Answer:", OPTIONS, encode=pieces, cue=ENGLISH)
    assert asked.candidates == tuple((pieces(one)[0],) for one in "ABCD")
    assert ask("text", "Answer:", OPTIONS, encode=letters, cue=ENGLISH).candidates[1] == tuple(
        letters(" two")
    )


def test_spaces_at_the_end_of_a_prompt_belong_to_the_continuation() -> None:
    asked = ask("lm-eval", "Response: ", ("x", "y"), encode=letters, cue=CHINESE)
    assert asked.prompt == tuple(letters("Response:"))
    assert asked.candidates == (tuple(letters("  A")), tuple(letters("  B")))


def test_reference_and_paper_ask_for_a_letter_alone_and_after_a_colon() -> None:
    asked = ask("reference", "问：", OPTIONS, encode=pieces, cue=CHINESE)
    assert asked.candidates[:4] == tuple((pieces(one)[0],) for one in "ABCD")
    assert asked.candidates[4:] == tuple((ord(one),) for one in "ABCD")
    assert asked.with_sum
    assert not ask("paper", "问：", OPTIONS, encode=pieces, cue=CHINESE).with_sum


def test_the_penalty_of_the_reference_falls_on_what_stands_in_the_prompt() -> None:
    asked = ChoiceRequest((5, 1), ((1,), (2,), (3,), (4,)), with_sum=True)
    got = scores("reference", asked, said((-1.0, -9.0, -2.0, -3.0), 6.0), ("a", "b"))
    # Logits 5, -3, 4, 3; the first is penalised.
    assert got == pytest.approx(((5 / 1.1 + 4) / 0.2, (-3 + 3) / 0.2))
    low = scores("reference", asked, said((-11.0, -9.0, -2.0, -3.0), 6.0), ("a", "b"))
    assert low[0] == pytest.approx((-5 * 1.1 + 4) / 0.2)


def test_the_paper_adds_probabilities_and_counts_one_token_once() -> None:
    scored = said(tuple(math.log(p) for p in (0.1, 0.2, 0.3, 0.05)))
    asked = ChoiceRequest((9,), ((1,), (2,), (3,), (4,)))
    assert scores("paper", asked, scored, ("a", "b")) == pytest.approx(
        (math.log(0.4), math.log(0.25))
    )
    same = ChoiceRequest((9,), ((1,), (2,), (1,), (2,)))
    assert scores("paper", same, scored, ("a", "b")) == pytest.approx(
        (math.log(0.1), math.log(0.2))
    )


def test_text_is_a_character_and_text_sum_is_not() -> None:
    asked = ask("text", "Q", ("ab", "abcd"), encode=letters, cue=CHINESE)
    scored = said((-4.0, -6.0))
    assert scores("text", asked, scored, ("ab", "abcd")) == (-2.0, -1.5)
    assert scores("text-sum", asked, scored, ("ab", "abcd")) == (-4.0, -6.0)
    assert pick(scores("text", asked, scored, ("ab", "abcd"))) == 1
    assert pick(scores("text-sum", asked, scored, ("ab", "abcd"))) == 0


def test_the_first_of_equal_scores_is_picked() -> None:
    assert pick((-1.0, -1.0)) == 0


@pytest.mark.parametrize(
    ("rule", "encode"),
    [
        # With a small vocabulary every letter alone begins with the same piece.
        ("reference", lambda text: [0, *letters(text)]),
        ("letter", lambda text: letters(text)[:-1] if text[-1] in "AB" else letters(text)),
        # A letter that swallows the sign before it is no token of its own.
        ("letter", lambda text: [ord(text[-1])] if text[-1] == "A" else letters(text)),
    ],
)
def test_letters_without_tokens_of_their_own_are_refused(rule: str, encode: Encode) -> None:
    with pytest.raises(ArtifactError, match="no token of its own") as caught:
        ask(rule, "问：", OPTIONS, encode=encode, cue=CHINESE)  # type: ignore[arg-type]
    assert "rule=" in str(caught.value)
