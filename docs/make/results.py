"""Writes docs/results.md and docs/results.zh.md: python -m docs.make.results, from the root.

All numbers are those of the runs' own results.json, kept in benchmarks/results.
"""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

from hanpaca.evals.results import RunResult, read_results
from hanpaca.report.card import markdown
from hanpaca.report.run_page import goal_sentence
from hanpaca.report.table import result_rows, task_rows
from hanpaca.report.wording import Word, words_of

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks/results"
RUNS = {"quickstart": "demo.json", "evening": "evening_run.json", "korean": "korean_run.json"}
_SHOWN_ANSWERS = 5
_TITLES = {"en": "Results", "zh": "结果"}
_INTRO = {
    "en": (
        "What the recipes that come with the package reached, run for real on two cores. Every "
        "number is from the `results.json` of the run; `hanpaca run quickstart` and `hanpaca run "
        "evening` make them again. Bits per character compare models with different tokenizers; "
        "lower is better. The intervals are of 95 %, over the held-out texts: what other texts "
        "could change, not what another training would."
    ),
    "zh": (
        "随包自带的配方在两个核上实际运行的结果。每个数字都出自该次运行的 `results.json`；"
        "`hanpaca run quickstart` 与 `hanpaca run evening` 可以重新得到它们。"
        "每字符比特数可以比较词表不同的模型，越低越好。区间为 95 %，取自对留出文本的重抽样："
        "说明换一批文本会差多少，而不是换一次训练会差多少。"
    ),
}
_PARTS = {
    "en": ("Goals", "Tasks", "The first answers to held-out questions", "What to know beside it"),
    "zh": ("目标", "任务", "对留出问题的前几个回答", "还应知道"),
}

_COLUMNS = {"en": ("question", "answer", "reference"), "zh": ("问题", "回答", "参考答案")}


def page(lang: str) -> str:
    """The whole page in one language."""
    word = words_of(lang)
    lines = [f"# {_TITLES[lang]}", "", _INTRO[lang]]
    for name, file in RUNS.items():
        lines += ["", f"## {name}", "", *_run(read_results(RESULTS / file), word, lang)]
    return "\n".join(lines) + "\n"


def _run(result: RunResult, word: Word, lang: str) -> Iterator[str]:
    goals, tasks, answers, notes = _PARTS[lang]
    header, rows = result_rows(result, intervals=True)
    yield markdown([word(cell) for cell in header], rows)
    yield from ("", f"**{goals}**", "")
    for goal in result.goals:
        yield f"- {word('met' if goal.met else 'missed')}: {word(goal_sentence(goal))}"
    if result.tasks:
        yield from ("", f"**{tasks}**")
    for task in result.tasks:
        header, rows = task_rows(task, word)
        yield from ("", f"{word(task.name)}, {task.how}:", "")
        yield markdown([word(cell) for cell in header], rows)
        yield from ("", *(f"- {word(note)}" for note in task.notes))
    shown = [
        (one.question, one.answer, one.reference)
        for one in result.heldout_examples[:_SHOWN_ANSWERS]
    ]
    if shown:
        yield from ("", f"**{answers}**", "")
        yield markdown(_COLUMNS[lang], shown).replace("---:", "---")
    if result.notes:
        yield from ("", f"**{notes}**", "", *(f"- {word(note)}" for note in result.notes))


PAGES = {"results.md": partial(page, "en"), "results.zh.md": partial(page, "zh")}

if __name__ == "__main__":
    for name, written in PAGES.items():
        (ROOT / "docs" / name).write_text(written(), encoding="utf-8")
