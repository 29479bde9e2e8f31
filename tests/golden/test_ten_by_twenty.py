"""The reference's tables of ten tasks with twenty examples, worked out from its single scores.

`ten_by_twenty.json` holds, for each of three comparisons in `examples/` of
ymcui/Chinese-LLaMA-Alpaca (commit 090475f, Apache-2.0), every task's rows: model, the mean as it
is stated there, 20 scores.
"""

import json
from pathlib import Path

import pytest

from hanpaca.errors import DataError
from hanpaca.evals.judge.rubric import TOTAL, score_table

TABLES = json.loads((Path(__file__).parent / "ten_by_twenty.json").read_text(encoding="utf-8"))
TOTALS = {
    "f16-p7b-p13b-33b": {"Plus-7B": 75.3, "Plus-13B": 79.4, "33B": 81.95},
    "q8_7b-13b-p7b": {"7B": 65.07, "13B": 70.73, "Plus-7B": 75.1},
    # Plus-7B is published as 78.2, from a mean of 6.1 for reasoning whose scores have one of 5.1.
    "q8_13b-p7b-p13b": {"13B": 74.08, "Plus-7B": 77.0, "Plus-13B": 80.64},
}


@pytest.mark.parametrize("name", TABLES)
def test_totals_are_those_of_the_scores(name: str) -> None:
    scores = {task: {row[0]: row[2:] for row in rows} for task, rows in TABLES[name].items()}
    assert all(len(one) == 20 for task in scores.values() for one in task.values())
    found = score_table(scores)
    totals = {model: by_task[TOTAL] for model, by_task in found.items()}
    assert totals == pytest.approx(TOTALS[name], abs=0.0051)


def test_one_published_cell_is_wrong() -> None:
    wrong = [
        (name, task, row[0], row[1])
        for name, tasks in TABLES.items()
        for task, rows in tasks.items()
        for row in rows
        if abs(score_table({task: {row[0]: row[2:]}})[row[0]][task] - 10 * row[1]) > 0.6
    ]
    assert wrong == [("q8_13b-p7b-p13b", "reasoning", "Plus-7B", 6.1)]


@pytest.mark.parametrize("scores", [[], [11], [-1], [5, float("nan")]])
def test_scores_out_of_range_are_refused(scores: list[float]) -> None:
    with pytest.raises(DataError, match="code: a needs scores from 0 to 10"):
        score_table({"code": {"a": scores}})
