"""The recipes that come with the package, and those that `init` makes of them."""

import os
from pathlib import Path

import pytest
import torch

from hanpaca.checkpoints.shapes import llama_shapes
from hanpaca.errors import RecipeError
from hanpaca.files import read_json
from hanpaca.model.lora import trained_weights
from hanpaca.runs.plan import estimate
from hanpaca.runs.recipe import load_recipe, packaged_recipes
from hanpaca.runs.recipe_pages import recipe_template, settings_of
from hanpaca.runs.sizes import GPU_FLOPS, base_config, training_size
from hanpaca.settings import PretrainSettings
from hanpaca.training.adapter import trainable_model
from tests.support.in_process import say

SHARES = {
    "llama-7b-stage1": 2.97,
    "llama-7b": 6.06,
    "llama-plus-7b": 6.22,
    "llama-13b": 4.10,
    "llama-plus-13b": 4.10,
    "llama-33b": 2.21,
    "alpaca-7b": 6.22,
    "alpaca-plus-7b": 8.08,
    "alpaca-13b": 4.10,
    "alpaca-plus-13b": 5.66,
    "alpaca-33b": 2.21,
}
"""Per cent of the weights that the reference trains, as its tech report has them (tables 1, 2)."""
COUNTED = {
    "llama-7b-stage1": (204_607_488, 6_885_486_592),
    "llama-7b": (417_603_584, 6_893_875_200),
    "llama-plus-7b": (429_203_456, 6_905_475_072),
    "llama-13b": (542_812_160, 13_230_996_480),
    "llama-33b": (725_922_816, 32_828_882_432),
}
"""Weights trained, and all, as peft printed them in the reference's notebooks, or by its shapes."""


@pytest.mark.parametrize("name", SHARES)
def test_the_reference_trains_the_share_that_it_reports(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Though no base is at hand."""
    recipe = load_recipe(f"reference/{name}")
    found = estimate(recipe)
    (size,) = found.trainings.values()
    assert round(100 * size.share, 2) == SHARES[name]
    if name in COUNTED:
        assert (size.num_trained, size.num_weights) == COUNTED[name]
    assert size.gpu_bytes > 2 * size.num_weights
    missing = [note for note in found.notes if note.startswith("base:")]
    assert "a run would refuse; the figures are those of" in missing[0]
    assert say(capsys, "plan", f"reference/{name}").out.count(f": {SHARES[name]:.2f}%.") == 1


def test_every_recipe_of_the_package_is_planned() -> None:
    known = packaged_recipes()
    assert {f"reference/{name}" for name in SHARES} < known.keys()
    assert {"quickstart", "evening", "gpu", "korean"} < known.keys()
    for name in known:
        assert estimate(load_recipe(name)).seconds


def test_an_evening_is_two_hours_of_two_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    seconds = sum(estimate(load_recipe("evening")).seconds.values())
    assert 3_600 < seconds < 7_200


def test_the_recipe_for_a_gpu_trains_within_an_hour_of_a_small_one() -> None:
    sizes = estimate(load_recipe("gpu")).trainings.values()
    assert len(sizes) == 2
    assert sum(size.gpu_seconds for size in sizes) < 3_600
    assert max(size.gpu_bytes for size in sizes) < 24e9


@pytest.mark.parametrize("base", ["pico_base", "pico_untied"])
@pytest.mark.parametrize(
    "given",
    [
        {},
        {"lora": {"rank": 3, "rank_pattern": {"down_proj": 5}, "dora": True}},
        {"train": ["lora", "embedding", "head"]},
        {"train": ["embedding"]},
        {"train": ["new_rows"]},
        {"train": ["all"]},
    ],
)
def test_what_a_plan_counts_is_what_a_training_counts(
    given: dict[str, object], base: str, request: pytest.FixtureRequest
) -> None:
    folder = request.getfixturevalue(base)
    settings = PretrainSettings.model_validate({"num_tokens": 512, **given})
    shapes = llama_shapes(read_json(folder / "config.json"))
    size = training_size(shapes, settings, num_new_rows=6, num_tokens=512)
    model = trainable_model(folder, settings, num_new_rows=6, seed=0, dtype=torch.float32)
    numbers, share = trained_weights(model)
    assert size.num_trained == sum(numbers.values())
    assert size.share == pytest.approx(share)


def test_memory_and_time_follow_the_choices() -> None:
    recipe = load_recipe("reference/llama-7b")
    assert base_config(recipe)
    (size,) = estimate(recipe).trainings.values()
    (half,) = estimate(
        load_recipe("reference/llama-7b", ["pretrain.num_tokens=1572864000"])
    ).trainings.values()
    assert half.gpu_seconds == pytest.approx(size.gpu_seconds / 2)
    (kept,) = estimate(
        load_recipe("reference/llama-7b", ["pretrain.gradient_checkpointing=false"])
    ).trainings.values()
    assert kept.gpu_bytes - size.gpu_bytes == (34 * 32 - 34 - 2 * 32) * 16 * 512 * 4096
    whole = ["pretrain.train=[all]", "pretrain.lora={}"]
    (everything,) = estimate(load_recipe("reference/llama-7b", whole)).trainings.values()
    assert everything.share == 1
    assert everything.gpu_bytes > 16 * everything.num_weights
    # Six operations a weight and token, and two more to compute each layer again.
    assert everything.gpu_seconds == pytest.approx(
        8 * everything.num_weights * 3_145_728_000 / GPU_FLOPS
    )


def test_the_bases_own_answers_take_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """On one thread 200 of them were measured to take 19 minutes (docs/log.md)."""
    monkeypatch.setattr(os, "cpu_count", lambda: 1)
    without, all_asked = (
        estimate(load_recipe("quickstart", [f"sft.self_replay_conversations={number}"])).seconds
        for number in (0, 200)
    )
    assert all_asked["50-sft"] - without["50-sft"] == pytest.approx(19 * 60, rel=0.3)


def test_paths_of_a_packaged_recipe_start_here_and_a_file_of_its_name_comes_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    recipe = load_recipe("reference/llama-7b")
    assert recipe.locate("text") == Path("text")
    Path("evening").mkdir()  # such as the run of that name
    assert load_recipe("evening").name == "evening"
    Path("quickstart").write_text("name: mine", encoding="utf-8")
    with pytest.raises(RecipeError, match="quickstart: base: is missing"):
        load_recipe("quickstart")
    with pytest.raises(RecipeError, match="did you mean 'evening'"):
        load_recipe("evning")


@pytest.mark.parametrize("budget", [[], ["--budget", "evening"], ["--budget", "gpu"]])
@pytest.mark.parametrize(
    ("stages", "edited"),
    [
        ([], ["base", "text", "instructions"]),
        (["sft"], ["base", "instructions"]),
        (["pretrain"], ["base", "text"]),
        (["tokenizer", "pretrain"], ["base", "text"]),
    ],
)
def test_init_writes_what_is_to_be_done_and_marks_what_must_be_edited(
    budget: list[str],
    stages: list[str],
    edited: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    file = tmp_path / "my.yaml"
    chosen = [word for one in stages for word in ("--stage", one)]
    told = say(capsys, "init", file, *budget, *chosen, "--language", "th").out
    lines = file.read_text(encoding="utf-8").splitlines()
    marked = {
        number: line.strip().partition(":")[0]
        for number, line in enumerate(lines, 1)
        if line.endswith("# EDIT")
    }
    assert list(marked.values()) == edited
    assert f"({', '.join(map(str, marked))})" in told
    recipe = load_recipe(file)
    wanted = stages or ["tokenizer", "pretrain", "sft"]
    assert [one for one in ("tokenizer", "pretrain", "sft") if getattr(recipe, one)] == wanted
    assert recipe.language == "th"
    if budget:
        own, given = settings_of(recipe), settings_of(load_recipe(budget[1]), "th")
        pieces = recipe.tokenizer is not None
        kept = {key: value for key, value in given.items() if pieces or not key.startswith("rows.")}
        assert kept
        assert {key: value for key, value in kept.items() if key in own and own[key] != value} == {}
        assert recipe.rows.dictionary is None  # of Chinese
    if recipe.tokenizer:
        assert recipe.tokenizer.scripts == ("Thai",)


def test_init_refuses_what_trains_nothing_or_is_no_stage(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["init", tmp_path / "a", "--stage", "tokenizer"]
    assert "nothing is trained" in say(capsys, *given).last_line
    with pytest.raises(RecipeError, match="'gguf' is no stage to choose"):
        recipe_template(sections=["gguf"])
    assert not list(tmp_path.iterdir())
