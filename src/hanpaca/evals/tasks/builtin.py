"""The tasks on builtin texts: what they are called, and when an answer is right."""

from collections import Counter
from collections.abc import Mapping, Sequence

from hanpaca.evals.results import TaskScore
from hanpaca.evals.tasks.suite.exact import names_answer
from hanpaca.evals.tasks.suite.translation import chrf

TITLES: Mapping[str, str] = {
    "law_of_article": "Which law an article is of",
    "idiom_of_meaning": "Which idiom a definition belongs to",
    "idiom_character": "The missing character of an idiom",
    "word_of_meaning": "Which word a definition belongs to",
    "parameter_name": "The English name of a parameter",
    "interface_phrase": "A phrase of an interface in English",
}


def is_right(text: str, answers: Sequence[str]) -> bool:
    """Whether an answer is one of those accepted, whatever its case and punctuation.

    >>> is_right("open file.", ["Open File", "Open a File"]), is_right("Open it", ["Open"])
    (True, False)
    """
    return names_answer(text, answers, ())[0]


def mean_chrf(pairs: Sequence[tuple[str, Sequence[str]]]) -> float:
    """Mean chrF of answers, each against the nearest of those accepted, whatever the case."""
    scores = [
        max(chrf(text.strip().casefold(), one.casefold()) for one in answers)
        for text, answers in pairs
    ]
    return sum(scores) / len(scores)


def constant_share(answers: Sequence[Sequence[str]]) -> float:
    """Share of questions that the answer accepted most often is right for.

    >>> constant_share([["Open"], ["Close", "Shut"], ["open"], ["Run"]])
    0.5
    """
    counts = Counter(name for some in answers for name in {one.casefold() for one in some})
    return max(counts.values()) / len(answers)


def above(score: TaskScore, baselines: Mapping[str, float]) -> str:
    """Whether a score's interval lies above all that knows nothing, in words."""
    told = f"{score.value:.1f} % right, 95 % interval {score.low:.1f} to {score.high:.1f}"
    best = max(baselines, key=lambda name: baselines[name])
    known = f"{best} ({baselines[best]:.1f} %)"
    if score.low > baselines[best]:
        return f"{told}: above {known}"
    if score.high < baselines[best]:
        return f"{told}: below {known}"
    return f"{told}: no difference to {known} is shown"
