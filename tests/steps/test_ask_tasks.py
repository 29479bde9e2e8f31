"""Tasks on builtin texts: asked of two models, counted, and set against what knows nothing."""

import json
from pathlib import Path

import pytest

from hanpaca.data.builtin.material import TaskQuestion
from hanpaca.evals.choice.tally import wilson_interval
from hanpaca.evals.results import RunResult, TaskScore, read_results, write_results
from hanpaca.evals.tasks.builtin import TITLES, above, constant_share, is_right, mean_chrf
from hanpaca.report.run_page import run_page
from hanpaca.steps.ask_tasks import ask_tasks
from hanpaca.steps.choice_scorers import open_reader
from hanpaca.steps.write_gguf import folder_to_gguf
from tests.support.texts import POEMS

OPTIONS = ("白日依山尽", "床前明月光", "春眠不觉晓", "千山鸟飞绝")
CHOICES = [
    TaskQuestion(
        "idiom_of_meaning", f"哪一句先于：{POEMS[at % 4][6:11]}？", (OPTIONS[at % 4],), OPTIONS
    )
    for at in range(8)
]
FREE = [
    TaskQuestion("interface_phrase", f"“{word}”用英文怎么说？", ("Open",)) for word in "山河月光"
]


@pytest.fixture(scope="module")
def gguf(pico_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("asked") / "pico.gguf"
    folder_to_gguf(pico_base, file, file_type="f16", metadata={})
    return file


def test_both_kinds_of_task_are_asked_and_shown_with_what_knows_nothing(
    gguf: Path, tmp_path: Path
) -> None:
    models = {"base": gguf, "chat": gguf}
    found = ask_tasks(models, [*CHOICES, *FREE], most=6, cache=tmp_path)
    assert [one.name for one in found] == [TITLES["idiom_of_meaning"], TITLES["interface_phrase"]]
    chosen, written = found
    assert chosen.baselines.keys() == {"chance", "always A", "most shared characters"}
    assert chosen.baselines["chance"] == 25
    assert written.baselines == {"best constant answer": 100}
    assert [len(one.models) for one in found] == [2, 2]
    for task, number in ((chosen, 6), (written, 4)):
        for model in task.models:
            score = model.scores[0]
            assert score.num_items == number == sum(model.picks.values())
            right = round(score.value * number / 100)
            low, high = wilson_interval(right, number)
            assert (score.low, score.high) == pytest.approx((100 * low, 100 * high))
        assert task.models[0].scores == task.models[1].scores, "one file, one number"
        assert [note.partition(":")[0] for note in task.notes] == ["base", "chat"]
    result = RunResult("tasks", (), (), tasks=found)
    write_results(result, tmp_path / "results.json")
    assert read_results(tmp_path / "results.json") == result
    page = run_page(result, lang="zh")
    for text in ("释义属于哪个成语", "共有字最多", "最佳固定答案"):
        assert text in page


def test_what_was_asked_is_not_asked_again(
    gguf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = ask_tasks({"base": gguf}, CHOICES, cache=tmp_path)
    (rows,) = tmp_path.rglob("rows.jsonl")
    known = [json.loads(line) for line in rows.read_text(encoding="utf-8").splitlines()]
    assert len(known) == len(CHOICES)
    monkeypatch.setattr("hanpaca.steps.choice.open_reader", None)
    assert ask_tasks({"base": gguf}, CHOICES, cache=tmp_path) == first


def test_a_model_is_asked_in_its_own_template_and_one_without_reads_a_line(
    pico_base: Path,
) -> None:
    with open_reader(pico_base) as reader:
        asked = reader.as_user("山？")
        if reader.tokenizer.chat_template:
            rendered = reader.tokenizer.apply_chat_template(
                [{"role": "user", "content": "山？"}], tokenize=False, add_generation_prompt=True
            )
            assert str(rendered).endswith(asked)
        reader.tokenizer.chat_template = None
        assert reader.as_user("山？") == "山？\n"


@pytest.mark.parametrize(
    ("text", "right"),
    [
        ("Open File", True),
        ("open file.", True),
        ("“Open File”", True),
        ("Open File and run it", False),
        ("Open", False),
        ("", False),
    ],
)
def test_an_answer_is_right_whatever_its_case_and_punctuation(text: str, right: bool) -> None:
    assert is_right(text, ["Open File", "Open a File"]) is right


def test_the_best_constant_answer_counts_each_question_once() -> None:
    assert constant_share([["Open", "open"], ["Open"], ["Run"], ["Stop"]]) == 0.5
    assert mean_chrf([("open", ["Open"]), ("xyz", ["Open"])]) == 50


@pytest.mark.parametrize(
    ("right", "word"), [(80, "above most shared"), (10, "below"), (47, "no difference to most")]
)
def test_above_is_said_only_of_an_interval_above_every_baseline(right: int, word: str) -> None:
    low, high = wilson_interval(right, 100)
    score = TaskScore("all", "all", right, 100 * low, 100 * high, 100)
    told = above(score, {"chance": 25.0, "most shared characters": 45.0})
    assert word in told
    assert "(45.0 %)" in told
