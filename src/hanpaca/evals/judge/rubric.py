"""Tables of scores from 0 to 10, a task a row and a model a column, as the reference publishes."""

from collections.abc import Mapping, Sequence
from statistics import fmean

from hanpaca.errors import DataError

Scores = Mapping[str, Mapping[str, Sequence[float]]]
"""By task, then by model: one score a prompt."""
TOTAL = "total"


def score_table(scores: Scores) -> dict[str, dict[str, float]]:
    """By model the mean score of each task, and of all tasks under `total`, out of 100.

    Every task counts the same, however many prompts it has. Stated means are never read: they are
    worked out from the scores.

    >>> score_table({"code": {"a": [7, 8]}, "ethics": {"a": [10, 10]}})
    {'a': {'code': 75.0, 'ethics': 100.0, 'total': 87.5}}

    Raises:
        DataError: A model lacks a task, or has no score or one that is out of range there.
    """
    models = list(dict.fromkeys(model for task in scores.values() for model in task))
    found: dict[str, dict[str, float]] = {}
    for model in models:
        for task, by_model in scores.items():
            given = by_model.get(model, ())
            if not given or not all(0 <= one <= 10 for one in given):
                raise DataError(f"{task}: {model} needs scores from 0 to 10, has {list(given)}")
            found.setdefault(model, {})[task] = 10 * fmean(given)
        found[model][TOTAL] = fmean(found[model].values())
    return found
