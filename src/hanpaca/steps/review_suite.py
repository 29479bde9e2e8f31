"""Answers to the suite compared by people, blindly, and how far they agree with a judge."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from hanpaca.errors import ArtifactError, DataError, RecipeError
from hanpaca.evals.judge.agreement import Agreement, agreement
from hanpaca.evals.judge.rates import Rate, win_rate
from hanpaca.evals.tasks.suite.prompts import PEOPLE, Suite, load_suite
from hanpaca.evals.tasks.suite.score import SuiteResult
from hanpaca.files import digest_of, parse_json, read_bytes, whole
from hanpaca.report.review_page import ReviewPair, review_page
from hanpaca.report.wording import ENGLISH, checked_language
from hanpaca.steps.answer_suite import read_suite_results
from hanpaca.steps.judge_suite import JudgeReport, check_answered

_WORTH = {"left": 1.0, "tie": 0.5, "right": 0.0}
_REPORT = "judged/report.json"


@dataclass(frozen=True)
class Reviews:
    """What people found of two models, and how far they agree."""

    models: tuple[str, str]
    rates: Mapping[str, Rate]
    """By reviewer: wins of the first model."""
    among_people: Mapping[str, Agreement]
    """By two reviewers."""
    with_judge: Mapping[str, Agreement]
    """By reviewer; empty where no judge compared the two."""


def review_suite(
    folder: Path | str,
    output: Path | str,
    *,
    models: Sequence[str] = (),
    suite: Suite | None = None,
    seed: int = 0,
    lang: str = ENGLISH,
) -> int:
    """Write a page on which people compare two models' answers without knowing whose they are.

    Args:
        folder: What `answer_suite` wrote.
        output: The page, one HTML file; a file of this name is replaced.
        models: The two; may be left out where there are no more.
        suite: That was answered; None for the one that comes with the package.
        seed: Of the order of prompts and sides.
        lang: Of the words around the answers.

    Returns:
        How many prompts are on it.

    Raises:
        ArtifactError: There are no answers.
        DataError: They are answers to another suite.
        RecipeError: There are no two such models, or no prompt is for people.
    """
    results = read_suite_results(Path(folder))
    one, other = _two(results, models, str(folder))
    suite = suite or load_suite(seed=one.seed)
    check_answered(one, suite)
    notes = {prompt.name: prompt.notes for prompt in suite.prompts if PEOPLE in prompt.layers}
    pairs = []
    both = {said.said.name: said for said in other.answers}
    review = _review(one, other, seed)
    for answer in one.answers:
        name = answer.said.name
        if name not in notes:
            continue
        sides = (answer.said.answers, both[name].said.answers)
        left, right = sides[::-1] if _swapped(review, name) else sides
        pairs.append(ReviewPair(name, answer.turns, left, right, notes[name]))
    if not pairs:
        raise RecipeError(f"{folder}: none of the suite's prompts is for people")
    pairs.sort(key=lambda pair: _draw(review, f"place of {pair.name}"))
    page = review_page("Which answer is better?", pairs, review=review, lang=checked_language(lang))
    with whole(Path(output), replace=True) as half:
        half.write_text(page, encoding="utf-8")
    return len(pairs)


def read_reviews(
    folder: Path | str, files: Sequence[Path | str], *, models: Sequence[str] = (), seed: int = 0
) -> Reviews:
    """Read what people saved, and compare them with each other and with the judge.

    Args:
        folder: What `answer_suite` wrote; with `judge_suite`'s report where there is one.
        files: That the page saved.
        models: As given to `review_suite`.
        seed: As given to `review_suite`.

    Raises:
        ArtifactError: A file is damaged, or of other answers.
        DataError: Somebody judged fewer than two prompts, or two none in common.
        RecipeError: There are no two such models, or one person's file is given twice.
    """
    one, other = _two(read_suite_results(Path(folder)), models, str(folder))
    review = _review(one, other, seed)
    people: dict[str, dict[str, float]] = {}
    for number, file in enumerate(files, 1):
        name, votes = _votes(Path(file), review)
        if unknown := votes.keys() - {answer.said.name for answer in one.answers}:
            raise ArtifactError(f"{file}: no prompt is called {min(unknown)!r}")
        if len(votes) < 2:
            raise DataError(f"{file}: of {len(votes)} prompts; at least 2 must be judged")
        if (known := people.get(name)) == votes and known is not None:
            told = f"{file}: the judgements of {name or 'a reviewer'} are given twice"
            raise RecipeError(told, "give each person's file once")
        people[name if name and name not in people else f"{name or 'reviewer'} {number}"] = votes
    judge = _judged(Path(folder), one.model, other.model)
    return Reviews(
        (one.model, other.model),
        {name: win_rate(list(votes.values()), seed=seed) for name, votes in people.items()},
        {
            f"{first}, {second}": agreement(people[first], people[second], seed=seed)
            for first, second in combinations(people, 2)
        },
        {name: agreement(votes, judge, seed=seed) for name, votes in people.items() if judge},
    )


def _two(
    results: Sequence[SuiteResult], models: Sequence[str], folder: str
) -> tuple[SuiteResult, SuiteResult]:
    by_name = {one.model: one for one in results}
    wanted = tuple(models) or tuple(by_name)
    if len(wanted) != 2 or not set(wanted) <= by_name.keys() or len(set(wanted)) < 2:
        raise RecipeError(f"{folder}: has {', '.join(by_name)}", "name two of them with {models}")
    return by_name[wanted[0]], by_name[wanted[1]]


def _review(one: SuiteResult, other: SuiteResult, seed: int) -> str:
    """Says which answers are compared in which order, without naming a model."""
    said = [[answer.said.answers for answer in result.answers] for result in (one, other)]
    return digest_of([seed, one.suite, said])[:16]


def _swapped(review: str, name: str) -> bool:
    return _draw(review, name) % 2 == 1


def _draw(review: str, name: str) -> int:
    return int.from_bytes(hashlib.sha256(f"{review}:{name}".encode()).digest()[:8])


def _votes(file: Path, review: str) -> tuple[str, dict[str, float]]:
    """Who judged, and by prompt what it is worth to the first model."""
    tree = parse_json(read_bytes(file), str(file))
    votes = tree.get("votes")
    if not isinstance(votes, dict) or not set(map(str, votes.values())) <= _WORTH.keys():
        raise ArtifactError(f"{file}: no judgements of a review page")
    if tree.get("review") != review:
        raise ArtifactError(f"{file}: judgements of other answers, or of another seed")
    found = {}
    for name, side in votes.items():
        worth = _WORTH[side]
        found[name] = 1 - worth if _swapped(review, name) else worth
    return str(tree.get("reviewer") or ""), found


def _judged(folder: Path, one: str, other: str) -> dict[str, float]:
    """A judge's scores of the first against the second; empty where there are none."""
    file = folder / _REPORT
    if not file.is_file():
        return {}
    try:
        tree = parse_json(read_bytes(file), str(file))
        report = TypeAdapter(JudgeReport).validate_python(tree)
    except ValidationError as error:
        raise ArtifactError(f"{file}: no report of a judge") from error
    for pair in report.pairs:
        if (pair.model, pair.other) == (one, other):
            return dict(pair.scores)
        if (pair.model, pair.other) == (other, one):
            return {name: 1 - score for name, score in pair.scores.items()}
    return {}
