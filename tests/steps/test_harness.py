"""lm-evaluation-harness as an oracle of the scorer, and its tasks on forms it does not know."""

import json
from pathlib import Path
from typing import Any

import pytest

from hanpaca import ChoiceSettings, ChoiceTask, read_questions
from hanpaca.steps.choice import ask_choices
from hanpaca.steps.write_gguf import folder_to_gguf
from tests.support.peft_adapters import make_adapter
from tests.support.texts import POEMS

lm_eval = pytest.importorskip("lm_eval", reason="lm-evaluation-harness: pip install hanpaca[eval]")
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]

YAML = """
task: {name}
dataset_path: json
dataset_kwargs: {{data_files: {{validation: {file}}}}}
validation_split: validation
output_type: multiple_choice
doc_to_text: "{{{{question}}}}\\nA. {{{{A}}}}\\nB. {{{{B}}}}\\nC. {{{{C}}}}\\nD. {{{{D}}}}\\n答案："
doc_to_choice: ["A", "B", "C", "D"]
doc_to_target: "{{{{['A', 'B', 'C', 'D'].index(answer)}}}}"
metric_list: [{{metric: acc, aggregation: mean, higher_is_better: true}}]
{more}
"""
GENERATED = """
task: written
dataset_path: json
dataset_kwargs: {{data_files: {{validation: {file}}}}}
validation_split: validation
output_type: generate_until
doc_to_text: "{{{{question}}}}"
doc_to_target: "{{{{A}}}}"
generation_kwargs: {{until: ["e"], max_gen_toks: 8, do_sample: false}}
metric_list: [{{metric: exact_match}}]
"""


@pytest.fixture(scope="module")
def tasks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tasks")
    rows = [
        {
            "question": f"{POEMS[at % 4][: 5 + at % 11]}（{at}）",
            **{letter: f"{POEMS[(at + n) % 4][n : n + 3]}" for n, letter in enumerate("ABCD")},
            "answer": "ABCD"[(at * 7) % 4],
        }
        for at in range(24)
    ]
    file = folder / "own.jsonl"
    text = "\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
    file.write_text(text, encoding="utf-8")
    for name, more in (("bare", 'target_delimiter: ""'), ("spaced", "")):
        (folder / f"{name}.yaml").write_text(YAML.format(name=name, file=file, more=more))
    (folder / "written.yaml").write_text(GENERATED.format(file=file))
    return folder


def harness(model: Any, tasks: Path, *names: str, **more: Any) -> Any:
    from lm_eval.tasks import TaskManager

    return lm_eval.simple_evaluate(
        model=model,
        tasks=list(names),
        task_manager=TaskManager(include_path=str(tasks), include_defaults=False),
        log_samples=True,
        bootstrap_iters=0,
        **more,
    )


def log_ps(found: Any, task: str) -> list[list[float]]:
    samples = sorted(found["samples"][task], key=lambda one: one["doc_id"])
    return [[float(log_p) for log_p, _ in one["filtered_resps"]] for one in samples]


def written(found: Any) -> list[str]:
    """Without half characters at the end, which llama.cpp keeps back."""
    samples = sorted(found["samples"]["written"], key=lambda one: one["doc_id"])
    return [one["resps"][0][0].rstrip("\ufffd") for one in samples]


@pytest.fixture(scope="module")
def theirs(pico_untied: Path, tasks: Path) -> Any:
    model_args = f"pretrained={pico_untied},dtype=float32"
    return harness("hf", tasks, "bare", "spaced", "written", model_args=model_args, device="cpu")


@pytest.mark.parametrize(("task", "rule"), [("bare", "letter"), ("spaced", "lm-eval")])
def test_our_rules_are_the_harness_to_the_letter(
    pico_untied: Path, tasks: Path, theirs: Any, tmp_path: Path, task: str, rule: Any
) -> None:
    settings = ChoiceSettings(rule=rule, dtype="float32", wording="zh")
    asked = ChoiceTask(read_questions(tasks / "own.jsonl"), settings)
    found = ask_choices({"it": pico_untied}, asked, cache=tmp_path)
    (rows,) = tmp_path.rglob("rows.jsonl")
    ours = [json.loads(line)["scores"] for line in rows.read_text().splitlines()]
    for one, other in zip(ours, log_ps(theirs, task), strict=True):
        assert one == pytest.approx(other, abs=1e-4)
    right = theirs["results"][task]["acc,none"]
    assert found.models[0].scores[0].value == pytest.approx(100 * right)
    assert 0 < right < 1


def test_its_tasks_run_on_gguf_files_and_adapters(
    pico_untied: Path, tasks: Path, theirs: Any, tmp_path: Path
) -> None:
    from hanpaca.steps.harness import HarnessModel

    names = ("bare", "spaced", "written")
    file = tmp_path / "f32.gguf"
    folder_to_gguf(pico_untied, file, file_type="f32", metadata={})
    for path, apart in ((pico_untied, 1e-4), (file, 2e-2)):
        with HarnessModel(str(path), dtype="float32") as model:
            found = harness(model, tasks, *names)
        for task in names[:2]:
            for one, other in zip(log_ps(found, task), log_ps(theirs, task), strict=True):
                assert one == pytest.approx(other, abs=apart)
            assert found["results"][task]["acc,none"] == theirs["results"][task]["acc,none"]
        assert written(found) == written(theirs)
    adapter = tmp_path / "adapter"
    make_adapter(pico_untied, adapter)
    more = f"pretrained={pico_untied},peft={adapter},dtype=float32"
    peft = harness("hf", tasks, "bare", model_args=more, device="cpu")
    with HarnessModel(str(pico_untied), adapters=[str(adapter)], dtype="float32") as model:
        found = harness(model, tasks, "bare")
    for one, other in zip(log_ps(found, "bare"), log_ps(peft, "bare"), strict=True):
        assert one == pytest.approx(other, abs=0.1)  # the merged weights are rounded to 16 bits
    assert log_ps(peft, "bare") != log_ps(theirs, "bare")


def test_whole_texts_are_scored_as_the_harness_does(pico_untied: Path) -> None:
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM

    from hanpaca.steps.harness import HarnessModel

    texts = [*POEMS, "It was the best of times. " * 30]  # longer than the context
    asked = [Instance("loglikelihood_rolling", {}, (text,), at) for at, text in enumerate(texts)]
    theirs = HFLM(pretrained=str(pico_untied), dtype="float32", device="cpu", batch_size=1)
    with HarnessModel(str(pico_untied), dtype="float32") as model:
        assert model.loglikelihood_rolling(asked) == pytest.approx(
            theirs.loglikelihood_rolling(asked), abs=1e-3
        )
