"""A run killed at any change of the disk, and started again, ends as one that was left alone."""

import random
from pathlib import Path

import pytest

from hanpaca.runs.folder import verify_run
from tests.support.commands import dies, ends_well

pytestmark = pytest.mark.slow

DEATHS = 20
TIMED = {"manifest.json", "metrics.jsonl", "results.json", "report.html", "report.zh.html"}
"""They tell times and speeds."""
SHORT = [
    "pretrain.dtype=float32",
    "sft.dtype=float32",
    "eval.num_questions=0",
    "eval.max_answer_tokens=1",
    "gguf.types=[q8_0]",
]


def contents(run: Path) -> dict[str, bytes]:
    return {
        file.relative_to(run).as_posix(): file.read_bytes()
        for file in sorted(run.glob("*/**/*"))
        if file.is_file() and file.name not in TIMED
    }


def test_a_killed_run_ends_with_the_same_bytes(pico_recipe: Path, tmp_path: Path) -> None:
    alone = tmp_path / "alone"
    num_changes = ends_well("run", pico_recipe, "--run", alone, *SHORT).changes
    wanted = contents(alone)
    chance = random.Random(0)
    deaths = 0
    while deaths < DEATHS:  # each run dies again and again, a little further on each time
        run = tmp_path / f"killed-{deaths}"
        command = ["run", pico_recipe, "--run", run, *SHORT]
        while dies(*command, before=chance.randrange(2, num_changes)):
            deaths += 1
        assert contents(run) == wanted
        assert verify_run(run)
