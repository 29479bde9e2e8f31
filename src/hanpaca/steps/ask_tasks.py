"""Questions on held-out items of builtin texts, before and after: how many answers are right."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from hanpaca.data.builtin.material import TaskQuestion, most_shared
from hanpaca.data.choice.questions import Question, QuestionSet
from hanpaca.evals.choice.tally import wilson_interval
from hanpaca.evals.results import ModelTask, TaskResult, TaskScore
from hanpaca.evals.tasks.builtin import TITLES, above, constant_share, is_right, mean_chrf
from hanpaca.evals.tasks.choice_settings import ChoiceSettings
from hanpaca.files import digest_of
from hanpaca.inference.engine import ChatModel
from hanpaca.progress import Progress, Tell, silent
from hanpaca.steps.choice import ChoiceTask, ask_choices

_ANSWER_TOKENS = 32
_CONTEXT_TOKENS, _PARALLEL = 1024, 4
_SHOWN = 5
"""Answers that the report shows."""
_SHARED, _CONSTANT = "most shared characters", "best constant answer"


def ask_tasks(
    models: Mapping[str, Path],
    asked: Sequence[TaskQuestion],
    *,
    most: int = 200,
    cache: Path | None = None,
    tell: Tell = silent,
) -> tuple[TaskResult, ...]:
    """Ask models the questions of each task, each model in its own chat template.

    Of questions with options the likeliest answer counts: log p a character of each option as the
    model's whole answer. Others are answered freely, greedily, with at most 32 tokens; right is an
    answer that is one of those accepted, whatever its case and punctuation.

    Args:
        models: GGUF files by name, in order of training.
        asked: Questions of any number of tasks.
        most: Of each task, the first ones.
        cache: Folder of what is known; None for the user's own.
        tell: Told which model is asked what.

    Raises:
        ArtifactError: A model is damaged.
        ResourceError: What is known cannot be kept.
    """
    by_task: dict[str, list[TaskQuestion]] = {}
    for one in asked:
        by_task.setdefault(one.task, []).append(one)
    return tuple(
        (_chosen if some[0].options else _written)(models, task, some[:most], cache, tell)
        for task, some in by_task.items()
    )


def _chosen(
    models: Mapping[str, Path],
    task: str,
    some: Sequence[TaskQuestion],
    cache: Path | None,
    tell: Tell,
) -> TaskResult:
    questions = tuple(
        Question(task, one.question, one.options, one.options.index(one.answers[0]), task)
        for one in some
    )
    found = QuestionSet(TITLES[task], "chat", questions, {}, {}, {})
    settings = ChoiceSettings(rule="text", context_tokens=_CONTEXT_TOKENS)
    result = ask_choices(models, ChoiceTask(found, settings), cache=cache, tell=tell)
    shared = [most_shared(one.question, one.options) for one in some]
    right = sum(at == one.answer for at, one in zip(shared, questions, strict=True))
    baselines = {**result.baselines, _SHARED: 100 * right / len(some)}
    return _noted(replace(result, baselines=baselines))


def _written(
    models: Mapping[str, Path],
    task: str,
    some: Sequence[TaskQuestion],
    cache: Path | None,
    tell: Tell,
) -> TaskResult:
    del cache  # answers are few and quick
    version = digest_of([[one.question, one.answers] for one in some])
    found = [_writes(path, name, task, some, tell) for name, path in models.items()]
    constant = constant_share([one.answers for one in some])
    return _noted(
        TaskResult(
            name=TITLES[task],
            version=version,
            how=f"written freely, at most {_ANSWER_TOKENS} tokens, in the model's chat template",
            unit="% right",
            baselines={_CONSTANT: 100 * constant},
            models=tuple(found),
        )
    )


def _writes(
    gguf: Path, name: str, task: str, some: Sequence[TaskQuestion], tell: Tell
) -> ModelTask:
    tell(Progress(0, note=f"asking {name}: {TITLES[task]}"))
    with ChatModel(gguf, context_tokens=_CONTEXT_TOKENS, num_parallel=_PARALLEL) as model:
        told = model.answer_many(
            [[{"role": "user", "content": one.question}] for one in some],
            max_tokens=_ANSWER_TOKENS,
        )
    pairs = [(answer.text, one.answers) for answer, one in zip(told, some, strict=True)]
    right = [is_right(text, answers) for text, answers in pairs]
    low, high = wilson_interval(sum(right), len(right))
    score = TaskScore(
        part="all",
        level="all",
        value=100 * sum(right) / len(right),
        low=100 * low,
        high=100 * high,
        num_items=len(right),
    )
    picks = Counter("right" if one else "other" for one in right)
    shown = [
        f"{one.question} → {answer.text.strip()}"
        for answer, one in zip(told, some[:_SHOWN], strict=False)
    ]
    return ModelTask(
        name=name,
        how="llama.cpp, greedy",
        scores=(score,),
        picks=dict(picks),
        notes=(f"mean chrF {mean_chrf(pairs):.1f}", *shown),
    )


def _noted(task: TaskResult) -> TaskResult:
    """With a sentence on each model: whether it is above what knows nothing."""
    notes = [f"{model.name}: {above(model.scores[0], task.baselines)}" for model in task.models]
    return replace(task, notes=tuple(notes))
