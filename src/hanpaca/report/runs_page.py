"""One self-contained page of several runs: what each reached, and what was set otherwise."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace

from hanpaca.evals.comparison import (
    BitsPair,
    ComparedRun,
    beside,
    differing,
    languages_of,
    own_notes,
)
from hanpaca.evals.results import ModelResult, RunResult, TaskResult
from hanpaca.evals.tasks.languages import language_name
from hanpaca.report.page import Block, Line, PageSection, items, render, table, text
from hanpaca.report.result_blocks import (
    Rows,
    curve_blocks,
    model_bars,
    numbers,
    task_blocks,
    words,
)
from hanpaca.report.run_page import goal_sentence
from hanpaca.report.table import ABSENT, result_rows, task_rows
from hanpaca.report.wording import ENGLISH, Word, words_of

_MOST_QUESTIONS = 12
_INTERVAL = "95 %"
_HASH = re.compile(r"[0-9a-f]{64}")


def runs_page(
    runs: Sequence[ComparedRun],
    pairs: Sequence[BitsPair],
    notes: Sequence[str],
    *,
    lang: str = ENGLISH,
) -> str:
    """The page in `lang`: it needs no other file, no network and no script."""
    word = words_of(lang)
    finals = together(runs, [[run.final] for run in runs], word)
    sections = [
        PageSection(word(title), blocks)
        for title, blocks in (
            ("Final models", [_finals(runs, word)]),
            (f"Against {runs[0].name}", _pairs(pairs, word)),
            ("Goals", _goals(runs, word)),
            ("Read with care", [text(note) for note in _notes(runs, notes, word)]),
            ("Settings that differ", _words(setting_rows(runs), word)),
            *model_bars(finals, word),
            ("While training", curve_blocks(finals, word)),
            *((task.name, task_blocks(task, word)) for task in finals.tasks),
            ("The fixed prompts", _words(_samples(runs), word)),
            ("Held-out questions", _words(_questions(runs), word)),
            ("All models", _all_models(runs, word)),
            ("How it was measured", _how(runs, word)),
            ("Where it comes from", _provenance(runs, word)),
        )
    ]
    lead = (
        "Of each run the final model is shown; whiskers and brackets are 95 % bootstrap intervals "
        "over the held-out texts."
    )
    title = word(f"Runs compared: {', '.join(run.name for run in runs)}")
    return render(title, sections, lead=[Line(word(lead))], lang=lang)


def together(
    runs: Sequence[ComparedRun], models: Sequence[Sequence[ModelResult]], word: Word
) -> RunResult:
    """Models of several runs as if one had measured them; names say which run each is of."""
    named = []
    for run, of_run in zip(runs, models, strict=True):
        alone = len(of_run) == 1
        named += [
            replace(one, name=run.name if alone else f"{run.name}: {one.name}") for one in of_run
        ]
    curves = (
        replace(curve, name=f"{run.name}: {word(curve.name)}")
        for run in runs
        for curve in run.results.curves
    )
    return RunResult(
        title="",
        languages=tuple(languages_of(runs)),
        models=tuple(named),
        curves=tuple(curves),
        tasks=tuple(_tasks(runs)),
    )


def final_rows(runs: Sequence[ComparedRun]) -> Rows:
    """Header and one row a number of the final models; intervals stand beside their numbers."""
    merged = together(runs, [[run.final] for run in runs], str)
    header, rows = result_rows(merged, intervals=True)
    found: list[tuple[str, ...]] = []
    for name, *cells in zip(header, *rows, strict=True):
        if name == _INTERVAL:
            what, *values = found.pop()
            both = zip(values, cells, strict=True)
            cells = [one if low == ABSENT else f"{one} ({low})" for one, low in both]
            name = what
        found.append((name, *cells))
    speeds = [ABSENT if run.times_as_fast is None else f"{run.times_as_fast:.2f}" for run in runs]
    goals = [_goals_met(run) for run in runs]
    for name, values in (("speed, times the base's", speeds), ("goals met", goals)):
        if set(values) != {ABSENT}:
            found.append((name, *values))
    return ("final model", *(run.name for run in runs)), found[1:]


def pair_rows(pairs: Sequence[BitsPair]) -> Rows:
    """Header and one row a pair and language."""
    header = ("run", "against", "text", "bits/char, ratio", "95 %", "texts", "judgement")
    rows = [
        (
            one.other,
            one.first,
            language_name(one.language),
            f"{one.ratio:.3f}",
            f"{one.low:.3f}–{one.high:.3f}",
            f"{one.num_texts}",
            one.judgement,
        )
        for one in pairs
    ]
    return header, rows


def setting_rows(runs: Sequence[ComparedRun]) -> Rows:
    """Header and one row a setting that is not the same in all."""
    return ("setting", *(run.name for run in runs)), differing([run.settings for run in runs])


def tasks_beside(runs: Sequence[ComparedRun], word: Word = str) -> list[Rows]:
    """A table for each task that all were given in the same way, with its name in the corner."""
    found: list[Rows] = []
    for task in _tasks(runs):
        header, rows = task_rows(task, word)
        found.append(((task.name, *header[1:]), rows))
    return found


def _goals_met(run: ComparedRun) -> str:
    goals = run.results.goals
    return f"{sum(goal.met for goal in goals)}/{len(goals)}" if goals else ABSENT


def _tasks(runs: Sequence[ComparedRun]) -> Iterator[TaskResult]:
    """Tasks that were put the same way to all; of each run the final model, which is the last."""
    first, *others = (
        {(one.name, one.version, one.how): one for one in run.results.tasks} for run in runs
    )
    for key, task in first.items():
        if all(key in other for other in others):
            models = (
                replace(tasks[key].models[-1], name=run.name)
                for run, tasks in zip(runs, (first, *others), strict=True)
            )
            yield replace(task, models=tuple(models))


def _finals(runs: Sequence[ComparedRun], word: Word) -> Block:
    header, rows = final_rows(runs)
    return numbers((header, [(word(name), *cells) for name, *cells in rows]), word)


def _pairs(pairs: Sequence[BitsPair], word: Word) -> list[Block]:
    if not pairs:
        return []
    header, rows = pair_rows(pairs)
    told = [(run, first, word(text), *cells, word(said)) for run, first, text, *cells, said in rows]
    legend = (
        "The same texts in pairs: below 1 the run needs fewer bits than the first; better and "
        "worse are said only where the interval says so."
    )
    cells = [word(cell) for cell in header]
    return [text(word(legend)), table(cells, told, numbers=range(3, len(header) - 1))]


def _goals(runs: Sequence[ComparedRun], word: Word) -> list[Block]:
    rows = [
        (
            "met" if goal.met else "missed",
            f"{run.name}: {word('met' if goal.met else 'missed')}: {word(goal_sentence(goal))}",
        )
        for run in runs
        for goal in run.results.goals
    ]
    return [items(rows)] if rows else []


def _notes(runs: Sequence[ComparedRun], notes: Sequence[str], word: Word) -> list[str]:
    own = [f"{names}: {word(note)}" for names, note in own_notes(runs)]
    return [*map(word, notes), *own]


def _words(content: Rows, word: Word) -> list[Block]:
    return [words(content, word)] if content[1] else []


def _samples(runs: Sequence[ComparedRun]) -> Rows:
    answers = [{one.prompt: one.answer for one in run.final.samples} for run in runs]
    return ("prompt", *(run.name for run in runs)), beside(answers)


def _questions(runs: Sequence[ComparedRun]) -> Rows:
    """Those that all were shown with."""
    said = [{one.question: one.answer for one in run.results.heldout_examples} for run in runs]
    known = {one.question: one.reference for run in runs for one in run.results.heldout_examples}
    rows = [(row[0], known[row[0]], *row[1:]) for row in beside(said) if ABSENT not in row[1:]]
    header = ("question", "the answer held out", *(run.name for run in runs))
    return header, rows[:_MOST_QUESTIONS]


def _all_models(runs: Sequence[ComparedRun], word: Word) -> list[Block]:
    models = [run.results.models for run in runs]
    if all(len(of_run) == 1 for of_run in models):
        return []
    return [numbers(result_rows(together(runs, models, word), intervals=True), word)]


def _how(runs: Sequence[ComparedRun], word: Word) -> list[Block]:
    rows = [(run.name, run.final.name, word(run.final.how)) for run in runs]
    return [table([word(cell) for cell in ("run", "final model", "how")], rows)]


def _provenance(runs: Sequence[ComparedRun], word: Word) -> list[Block]:
    known = beside([run.provenance for run in runs])
    rows = [(word(name), *_once([_short(value) for value in values])) for name, *values in known]
    legend = "=: as in the first. Of hashes the first 16 digits are shown."
    header = ("what", *(run.name for run in runs))
    return [text(word(legend)), words((header, rows), word)] if rows else []


def _once(values: Sequence[str]) -> Sequence[str]:
    """What is the same in all stands there once."""
    first, *others = values
    return [first, *("=" for _ in others)] if len(set(values)) == 1 else values


def _short(value: str) -> str:
    return f"{value[:16]}…" if _HASH.fullmatch(value) else value
