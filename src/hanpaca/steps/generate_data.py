"""Make instructions with answers by asking another model, and keep the rows that are worth it."""

import hashlib
import json
import random
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

from hanpaca.data.cleaning.characters import normalised
from hanpaca.data.cleaning.evaluation import evaluation_texts
from hanpaca.data.cleaning.leaks import Grams
from hanpaca.data.generating.card import Making, card, without_secrets
from hanpaca.data.generating.judging import RowJudge
from hanpaca.data.generating.materials import passages_of, questions_of
from hanpaca.data.generating.settings import GenerateSettings
from hanpaca.data.generating.talks import MadeRow, Sources, Talk, TalkCall, TalkReply
from hanpaca.data.generating.turns import user_turn
from hanpaca.data.generating.words import generating_words
from hanpaca.data.generating.writing import RowFiles
from hanpaca.errors import HanpacaError, RecipeError, ResourceError
from hanpaca.evals.tasks.suite.quality import loops
from hanpaca.files import digest_of, remove, resumable
from hanpaca.inference.budget import Budget, BudgetSpent
from hanpaca.inference.calls import KeptCalls, Workers
from hanpaca.inference.endpoint import Endpoint, QuestionTooLong
from hanpaca.progress import Progress, Tell, silent
from hanpaca.steps.chat import read_template

_CALLS, _CARD = "calls.jsonl", "README.md"
_VERSION = 1
"""Of what is asked and kept by the same settings."""
_CALLS_PER_ROW = 20
_AHEAD = 4
"""Rows begun for each call that is open at a time: one that takes long holds up no other."""
_NUM_TRIES = 10
_SAMPLE = 200
"""Rows whose prompts an estimate is made from."""
Ask = Callable[[TalkCall], tuple[str, TalkReply]]


@dataclass(frozen=True)
class GenerateReport:
    """What came of it."""

    num_rows: int
    num_made: int
    """Rows that were judged."""
    dropped: Mapping[str, int]
    """By reason."""
    num_calls: int
    """Attempts, those of interrupted runs included."""
    num_tokens: tuple[int, int]
    """Of prompts and of replies."""
    cost: float
    """At the prices given."""


@dataclass(frozen=True)
class GenerateEstimate:
    """What rows take at most, if none of them has to go and no call fails."""

    num_calls: int
    input_tokens: int
    """Bytes, of which no tokenizer makes more tokens; of Chinese about half as many or fewer."""
    output_tokens: int
    """The limit of each reply, which few reach."""
    cost: float


def generate_data(
    output: Path | str,
    *,
    url: str,
    model: str,
    key_from: str | None = None,
    settings: GenerateSettings | None = None,
    materials: Sequence[Path | str] = (),
    evaluation: Sequence[Path | str] = (),
    tell: Tell = silent,
) -> GenerateReport:
    """Fill a folder with rows of OpenAI's `messages`, every call, what was dropped, and a card.

    Interrupted or killed, the same call goes on: what was answered is not asked again, and the
    rows are the same. It also goes on with more `num_rows`, `max_cost` or `max_calls`.

    >>> generate_data("made", url="http://127.0.0.1:8000/v1", model="chat")  # doctest: +SKIP

    Args:
        output: Folder to write, which must not exist.
        url: Of the endpoint, up to `/v1`; a server of `hanpaca serve`, or any other.
        model: Its name there.
        key_from: Environment variable that holds the key; the key itself is written nowhere.
        settings: What is asked, and what is kept.
        materials: Documents for `from_text`, or conversations whose questions `evolve` begins with.
        evaluation: Files whose texts must not be in the rows.
        tell: Told how far it is, and which documents cannot be read.

    Raises:
        RecipeError: The key is missing, or the mode has no material.
        DataError: A file cannot be read.
        ArtifactError: The output exists, other work was begun there, or the endpoint refuses.
        ResourceError: The endpoint cannot be reached, or no more may be spent; what is there stays.
    """
    output, settings = Path(output), settings or GenerateSettings()
    sources, talk = _prepared(settings, materials, tell)
    grams = _grams(evaluation, settings)
    endpoint = _endpoint(url, model, key_from, settings)
    judge = RowJudge(settings, sources.words, loops, grams)
    key = _key(settings, sources, without_secrets(url), model, grams)
    with resumable(output, key) as folder:
        writing = RowFiles(folder, judge, {"endpoint": without_secrets(url), "model": model})
        budget = _filled(talk, endpoint, writing, folder, settings, tell)
        report = _report(writing, budget)
        made = Making(
            url=url,
            model=model,
            settings=settings,
            evaluation=tuple(map(str, evaluation)),
            materials=tuple(map(str, materials)),
            example=writing.first,
            **asdict(report),
        )
        (folder / _CARD).write_text(card(made), encoding="utf-8")
    return report


def _report(writing: RowFiles, budget: Budget) -> GenerateReport:
    judge, cost = writing.judge, budget.cost(budget.spent)
    dropped: dict[str, int] = {**dict(judge.counts.most_common())}
    num_rows, num_made = len(judge.kept), writing.num_judged
    return GenerateReport(num_rows, num_made, dropped, budget.num_calls, budget.spent, cost)


def _endpoint(url: str, model: str, key_from: str | None, settings: GenerateSettings) -> Endpoint:
    """Where rows are asked for, with its key."""
    endpoint = Endpoint(
        url,
        model,
        key_from,
        temperature=settings.temperature,
        max_tokens=settings.max_tokens,
        timeout_seconds=settings.timeout_seconds,
        num_tries=_NUM_TRIES,
    )
    endpoint.headers()
    return endpoint


def _filled(
    talk: Callable[[int], Talk],
    endpoint: Endpoint,
    writing: RowFiles,
    folder: Path,
    settings: GenerateSettings,
    tell: Tell,
) -> Budget:
    """Make rows until there are enough; what they took."""
    budget = Budget(
        settings.input_price,
        settings.output_price,
        settings.max_cost,
        settings.max_calls or _CALLS_PER_ROW * settings.num_rows,
    )
    calls = KeptCalls(endpoint, budget, folder / _CALLS, schema=settings.json_schema)
    try:
        _make(talk, calls, writing, settings, tell)
    except BudgetSpent as error:
        there = f"{len(writing.judge.kept):,} of {settings.num_rows:,} rows are there"
        raise ResourceError(f"{folder}: {there}; {error.message}", error.advice) from error
    except HanpacaError:
        if not any(budget.spent):  # nothing came back: it may be begun otherwise
            remove(folder / _CALLS)
        raise
    return budget


def estimate_data(
    settings: GenerateSettings | None = None,
    *,
    materials: Sequence[Path | str] = (),
    tell: Tell = silent,
) -> GenerateEstimate:
    """Say what `generate_data` can take, without asking anybody.

    >>> estimate_data(GenerateSettings(num_rows=10)).num_calls
    20
    """
    settings = settings or GenerateSettings()
    _, talk = _prepared(settings, materials, tell)
    asked: list[TalkCall] = []

    def ask(question: TalkCall) -> tuple[str, TalkReply]:
        asked.append(question)
        return "", TalkReply(json.dumps({"instruction": "…" * 100}), "stop")

    number = min(_SAMPLE, settings.num_rows)
    for row in range(number):
        _finished(talk(row), ask)
    tokens = (
        sum(one.most_input_tokens for one in asked) * settings.num_rows // number,
        sum(one.limit(settings.max_tokens) for one in asked) * settings.num_rows // number,
    )
    cost = Budget(settings.input_price, settings.output_price).cost(tokens)
    return GenerateEstimate(len(asked) * settings.num_rows // number, *tokens, cost)


def _prepared(
    settings: GenerateSettings, materials: Sequence[Path | str], tell: Tell
) -> tuple[Sources, Callable[[int], Talk]]:
    """What rows are made from, and the conversation that makes the row of a number."""
    words = generating_words(settings.language, Path(settings.words) if settings.words else None)
    sources = Sources(words, settings.seed)
    match settings.mode:
        case "grid" | "magpie" if materials:
            told = f"{settings.mode} takes no documents and no instructions"
            raise RecipeError(told, "give no {materials}, or another {mode}")
        case "grid":
            return sources, sources.grid
        case "magpie":
            opening, stop = user_turn(read_template(settings.template) or "")
            return sources, lambda _: sources.magpie(opening, stop)
        case "evolve":
            sources = Sources(words, settings.seed, seeds=questions_of(materials))
            return sources, lambda number: sources.evolve(number, settings.rounds)
        case "from_text":
            found = passages_of(materials, note=lambda line: tell(Progress(0, note=line)))
            sources = Sources(words, settings.seed, passages=found)
            return sources, sources.from_text


def _grams(evaluation: Sequence[Path | str], settings: GenerateSettings) -> Grams | None:
    if not evaluation:
        return None
    texts = map(normalised, evaluation_texts([Path(one) for one in evaluation]))
    return Grams.of(texts, num_units=settings.leak_units)


def _key(
    settings: GenerateSettings, sources: Sources, url: str, model: str, grams: Grams | None
) -> str:
    leaks = hashlib.sha256(grams.hashes.tobytes()).hexdigest() if grams else ""
    template = read_template(settings.template) if settings.mode == "magpie" else ""
    return digest_of([_VERSION, settings.asked_by, asdict(sources), template, url, model, leaks])


def _make(
    talk: Callable[[int], Talk],
    calls: KeptCalls,
    writing: RowFiles,
    settings: GenerateSettings,
    tell: Tell,
) -> None:
    """Begin rows ahead and judge them in order, so that the same ones are kept every time.

    No row is begun that would not be needed if all before it were kept.
    """
    workers = Workers(settings.num_at_once)
    begun: deque[Future[tuple[MadeRow, list[str]]]] = deque()
    number = 0
    try:
        while (missing := settings.num_rows - len(writing.judge.kept)) > 0:
            while len(begun) < min(missing, _AHEAD * settings.num_at_once):
                begun.append(workers.submit(partial(_row, talk, calls, settings.seed, number)))
                number += 1
            writing.add(*begun.popleft().result())
            tell(Progress(len(writing.judge.kept), settings.num_rows, "rows", "making rows"))
    finally:
        calls.stop()
        workers.stop()


def _row(
    talk: Callable[[int], Talk], calls: KeptCalls, seed: int, number: int
) -> tuple[MadeRow, list[str]]:
    own = random.Random(f"{seed} {number}").getrandbits(31)
    return _finished(talk(number), lambda question: calls.ask(question, own))


def _finished(talk: Talk, ask: Ask) -> tuple[MadeRow, list[str]]:
    """Carry on a conversation to its end; what it came to, and the hashes of its calls."""
    asked: list[str] = []
    question = next(talk)
    while True:
        try:
            key, reply = ask(question)
        except QuestionTooLong:
            return MadeRow(fault="too long"), asked
        asked.append(key)
        try:
            question = talk.send(reply)
        except StopIteration as end:
            return end.value, asked
