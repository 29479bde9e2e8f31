"""Who judges the answer to a held-out question: the task that the question comes from, or nobody.

A question of the idioms names its `word`. Of a user's own conversations nothing says what makes an
answer right, so these are shown beside the answer that was held out, without a verdict.
"""

from collections.abc import Mapping

from hanpaca.evals.answers import Verdict
from hanpaca.evals.tasks.idioms import judge_answer


def judged(question: Mapping[str, str], answer: str, *, stopped: bool) -> Verdict | None:
    """Judge an answer as the question's task does; None where no task has a judge for it.

    Args:
        question: With `question` and `reference`, and what its task needs.
        answer: What came back.
        stopped: Whether the model ended it by itself.
    """
    word = question.get("word")
    return judge_answer(answer, word=word, stopped=stopped).as_verdict() if word else None
