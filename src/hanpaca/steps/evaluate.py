"""Models measured side by side: the same held-out text, questions and prompts for each."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import cycle, islice
from pathlib import Path

from hanpaca.errors import DataError
from hanpaca.evals.answers import HeldoutResult, summarise_verdicts
from hanpaca.evals.bits import TextScore, bootstrap_interval
from hanpaca.evals.results import (
    BITS,
    SPEED,
    TOKEN_SPEED,
    TOKENS,
    Goal,
    Measure,
    Measured,
    ModelResult,
    ModelTask,
    RunResult,
    Sample,
    results_json,
)
from hanpaca.evals.speed import tokens_per_second
from hanpaca.evals.tasks import idioms
from hanpaca.evals.tasks.judges import judged
from hanpaca.evals.tasks.languages import language_name, prompts
from hanpaca.files import user_cache
from hanpaca.inference.engine import ChatModel
from hanpaca.memory import with_growth
from hanpaca.progress import Progress, Tell, silent
from hanpaca.report.run_page import write_report
from hanpaca.report.shown import notebook_table, plain_table
from hanpaca.report.table import result_rows, task_rows
from hanpaca.report.wording import ENGLISH, checked_language
from hanpaca.steps.candidates import Adapted, Candidate, names_of, ready
from hanpaca.steps.choice import ChoiceTask, asked_model, task_result
from hanpaca.steps.text_scores import known_score
from hanpaca.threads import free_cores, threads_for

_TIMED_TOKENS = 96
_TIMED_TEXTS = 4
_OPENING_CHARACTERS = 12
_PARALLEL, _ANSWERING_TOKENS = 8, 1024
_EXAMPLES = 12


@dataclass(frozen=True)
class Material:
    """What every model is measured on."""

    texts: Mapping[str, Sequence[str]]
    """Held-out texts by language tag: first of the language learned, which speed is measured on,
    then of the one to be kept."""
    questions: Sequence[Mapping[str, str]] = ()
    """Held-out questions: `question` and `reference`, and what their task's judge needs."""
    scripts: Sequence[str] = ()
    """Of the first language, for its tokens per character."""
    max_answer_tokens: int = 100
    seed: int = 0
    free_cores: int = field(default_factory=free_cores)
    """All models are timed with as many: what is free changes from one to the next."""

    @property
    def language(self) -> str:
        """Tag of the language learned."""
        return next(iter(self.texts))


class Results(RunResult):
    """What was measured, with a table for the eye; in a notebook it shows as its page."""

    @property
    def table(self) -> list[tuple[str, ...]]:
        """The header, then one row a model."""
        header, rows = result_rows(self, intervals=True)
        return [header, *rows]

    @property
    def task_tables(self) -> dict[str, list[tuple[str, ...]]]:
        """By task: the header, then one row a model, then what knowing nothing would reach."""
        tables = {one.name: task_rows(one) for one in self.tasks}
        return {name: [header, *rows] for name, (header, rows) in tables.items()}

    def page(self, path: Path | str, *, lang: str = ENGLISH) -> None:
        """Write the page in `lang`; a file of this name is replaced.

        Raises:
            RecipeError: No page is written in `lang`.
            ArtifactError: A folder has this name.
            ResourceError: It cannot be written there.
        """
        write_report(self, Path(path), lang=checked_language(lang))

    def json(self) -> str:
        """The same as a run writes to `results.json`."""
        return results_json(self)

    def __str__(self) -> str:
        return "\n\n".join(plain_table(one) for one in self._tables())

    def _repr_html_(self) -> str:
        return notebook_table(self._tables())

    def _tables(self) -> list[tuple[tuple[str, ...], list[tuple[str, ...]]]]:
        measured = [result_rows(self, intervals=True)] if self.languages else []
        return [*measured, *(task_rows(one) for one in self.tasks)]


def evaluate(
    models: Sequence[Candidate | Adapted | Path | str],
    material: Material | Mapping[str, Sequence[str]],
    *,
    tasks: Sequence[ChoiceTask] = (),
    title: str = "evaluation",
    tell: Tell = silent,
) -> Results:
    """Measure models side by side on the same material.

    >>> found = evaluate([BASE], {"en": ["A text.", "Another one."]})
    >>> found.models[0].get("en", BITS).value > 0
    True

    Args:
        models: Folders, runs, GGUF files and bases with adapters, of which bits and tokens per
            character and memory are measured, of files also speed; of candidates answers too.
        material: Texts by the tag of their language, or more than texts; may be empty.
        tasks: Questions with options.
        title: Of the page.
        tell: Called with signs of life.

    Raises:
        ArtifactError: A model is damaged, or its parts do not fit each other.
        DataError: A text is empty, or a task lacks examples.
        ResourceError: What is known of a task cannot be kept.
    """
    if not isinstance(material, Material):
        material = Material(material)
    for name, texts in material.texts.items():
        if not any(texts):
            raise DataError(f"{name}: no texts to score", "give at least one held-out text")
    found: list[ModelResult] = []
    examples: list[HeldoutResult] = []
    notes: list[str] = []
    answered: list[list[ModelTask]] = [[] for _ in tasks]
    names, tasks = names_of(models), _told_apart(tasks)
    for number, model in enumerate(models):
        tell(Progress(number, len(models), "models", f"measuring {names[number]}"))
        with ready(model, names[number], tell, weights=bool(material.texts)) as candidate:
            known = None if candidate is model else user_cache() / "texts"
            measured, held_out = measure(candidate, material, cache=known)
            asked = candidate.gguf or candidate.file or candidate.folder
            for of_task, task in zip(answered, tasks, strict=True):
                of_task.append(asked_model(asked, task, name=names[number], tell=tell))
        found.append(measured)
        examples += held_out
        notes += _too_long(names[number], held_out)
    return Results(
        title=title,
        languages=tuple(material.texts),
        models=tuple(found),
        heldout_examples=tuple(examples[:_EXAMPLES]),
        notes=tuple(notes),
        tasks=tuple(task_result(*pair) for pair in zip(tasks, answered, strict=True)),
    )


def _told_apart(tasks: Sequence[ChoiceTask]) -> list[ChoiceTask]:
    """With a number after each name that several have."""
    times = Counter(one.questions.name for one in tasks)
    numbers: Counter[str] = Counter()
    found = []
    for task in tasks:
        name = task.questions.name
        numbers[name] += 1
        shown = f"{name} ({numbers[name]})" if times[name] > 1 else name
        found.append(replace(task, questions=replace(task.questions, name=shown)))
    return found


def measure(
    candidate: Candidate, material: Material, *, cache: Path | None = None
) -> tuple[ModelResult, list[HeldoutResult]]:
    """Measure one model; the second value holds the answers to held-out questions.

    Args:
        candidate: The model.
        material: What it is measured on.
        cache: Folder of bits that are known; None for none.
    """
    measured: dict[str, dict[str, Measured]] = {}
    # First, as memory that other work leaves behind would be in its own.
    speed, memory = _speed_and_memory(candidate.gguf or candidate.file, material)
    by_torch: list[int | None] = []
    for language, texts in material.texts.items():
        scripts = material.scripts if language == material.language else ()
        score, took = known_score(
            candidate.folder, texts, scripts=scripts, cache=cache, file=candidate.file
        )
        by_torch.append(took)
        measured[language] = {
            BITS.name: _bits(score, material.seed),
            TOKENS.name: Measured(score.tokens_per_character),
        }
        if speed and language == material.language:
            per_character = speed / (score.num_tokens / score.num_characters)
            measured[language] |= {
                SPEED.name: Measured(per_character),
                TOKEN_SPEED.name: Measured(speed),
            }
    if speed is None:
        memory = max((one for one in by_torch if one is not None), default=None)
    answered, samples = (
        _answers(candidate.gguf, candidate, material) if candidate.gguf else ([], ())
    )
    verdicts = [one.verdict for one in answered if one.verdict]
    result = ModelResult(
        name=candidate.name,
        how=candidate.how,
        file_bytes=candidate.num_bytes,
        measured=measured,
        samples=samples,
        heldout=summarise_verdicts(verdicts) if verdicts else None,
        file_type=candidate.file_type,
        memory_bytes=memory,
    )
    return result, answered


def _too_long(name: str, answered: Sequence[HeldoutResult]) -> Iterator[str]:
    if number := sum(one.too_long for one in answered):
        yield (
            f"{name}: {number} held-out questions did not fit into {_ANSWERING_TOKENS} tokens of "
            "context; they have no answer, and count as not passed."
        )


def _bits(score: TextScore, seed: int) -> Measured:
    """With an interval, unless there is but one text to draw again."""
    low = high = None
    if len(score.per_text_bits) > 1:
        low, high = bootstrap_interval(score.per_text_bits, score.per_text_characters, seed=seed)
    return Measured(
        score.bits_per_character,
        low,
        high,
        num_texts=len(score.per_text_bits),
        num_characters=score.num_characters,
        per_text=score.per_text_bits,
    )


def goals(models: Sequence[ModelResult], languages: Sequence[str]) -> tuple[Goal, ...]:
    """What an adaptation is for, as numbers: the last models against the first.

    Args:
        models: The base, then those called "pretrained" and "chat", or one of them.
        languages: Tag of the language learned, then of the one to be kept.
    """
    by_name = {model.name: model for model in models}
    before, pretrained = models[0], by_name.get("pretrained")
    last = by_name.get("chat", pretrained or before)
    learned, kept = languages[0], languages[-1]
    found = []
    of = f"{BITS.name} of held-out"
    gain = _ratio(pretrained, before, learned, BITS) if pretrained else None
    loss = _ratio(pretrained or last, before, kept, BITS)
    if gain is not None and loss is not None:
        name = f"{of} {language_name(learned)}"
        found.append(Goal(name, 100 * (1 - gain), "at least", 15, "%", "fall"))
    if loss is not None:
        name = f"{of} {language_name(kept)}"
        found.append(Goal(name, 100 * (loss - 1), "at most", 2, "%", "rise"))
    faster = _ratio(last, before, learned, SPEED)
    if faster is not None and _ratio(last, before, learned, TOKENS) != 1:
        name = f"{language_name(learned)} {SPEED.name}, against the base"
        found.append(Goal(name, faster, "at least", 1.5, "x"))
    if last.heldout:
        share = 100 * last.heldout.passed / last.heldout.num_answers
        found.append(Goal(idioms.GOAL, share, "at least", 90, "%"))
    return tuple(found)


def _ratio(
    after: ModelResult, before: ModelResult, language: str, measure: Measure
) -> float | None:
    new, old = after.get(language, measure), before.get(language, measure)
    return new.value / old.value if new and old else None


def _speed_and_memory(gguf: Path | None, material: Material) -> tuple[float | None, int | None]:
    """Tokens per second of a file in llama.cpp, and by how much the process grew."""
    if gguf is None or not material.texts:
        return None, None
    texts = material.texts[material.language]
    return with_growth(lambda: _tokens_per_second(gguf, texts, material.free_cores))


def _tokens_per_second(gguf_file: Path, texts: Sequence[str], free: int) -> float:
    """Writing speed while continuing held-out texts, one after another."""
    threads = threads_for(gguf_file.stat().st_size, free)
    with ChatModel(gguf_file, num_threads=threads) as model:
        timed = [
            model.complete(text[:_OPENING_CHARACTERS], max_tokens=_TIMED_TOKENS, ignore_end=True)
            for text in islice(cycle(texts), _TIMED_TEXTS + 1)
        ]
    return tokens_per_second([(one.num_tokens, one.seconds) for one in timed[1:]])


def _answers(
    gguf: Path, candidate: Candidate, material: Material
) -> tuple[list[HeldoutResult], tuple[Sample, ...]]:
    limit = material.max_answer_tokens
    asked = [prompt.text for prompt in prompts(material.language)]
    questions = [row["question"] for row in material.questions] if candidate.asked else []
    with ChatModel(gguf, context_tokens=_ANSWERING_TOKENS, num_parallel=_PARALLEL) as model:
        answers = model.answer_many(
            [[{"role": "user", "content": text}] for text in (*asked, *questions)],
            max_tokens=limit,
        )
    samples = tuple(
        Sample(prompt, answer.text) for prompt, answer in zip(asked, answers, strict=False)
    )
    answered = [
        HeldoutResult(
            model=candidate.name,
            word=row.get("word", ""),
            question=row["question"],
            answer=answer.text,
            reference=row["reference"],
            verdict=judged(row, answer.text, stopped=answer.stopped),
            too_long=answer.too_long,
        )
        for row, answer in zip(material.questions, answers[len(asked) :], strict=False)
    ]
    return answered, samples
