"""Fold LoRA adapters into their base: plan from headers, carry out in a bounded memory, check.

The result appears under its name when it is whole. One that was stopped lies beside it in
`NAME.partial`, and the same merge goes on from there, file by file.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

from hanpaca.checkpoints.model import ModelFiles
from hanpaca.merging.estimate import MergeEstimate, estimate
from hanpaca.merging.execute import PARTIAL
from hanpaca.merging.fit import plan_merge
from hanpaca.merging.plan import MergeOptions, MergePlan
from hanpaca.merging.rows import MergedTensor, merged_rows
from hanpaca.merging.run import JOURNAL, MergeSummary, run_merge, write_side

__all__ = [
    "JOURNAL",
    "PARTIAL",
    "MergeEstimate",
    "MergeOptions",
    "MergePlan",
    "MergeSummary",
    "MergedTensor",
    "estimate",
    "merge_adapters",
    "merged_rows",
    "plan_merge",
    "run_merge",
    "write_side",
]


def merge_adapters(
    base: Path | ModelFiles,
    adapters: Sequence[Path],
    output: Path,
    *,
    options: MergeOptions | None = None,
    measure: bool = False,
    on_bytes: Callable[[int, int], None] = lambda done, total: None,
) -> MergeSummary:
    """Write base plus adapters as a model folder; see `plan_merge` and `run_merge`."""
    plan = plan_merge(base, adapters, options or MergeOptions())
    return run_merge(plan, output, measure=measure, on_bytes=on_bytes)
