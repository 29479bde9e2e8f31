"""How questions are put: the wordings of the reference, and MMLU's own."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from hanpaca.data.choice.questions import LETTERS, Question


@dataclass(frozen=True)
class QuestionWording:
    """The words around questions."""

    header: str
    """Before all, with the place {subject}."""
    header_alone: bool
    """Whether it stands before a question without examples too."""
    asks: str
    """Ends a question."""
    solved: str
    """Ends an example, with the place {answer}."""
    colon: str
    delimiter: str
    """Between `asks` and an answer that is more than a letter of the prompt."""
    around: str = "{prompt}"


_CHINESE = QuestionWording(
    header="以下是中国关于{subject}考试的单项选择题，请选出其中的正确答案。\n\n",
    header_alone=False,
    asks="\n答案：",
    solved="\n答案：{answer}\n\n",
    colon="：",
    delimiter="",
)
WORDINGS: Mapping[str, QuestionWording] = {
    "zh": _CHINESE,
    "alpaca": QuestionWording(
        header=_CHINESE.header,
        header_alone=False,
        asks="\n答案是什么？ ",
        solved=_CHINESE.solved,
        colon="：",
        delimiter="",
        around=(
            "Below is an instruction that describes a task. "
            "Write a response that appropriately completes the request.\n\n"
            "### Instruction:\n{prompt}\n\n### Response: "
        ),
    ),
    "en": QuestionWording(
        header="The following are multiple choice questions (with answers) about {subject}.\n\n",
        header_alone=True,
        asks="\nAnswer:",
        solved="\nAnswer: {answer}\n\n",
        colon=":",
        delimiter=" ",
    ),
    "chat": QuestionWording(
        header=_CHINESE.header,
        header_alone=False,
        asks="",
        solved=_CHINESE.solved,
        colon="：",
        delimiter="",
    ),
}
"""`zh` and `alpaca` as the reference asks a base and a tuned model, `en` as MMLU; `chat` is what a
user says in the model's own chat template."""


def prompt(
    question: Question,
    examples: Sequence[Question],
    wording: QuestionWording,
    *,
    subject: str,
    bare: bool,
) -> str:
    r"""The text up to the answer.

    >>> asked = Question("math", "1 + 1?", ("2", "3"), 0, "")
    >>> prompt(asked, (), WORDINGS["zh"], subject="数学", bare=False)
    '1 + 1?\nA. 2\nB. 3\n答案：'

    Args:
        question: What is asked.
        examples: Solved ones to go before.
        wording: The words around.
        subject: What it is called.
        bare: Leave the options out, for rules that score their texts.
    """
    shown = "".join(_solved(one, wording, bare=bare) for one in examples)
    headed = wording.header.replace("{subject}", subject)
    header = headed if examples or wording.header_alone else ""
    asked = _listed(question, bare=bare) + wording.asks
    return wording.around.replace("{prompt}", header + shown + asked)


def _solved(one: Question, wording: QuestionWording, *, bare: bool) -> str:
    answer = one.options[one.answer] if bare else LETTERS[one.answer]
    return _listed(one, bare=bare) + wording.solved.replace("{answer}", answer)


def _listed(one: Question, *, bare: bool) -> str:
    options = [] if bare else [f"\n{LETTERS[at]}. {text}" for at, text in enumerate(one.options)]
    return one.text + "".join(options)
