"""A held-out question is judged by the task it comes from, or by nobody."""

from dataclasses import replace

from hanpaca.evals.answers import HeldoutResult
from hanpaca.evals.tasks.judges import judged
from hanpaca.report.run_page import run_page
from tests.support.pages import in_language, quickstart


def test_a_question_of_the_idioms_is_judged_as_such() -> None:
    found = judged({"word": "画蛇添足", "question": "?"}, "比喻多此一举，反而坏事。", stopped=True)
    assert found is not None
    assert found.passed


def test_any_other_question_has_no_verdict() -> None:
    for row in ({"word": "", "question": "?"}, {"question": "?"}):
        assert judged(row, "한강입니다.", stopped=True) is None


def test_a_korean_run_with_own_questions_is_shown_without_verdicts_and_says_korean() -> None:
    result = in_language(quickstart(), "ko")
    models = tuple(replace(one, heldout=None) for one in result.models)
    example = HeldoutResult("chat", "", "가장 긴 강은?", "한강입니다.", "낙동강입니다.")
    goals = result.goals[:0]
    page = run_page(
        replace(result, models=models, heldout_examples=(example,), goals=goals, notes=())
    )
    assert "Language: Korean." in page
    assert "Korean: bits per character (lower is better)" in page
    assert "<th>the answer held out</th></tr>" in page
    assert "낙동강입니다." in page
    for word in ("Chinese", "dictionary", "passed", "held-out answers"):
        assert word not in page


def test_judged_and_unjudged_questions_may_stand_together() -> None:
    result = quickstart()
    example = HeldoutResult("chat", "", "How long?", "Long.", "Short.")
    page = run_page(replace(result, heldout_examples=(*result.heldout_examples, example)))
    assert ">not judged</td>" in page
    assert ">yes</td>" in page
