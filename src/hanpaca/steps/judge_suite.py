"""Models' answers to the suite compared by a judge, if it stands the controls."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from itertools import combinations
from pathlib import Path

import numpy as np
from pydantic import TypeAdapter

from hanpaca.data.jsonl import appended_rows
from hanpaca.errors import ArtifactError, DataError, RecipeError
from hanpaca.evals.judge.controls import ControlReport, check_judge, control_pairs
from hanpaca.evals.judge.rates import Rate, length_controlled_rate, strengths, win_rate
from hanpaca.evals.judge.verdicts import JudgedTalk, Outcome, compare
from hanpaca.evals.tasks.suite.prompts import JUDGE, Suite, load_suite
from hanpaca.evals.tasks.suite.score import SuiteResult
from hanpaca.files import digest_of, locked, telling_where, whole
from hanpaca.inference.calls import CallFile, Workers
from hanpaca.inference.endpoint import Endpoint, QuestionTooLong
from hanpaca.progress import Progress, Tell, silent
from hanpaca.steps.answer_suite import read_suite_results

__all__ = ["PAIR_HEADER", "Endpoint", "JudgeReport", "judge_suite", "pair_rows", "talks_of"]
_FOLDER, _REPLIES, _REPORT = "judged", "replies.jsonl", "report.json"
_AT_ONCE = 4
PAIR_HEADER = ("better than", "%", "95 %", "at equal length", "95 %", "flips", "prompts")


@dataclass(frozen=True)
class JudgedPair:
    """One model against another."""

    model: str
    other: str
    rate: Rate
    """Of wins of `model`, ties half."""
    at_equal_length: Rate
    """What it would be if both wrote as much."""
    flip_rate: float
    """Share of prompts on which the judge contradicted itself when the answers changed places."""
    unreadable: int
    """Replies without a verdict."""
    scores: Mapping[str, float]
    """By prompt: 1, ½ or 0 for `model`."""
    too_long: tuple[str, ...] = ()
    """Prompts that were left out, as the judge had no room for both answers."""


@dataclass(frozen=True)
class JudgeReport:
    """What a judge found."""

    judge: str
    suite: str
    controls: ControlReport
    pairs: tuple[JudgedPair, ...]
    strengths: Mapping[str, tuple[float, float, float]]
    """Bradley-Terry log-odds with their intervals; of three models or more."""


def judge_suite(
    folder: Path | str,
    endpoint: Endpoint,
    *,
    suite: Suite | None = None,
    seed: int = 0,
    tell: Tell = silent,
) -> JudgeReport:
    """Compare every two models on the prompts that a judge can judge.

    Each pair is judged in both orders, and a verdict counts only if they agree. Every reply is kept
    in `judged/replies.jsonl` by a hash of what was asked, and asked for once.

    >>> judge_suite("answers", Endpoint("http://127.0.0.1:8080/v1", "judge"))  # doctest: +SKIP

    Args:
        folder: What `answer_suite` wrote, of two models or more.
        endpoint: The judge.
        suite: That was answered; None for the one that comes with the package.
        seed: Of the bootstrap.
        tell: Told how far it is.

    Raises:
        ArtifactError: The judge fails its controls, or refuses; or there are no two models.
        DataError: The answers are to other prompts.
        RecipeError: The key is missing.
        ResourceError: The judge cannot be reached.
    """
    folder = Path(folder)
    results = read_suite_results(folder)
    if len(results) < 2:
        raise RecipeError(f"{folder}: a judge compares models, and here is one")
    suite = suite or load_suite(seed=results[0].seed)
    talks = {result.model: talks_of(result, suite) for result in results}
    place = folder / _FOLDER
    with telling_where(place), locked(place):
        replies = _Replies(endpoint, place / _REPLIES)
        tell(Progress(0, note="asking the judge about pairs whose better answer is known"))
        controls = check_judge(replies.ask, control_pairs())
        if not controls.passed:
            told = "; ".join(controls.faults)
            raise ArtifactError(f"{endpoint.model} is no judge: {told}", "give another {model}")
        pairs = _judged(talks, replies, seed, tell)
        report = JudgeReport(
            endpoint.model,
            suite.version,
            controls,
            tuple(pairs),
            _strengths(pairs, list(talks), seed) if len(talks) > 2 else {},
        )
        with whole(place / _REPORT, replace=True) as half:
            text = TypeAdapter(JudgeReport).dump_json(report, indent=2).decode()
            half.write_text(text + "\n", encoding="utf-8")
    return report


def talks_of(result: SuiteResult, suite: Suite) -> dict[str, JudgedTalk]:
    """A model's answers to the prompts that are judged, by the name of the prompt.

    Raises:
        DataError: They are answers to another suite.
    """
    check_answered(result, suite)
    notes = {one.name: one.notes for one in suite.prompts if JUDGE in one.layers}
    return {
        one.said.name: JudgedTalk(one.turns, one.said.answers, notes[one.said.name])
        for one in result.answers
        if one.said.name in notes
    }


def check_answered(result: SuiteResult, suite: Suite) -> None:
    """Raise where a model answered another suite.

    Raises:
        DataError: It did.
    """
    if result.suite != suite.version or result.seed != suite.seed:
        told = f"{result.model} answered suite {result.suite}, seed {result.seed}"
        raise DataError(
            f"{told}; this is {suite.version}, seed {suite.seed}",
            "answer it anew, or give the {prompts} that were answered",
        )


def pair_rows(report: JudgeReport) -> list[tuple[str, ...]]:
    """One row a pair for `PAIR_HEADER`, without a winner where the interval shows none."""
    rows: list[tuple[str, ...]] = []
    for one in report.pairs:
        sign = ">" if one.rate.low > 50 else "<" if one.rate.high < 50 else "no difference shown"
        models = f"{one.model}, {one.other}: {sign}"
        name = f"{one.model} {sign} {one.other}" if len(sign) == 1 else models
        raw, even = one.rate, one.at_equal_length
        rows.append(
            (
                name,
                f"{raw.value:.1f}",
                f"{raw.low:.1f}–{raw.high:.1f}",
                f"{even.value:.1f}",
                f"{even.low:.1f}–{even.high:.1f}",
                f"{100 * one.flip_rate:.0f} %",
                f"{len(one.scores)}",
            )
        )
    return rows


def _judged(
    talks: Mapping[str, Mapping[str, JudgedTalk]], replies: "_Replies", seed: int, tell: Tell
) -> list[JudgedPair]:
    """Every two models; where it is interrupted, open calls are not waited for."""
    workers = Workers(_AT_ONCE)
    pairs = list(combinations(talks, 2))
    total = len(pairs) * len(next(iter(talks.values())))
    found: list[JudgedPair] = []
    try:
        for one, other in pairs:
            done = sum(len(pair.scores) + len(pair.too_long) for pair in found)
            outcomes = _compared(
                talks[one], talks[other], replies, workers, _after(done, total, tell)
            )
            if not outcomes:
                raise ArtifactError(
                    f"{one}, {other}: every comparison is too long for the judge",
                    "give another {model}, or one with a longer context",
                )
            lengths = [
                (talks[one][name].num_characters, talks[other][name].num_characters)
                for name in outcomes
            ]
            too_long = tuple(name for name in talks[one] if name not in outcomes)
            found.append(replace(_pair(one, other, outcomes, lengths, seed), too_long=too_long))
    finally:
        replies.stop()
        workers.stop()
    return found


def _compared(
    talks: Mapping[str, JudgedTalk],
    others: Mapping[str, JudgedTalk],
    replies: "_Replies",
    workers: Workers,
    tell: Tell,
) -> dict[str, Outcome]:
    """By prompt: what the judge found, without those that it has no room for."""
    asked = {
        name: workers.submit(partial(compare, talk, others[name], replies.ask))
        for name, talk in talks.items()
    }
    outcomes: dict[str, Outcome] = {}
    for done, (name, outcome) in enumerate(asked.items(), 1):
        with suppress(QuestionTooLong):
            outcomes[name] = outcome.result()
        tell(Progress(done))
    return outcomes


def _after(before: int, total: int, tell: Tell) -> Tell:
    return lambda sign: tell(Progress(before + sign.done, total, "pairs", "judging"))


def _pair(
    one: str,
    other: str,
    outcomes: Mapping[str, Outcome],
    lengths: Sequence[tuple[int, int]],
    seed: int,
) -> JudgedPair:
    scores = {name: outcome.score for name, outcome in outcomes.items()}
    return JudgedPair(
        one,
        other,
        win_rate(list(scores.values()), seed=seed),
        length_controlled_rate(list(scores.values()), lengths, seed=seed),
        sum(outcome.flipped for outcome in outcomes.values()) / len(outcomes),
        sum(outcome.unreadable for outcome in outcomes.values()),
        scores,
    )


def _strengths(
    pairs: Sequence[JudgedPair], models: Sequence[str], seed: int
) -> dict[str, tuple[float, float, float]]:
    names = [name for name in pairs[0].scores if all(name in pair.scores for pair in pairs)]
    wins = np.zeros((len(names), len(models), len(models)))
    for pair in pairs:
        one, other = models.index(pair.model), models.index(pair.other)
        scores = np.array([pair.scores[name] for name in names])
        wins[:, one, other], wins[:, other, one] = scores, 1 - scores
    return dict(zip(models, strengths(wins, seed=seed), strict=True))


class _Replies:
    """A judge whose every reply is kept."""

    def __init__(self, endpoint: Endpoint, file: Path) -> None:
        self._endpoint, self._file = endpoint, CallFile(endpoint, file)
        self._known = {row["asked"]: str(row["reply"]) for row in appended_rows(file)}

    def ask(self, messages: Sequence[Mapping[str, str]]) -> str:
        """The reply to a conversation: the one that is kept, or a new one; for several threads."""
        request = self._endpoint.request(messages)
        asked = digest_of([self._endpoint.url, request])
        if (kept := self._known.get(asked)) is not None:
            return kept
        self._file.go_on()
        reply = self._endpoint.complete(request, sleep=self._file.sleep).text
        told = {name: request[name] for name in ("model", "temperature", "seed")}
        self._file.write({"asked": asked, **told, "reply": reply})
        self._known[asked] = reply
        return reply

    def stop(self) -> None:
        """Begin nothing more, write nothing more, and end the connections."""
        self._file.stop()
