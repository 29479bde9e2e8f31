"""Parts of pages that show results: of one run, and of several beside each other."""

from collections.abc import Iterator, Sequence

from hanpaca.evals.results import BITS, SPEED, Measure, RunResult, TaskResult
from hanpaca.evals.tasks.languages import language_name
from hanpaca.report.charts import Bar, bar_chart, can_draw, line_chart
from hanpaca.report.page import Block, chart, table, text
from hanpaca.report.table import subject_rows, task_rows
from hanpaca.report.wording import Word

Rows = tuple[Sequence[str], Sequence[Sequence[str]]]
"""Header and rows."""


def numbers(content: Rows, word: Word) -> Block:
    """A table whose columns are numbers, but for the first."""
    header, rows = content
    return table([word(cell) for cell in header], rows, numbers=range(1, len(header)))


def words(content: Rows, word: Word) -> Block:
    """A table of texts."""
    header, rows = content
    return table([word(cell) for cell in header], rows)


def model_bars(result: RunResult, word: Word) -> Iterator[tuple[str, list[Block]]]:
    """The charts of the models, each with its title."""
    wanted = [(language, BITS, 3) for language in result.languages]
    speeds = [(language, SPEED, 1) for language in result.languages[:1]]
    for language, measure, digits in (*wanted, *speeds):
        way = f"{measure.name} ({measure.better} is better)"
        title = word(f"{language_name(language)}: {way}")
        yield title, bar_block(title, _values(result, language, measure), digits)
    sizes: list[Bar] = [(model.name, model.file_bytes / 1e6, None) for model in result.models]
    yield "Size in MB", bar_block(word("Size in MB"), sizes, 0)


def bar_block(title: str, bars: Sequence[Bar], digits: int) -> list[Block]:
    """A chart, where there is something to draw and something that draws."""
    return chart(bar_chart(title, bars, digits=digits)) if bars and can_draw() else []


def task_blocks(task: TaskResult, word: Word) -> list[Block]:
    """Questions with options: what the models reached, and what knowing nothing would."""
    bars: list[Bar] = [
        (model.name, first.value, (first.low, first.high))
        for model in task.models
        for first in model.scores[:1]
    ]
    bars += [(word(name), value, None) for name, value in task.baselines.items()]
    legend = (
        "% right: over all questions, with the 95 % interval (Wilson); mean of subjects: every "
        "subject weighs the same; chance and the best constant answer know nothing. Two models "
        "whose intervals overlap widely, or one whose interval holds these, show no difference."
    )
    notes = [f"{model.name}: {note}" for model in task.models for note in model.notes]
    hows = [f"{model.name}: {model.how}" for model in task.models]
    return [
        text(word(legend)),
        *bar_block(f"{word(task.name)}: {word(task.unit)}", bars, 1),
        numbers(task_rows(task, word), word),
        text(f"{task.how}; {'; '.join(hows)}"),
        *(text(word(note)) for note in (*task.notes, *notes)),
        numbers(subject_rows(task), word),
    ]


def curve_blocks(result: RunResult, word: Word) -> list[Block]:
    """Held-out bits while models trained, a chart a language."""
    drawn = [one for one in result.curves if len(one.points) > 1]
    if not drawn or not can_draw():
        return []
    blocks: list[Block] = []
    for language in dict.fromkeys(one.language for one in drawn):
        svg = line_chart(
            word(f"While training: {language_name(language)}"),
            [(word(one.name), one.points) for one in drawn if one.language == language],
            x_name=word("seconds of training"),
            y_name=word("bits per character of held-out text"),
        )
        blocks += chart(svg)
    note = "Each curve starts from its own model and counts its own seconds."
    return [*blocks, text(word(note))]


def _values(result: RunResult, language: str, measure: Measure) -> list[Bar]:
    bars: list[Bar] = []
    for model in result.models:
        found = model.get(language, measure)
        if found:
            known = found.low is not None and found.high is not None
            interval = (found.low or 0.0, found.high or 0.0) if known else None
            bars.append((model.name, found.value, interval))
    return bars
