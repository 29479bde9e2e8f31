"""Ask a model questions with options; what is known already is not asked again."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any

from hanpaca.checkpoints.fingerprint import model_fingerprint, tokenizer_fingerprint
from hanpaca.data.choice.prompts import WORDINGS, QuestionWording, prompt
from hanpaca.data.choice.questions import Question, QuestionSet
from hanpaca.errors import DataError
from hanpaca.evals.choice.rules import ChoiceRequest, Cue, ask, pick, scores
from hanpaca.evals.choice.tally import Picked, baselines, tally
from hanpaca.evals.results import ModelTask, TaskResult
from hanpaca.evals.tasks.choice_settings import ChoiceSettings, RunBy
from hanpaca.files import describe_file, digest_of, locked
from hanpaca.model.load import load_tokenizer
from hanpaca.progress import Progress, Tell, silent
from hanpaca.steps.choice_scorers import ChoiceReader, engine_for, open_reader
from hanpaca.steps.model_file import cache_folder

_VERSION = 1
"""Of what is asked and kept for the same content."""
_TOGETHER = 32
"""Questions between two writings of what is known."""
_BARE = ("text", "text-sum")
_ROWS = "rows.jsonl"


@dataclass(frozen=True)
class ChoiceTask:
    """Questions, and how they are asked."""

    questions: QuestionSet
    settings: ChoiceSettings = field(default_factory=ChoiceSettings)

    @property
    def wording(self) -> QuestionWording:
        """The words around them."""
        chosen = self.settings.wording
        return WORDINGS[self.questions.wording if chosen == "auto" else chosen]

    @property
    def in_template(self) -> bool:
        """Whether each model is asked in its own chat template."""
        return self.wording is WORDINGS["chat"]

    @property
    def order(self) -> tuple[Question, ...]:
        """Subject after subject, as the examples before them are read once."""
        return tuple(sorted(self.questions.questions, key=lambda one: one.subject))

    def examples(self, question: Question) -> tuple[Question, ...]:
        """The solved questions that go before one.

        Raises:
            DataError: There are not so many.
        """
        wanted = self.settings.shots
        found = self.questions.examples.get(question.subject, ())
        if len(found) < wanted:
            told = f"{self.questions.name}: {len(found)} examples of {question.subject}"
            raise DataError(told, f"give {wanted} as {{examples}}, or ask for fewer {{shots}}")
        return found[:wanted]

    def put(self, question: Question, examples: Sequence[Question]) -> str:
        """The text up to the answer."""
        subject = self.questions.titles.get(question.subject, question.subject.replace("_", " "))
        bare = self.settings.rule in _BARE
        return prompt(question, examples, self.wording, subject=subject, bare=bare)


@dataclass(frozen=True)
class _Put:
    asked: ChoiceRequest | None
    """None where not even the question alone fits."""
    num_dropped: int
    """Examples that did not fit."""


def ask_choices(
    models: Mapping[str, Path],
    task: ChoiceTask,
    *,
    cache: Path | None = None,
    tell: Tell = silent,
) -> TaskResult:
    """Ask models the same questions.

    >>> from hanpaca.data.choice.questions import read_questions
    >>> found = ask_choices({"base": BASE}, ChoiceTask(read_questions(QUESTIONS)), cache=CACHE)
    >>> found.models[0].scores[0].num_items
    3

    Args:
        models: By name: Hugging Face folders and GGUF files.
        task: What is asked.
        cache: Folder of what is known; None for the user's own. An interrupted asking goes on.
        tell: Told how many questions are answered.

    Raises:
        ArtifactError: A model is damaged, or its tokenizer has no token for each letter.
        DataError: There are too few examples.
        ResourceError: What is known cannot be written.
    """
    found = [
        asked_model(path, task, name=name, cache=cache, tell=tell) for name, path in models.items()
    ]
    return task_result(task, found)


def task_result(task: ChoiceTask, models: Sequence[ModelTask]) -> TaskResult:
    """The numbers of several models beside each other."""
    settings = task.settings
    wording = next(name for name, one in WORDINGS.items() if one is task.wording)
    known = [Picked(one.subject, one.answer, len(one.options), None) for one in task.order]
    return TaskResult(
        name=task.questions.name,
        version=task.questions.version,
        how=f"rule {settings.rule}, {settings.shots}-shot, wording {wording}",
        unit="% right",
        baselines=baselines(known),
        models=tuple(models),
        notes=task.questions.notes,
    )


def asked_model(
    model: Path, task: ChoiceTask, *, name: str, cache: Path | None = None, tell: Tell = silent
) -> ModelTask:
    """Ask one model; see `ask_choices`."""
    settings = task.settings
    engine = engine_for(model, settings.engine, dtype=settings.dtype)
    folder = (cache or cache_folder().parent / "eval") / _key(model, task, engine)
    with locked(folder):
        known = _known(folder / _ROWS)
        if len(known) < len(task.order):
            with open_reader(
                model,
                context_tokens=settings.context_tokens,
                dtype=settings.dtype,
                engine=engine,
            ) as reader:
                tell(Progress(len(known), len(task.order), "questions", _by(name, reader.how)))
                known += _asked_on(reader, task, len(known), folder / _ROWS, name, tell)
    picked = [
        Picked(one.subject, one.answer, len(one.options), row["pick"])
        for one, row in zip(task.order, known, strict=True)
    ]
    return tally(name, picked, task.questions.groups, how=known[0]["how"], notes=_notes(known))


def _by(name: str, how: str) -> str:
    return f"asking {name}: {how}"


def _key(model: Path, task: ChoiceTask, engine: RunBy) -> str:
    if model.is_dir():
        content: list[str | None] = [model_fingerprint(model), tokenizer_fingerprint(model)]
        if task.in_template:
            content.append(load_tokenizer(model).chat_template)
    else:
        content = [describe_file(model, name=model.name).sha256]
    chosen = task.settings.model_dump(mode="json")
    chosen |= {"engine": engine, "words": repr(task.wording)}
    return digest_of([_VERSION, content, task.questions.version, chosen])[:32]


def _known(file: Path) -> list[dict[str, Any]]:
    """What was written whole before; half a line is what a killed process left."""
    if not file.is_file():
        return []
    lines = file.read_text(encoding="utf-8").split("\n")
    whole = lines[:-1]
    if lines[-1]:
        file.write_text("".join(f"{line}\n" for line in whole), encoding="utf-8")
    return [json.loads(line) for line in whole]


def _asked_on(
    reader: ChoiceReader, task: ChoiceTask, done: int, file: Path, name: str, tell: Tell
) -> list[dict[str, Any]]:
    """Ask from where it stopped, and keep each answer as soon as it is there."""
    found: list[dict[str, Any]] = []
    with file.open("a", encoding="utf-8") as stream:
        for some in _together(task, task.order[done:]):
            rows = _answered(reader, task, some)
            stream.writelines(json.dumps(row) + "\n" for row in rows)
            stream.flush()
            found += rows
            tell(Progress(done + len(found), len(task.order), "questions", f"asking {name}"))
    return found


def _together(task: ChoiceTask, questions: Sequence[Question]) -> Iterator[list[Question]]:
    """Questions asked at once: with examples those of one subject, whose examples are read once."""
    groups = groupby(questions, key=lambda one: one.subject if task.settings.shots else "")
    for some in (list(group) for _, group in groups):
        for at in range(0, len(some), _TOGETHER):
            yield some[at : at + _TOGETHER]


def _answered(
    reader: ChoiceReader, task: ChoiceTask, some: Sequence[Question]
) -> list[dict[str, Any]]:
    put = [_put(reader, task, one) for one in some]
    answers = iter(reader.choices([one.asked for one in put if one.asked]))
    rows = []
    for question, one in zip(some, put, strict=True):
        row: dict[str, Any] = {"pick": None, "scores": None, "dropped": one.num_dropped}
        if one.asked:
            numbers = scores(task.settings.rule, one.asked, next(answers), question.options)
            row |= {"pick": pick(numbers), "scores": numbers}
        rows.append(row | {"how": reader.how})
    return rows


def _put(reader: ChoiceReader, task: ChoiceTask, question: Question) -> _Put:
    """The ids of a question, with as many of its examples as there is room for, the last ones."""
    examples = task.examples(question)
    cue = Cue(task.wording.colon, task.wording.delimiter)

    def encode(text: str) -> list[int]:
        return reader.encode(text)

    for num_dropped in range(len(examples) + 1):
        text = task.put(question, examples[num_dropped:])
        if task.in_template:
            text = reader.as_user(text)
        asked = ask(task.settings.rule, text, question.options, encode=encode, cue=cue)
        begun = ChoiceRequest((*reader.start, *asked.prompt), asked.candidates, asked.with_sum)
        longest = max(map(len, begun.candidates))
        if begun.prompt and len(begun.prompt) + longest <= reader.context_tokens:
            return _Put(begun, num_dropped)
    return _Put(None, len(examples))


def _notes(known: Sequence[Mapping[str, Any]]) -> list[str]:
    cut = sum(row["dropped"] > 0 and row["pick"] is not None for row in known)
    unread = sum(row["pick"] is None for row in known)
    notes = [f"{cut} questions had room for fewer examples"] if cut else []
    return [*notes, f"{unread} questions did not fit into the context"] if unread else notes
