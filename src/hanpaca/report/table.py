"""The result table as plain text cells, for the terminal and the report."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial

from hanpaca.evals.results import (
    BITS,
    SPEED,
    TOKEN_SPEED,
    TOKENS,
    Level,
    Measure,
    ModelResult,
    ModelTask,
    RunResult,
    TaskResult,
    TaskScore,
)
from hanpaca.report.wording import Word

ABSENT = "–"
Column = tuple[str, Callable[[ModelResult], str]]


def result_rows(
    result: RunResult, *, intervals: bool = False
) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Header and one row a model; what was not measured is a dash, or no column.

    Args:
        result: What was measured.
        intervals: Whether those of bits per character have columns too.
    """
    columns = [
        (name, [cell(model) for model in result.models])
        for name, cell in _columns(result, intervals)
    ]
    shown = [(name, cells) for name, cells in columns if set(cells) != {ABSENT}]
    header = ("model", *(name for name, _ in shown))
    names = [model.name for model in result.models]
    return header, list(zip(names, *(cells for _, cells in shown), strict=True))


def _columns(result: RunResult, intervals: bool) -> Iterator[Column]:
    for language in result.languages[:1]:
        yield _measured(language, TOKENS, 3)
    for language in result.languages:
        yield _measured(language, BITS, 3)
        if intervals:
            yield "95 %", partial(_interval, language)
    for language in result.languages[:1]:
        yield _measured(language, SPEED, 1)
        yield _measured(language, TOKEN_SPEED, 1)
    yield "MB", lambda model: f"{model.file_bytes / 1e6:.0f}"
    yield "memory MB", _memory
    yield "held-out answers", _answers


def _measured(language: str, measure: Measure, digits: int) -> Column:
    return _title(language, measure), lambda model: _cell(model, language, measure, digits)


def _interval(language: str, model: ModelResult) -> str:
    found = model.get(language, BITS)
    if found is None or found.low is None or found.high is None:
        return ABSENT
    return f"{found.low:.3f}–{found.high:.3f}"


def _memory(model: ModelResult) -> str:
    return ABSENT if model.memory_bytes is None else f"{model.memory_bytes / 1e6:.0f}"


def _answers(model: ModelResult) -> str:
    return f"{model.heldout.passed}/{model.heldout.num_answers}" if model.heldout else ABSENT


def file_rows(result: RunResult) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Header and one row a file of the final model: what its smaller files cost."""
    first, *others = result.languages
    files = [model for model in result.models if model.file_type]
    header = (
        *("file", "MB", _title(first, BITS), "against the first"),
        *(_title(language, BITS) for language in others),
        _title(first, SPEED),
    )
    rows = [
        (
            (model.file_type or "").upper(),
            f"{model.file_bytes / 1e6:.0f}",
            _cell(model, first, BITS, 3),
            _against(model, files, first),
            *(_cell(model, language, BITS, 3) for language in others),
            _cell(model, first, SPEED, 1),
        )
        for model in files
    ]
    return header, rows


def text_rows(result: RunResult) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Header and one row a language: how much text its numbers come from."""
    measured = [(tag, result.models[0].get(tag, BITS)) for tag in result.languages]
    rows: list[tuple[str, ...]] = [
        (tag, f"{found.num_texts:,}", f"{found.num_characters:,}")
        for tag, found in measured
        if found and found.num_texts and found.num_characters
    ]
    return ("text", "documents", "characters"), rows


def task_rows(
    task: TaskResult, word: Word = str, *, level: Level = "group"
) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Header and one row a model, then a row for each way of knowing nothing.

    Args:
        task: Its numbers.
        word: Of the language that names what knowing nothing would do.
        level: Which parts have columns beside the whole: `group` or `subject`.
    """
    parts = [one.part for one in task.models[0].scores if one.level == level]
    header = ("model", task.unit, "95 %", "mean of subjects", *parts, "picks")
    rows = [_task_row(model, parts, level) for model in task.models]
    blank = (ABSENT,) * (len(header) - 2)
    named = [(word(name), value) for name, value in task.baselines.items()]
    return header, rows + [(name, f"{value:.2f}", *blank) for name, value in named]


def subject_rows(task: TaskResult) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Header and one row a subject: its number of questions and what each model reached."""
    subjects = [one for one in task.models[0].scores if one.level == "subject"]
    header = ("subject", "questions", *(model.name for model in task.models))
    rows = [
        (one.part, str(one.num_items), *(_with_interval(m, one.part) for m in task.models))
        for one in subjects
    ]
    return header, rows


def _task_row(model: ModelTask, parts: Sequence[str], level: Level) -> tuple[str, ...]:
    first = model.scores[0]
    return (
        model.name,
        f"{first.value:.2f}",
        f"{first.low:.1f}–{first.high:.1f}",
        f"{first.macro:.2f}" if first.macro is not None else ABSENT,
        *(f"{_score_of(model, level, part).value:.2f}" for part in parts),
        " ".join(f"{letter} {times}" for letter, times in model.picks.items()),
    )


def _with_interval(model: ModelTask, subject: str) -> str:
    found = _score_of(model, "subject", subject)
    return f"{found.value:.1f} ({found.low:.0f}–{found.high:.0f})"


def _score_of(model: ModelTask, level: Level, part: str) -> TaskScore:
    return next(one for one in model.scores if (one.level, one.part) == (level, part))


def _title(language: str, measure: Measure) -> str:
    return f"{language} {measure.unit}"


def _cell(model: ModelResult, language: str, measure: Measure, digits: int) -> str:
    found = model.get(language, measure)
    return f"{found.value:.{digits}f}" if found else ABSENT


def _against(model: ModelResult, files: Sequence[ModelResult], language: str) -> str:
    own, first = model.get(language, BITS), files[0].get(language, BITS)
    if not (own and first):
        return ABSENT
    return f"{round(100 * (own.value / first.value - 1), 1) + 0.0:+.1f} %"  # never -0.0
