import json
import os
from pathlib import Path

import pytest

from hanpaca.runs.plan import estimate
from hanpaca.runs.recipe import load_recipe
from hanpaca.settings import Recipe

RECIPE = """
name: test
base: {base}
data: {{text: [text.txt], replay: [], instructions: [chats.jsonl]}}
tokenizer: {{num_pieces: 1000}}
rows: {{untie: {untie}}}
pretrain: {{num_tokens: {num_tokens}, replay_fraction: 0}}
sft: {{num_tokens: 1000, replay_fraction: 0}}
"""


def recipe_with(
    folder: Path, *, base: str = "base", untie: str = "true", num_tokens: int = 10_000
) -> Recipe:
    for name in ("text.txt", "chats.jsonl"):
        (folder / name).touch()
    file = folder / "recipe.yaml"
    file.write_text(RECIPE.format(base=base, untie=untie, num_tokens=num_tokens))
    return load_recipe(file)


@pytest.fixture
def tied(tmp_path: Path) -> Path:
    config = {"vocab_size": 9_000, "hidden_size": 500, "tie_word_embeddings": True}
    (tmp_path / "base").mkdir()
    (tmp_path / "base/config.json").write_text(json.dumps(config))
    return tmp_path


def test_an_untied_head_is_said_and_sized(tied: Path) -> None:
    [note] = estimate(recipe_with(tied)).notes
    assert "adds 10 MB" in note  # 2 bytes x 500 x (9,000 + 1,000)
    assert estimate(recipe_with(tied, untie="false")).notes == ()


def test_a_head_that_is_untied_already_costs_nothing_more(tied: Path) -> None:
    config = {"vocab_size": 9_000, "hidden_size": 500, "tie_word_embeddings": False}
    (tied / "base/config.json").write_text(json.dumps(config))
    assert estimate(recipe_with(tied)).notes == ()


def test_where_sizes_are_unknown_the_cost_is_still_said(tied: Path) -> None:
    missing, guessed, note = estimate(recipe_with(tied, base="model.gguf")).notes
    assert "model.gguf is not here" in missing
    assert "figures are those of 135 M weights" in guessed
    assert "as large as its embedding" in note


@pytest.mark.parametrize(("base", "told"), [("meta/Llama-2-7b", True), ("base", False)])
def test_a_size_that_is_guessed_is_said_to_be(base: str, told: bool, tied: Path) -> None:
    notes = estimate(recipe_with(tied, base=base)).notes
    assert any(base in note and "135 M weights" in note for note in notes) is told


@pytest.mark.parametrize(
    ("num_bytes", "told"), [(40_000, False), (75_000, False), (10_000, True), (0, False)]
)
def test_a_text_that_is_small_for_its_tokens_is_said_to_be(
    num_bytes: int, told: bool, tied: Path
) -> None:
    recipe = recipe_with(tied, untie="false", num_tokens=50_000)
    (tied / "text.txt").write_bytes(b"x" * num_bytes)
    notes = [one for one in estimate(recipe).notes if one.startswith("pretrain.num_tokens")]
    assert bool(notes) is told
    assert not told or "0.0 MB of text some 15 times" in notes[0]


@pytest.mark.parametrize("name", ["text.txt.gz", "text.parquet", "gone.txt", "folder"])
def test_of_a_text_whose_size_is_not_seen_nothing_is_said(name: str, tied: Path) -> None:
    recipe = recipe_with(tied, untie="false", num_tokens=50_000)
    (tied / "text.txt").write_bytes(b"x" * 1_000)
    (tied / "folder").mkdir()
    if "." in name and not name.startswith("gone"):
        (tied / name).write_bytes(b"x" * 1_000)
    data = recipe.data.model_copy(update={"text": ("text.txt", name)})
    notes = estimate(recipe.model_copy(update={"data": data})).notes
    assert not [one for one in notes if one.startswith("pretrain.num_tokens")]


def test_more_tokens_take_longer_and_a_larger_base_more_disk(tied: Path) -> None:
    few = estimate(recipe_with(tied))
    many = estimate(recipe_with(tied, num_tokens=20_000))
    assert many.seconds["30-pretrain"] > few.seconds["30-pretrain"]
    (tied / "base/model.safetensors").write_bytes(bytes(40_000_000))
    assert estimate(recipe_with(tied)).disk_bytes["20-base"] == pytest.approx(4e7)


@pytest.mark.parametrize(
    ("types", "seconds"),
    [(("f16",), 0.0125), (("q4_k_m",), 0.25), (("f16", "iq4_xs"), 0.0125 + 5 / 3.6)],
)
def test_slow_kinds_of_files_are_known_to_be(
    types: tuple[str, ...], seconds: float, tied: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    with (tied / "base/model.safetensors").open("wb") as stream:
        stream.truncate(20_000_000)  # ten million weights
    recipe = recipe_with(tied)
    gguf = recipe.gguf.model_copy(update={"types": types})
    found = estimate(recipe.model_copy(update={"gguf": gguf})).seconds["70-gguf"]
    assert found == pytest.approx(3 + 20e6 / 4e8 + seconds, abs=1e-4)


def test_a_plan_names_what_a_run_would_not_find(pico_recipe: Path) -> None:
    assert not [one for one in estimate(load_recipe(pico_recipe)).notes if "is not here" in one]
    missing = {
        "base": "path/to/base-model",
        "data.text": "[gone.txt]",
        "tokenizer.required": "gone.txt",
        "tokenizer.prior": "gone.model",
        "tokenizer.protect": "[gone.txt]",
        "rows.dictionary": "gone.tsv",
    }
    given = [f"{key}={value}" for key, value in missing.items()]
    twins = ["rows.input=twin", "rows.output=twin", "rows.untie=true"]
    notes = estimate(load_recipe(pico_recipe, [*given, *twins])).notes
    assert [note.split(":")[0] for note in notes if "is not here" in note] == list(missing)


def test_a_plan_names_the_package_of_a_file_that_is_not_installed(pico_recipe: Path) -> None:
    given = ["data.text=[package:no_such_package/a.txt]"]
    (note,) = [one for one in estimate(load_recipe(pico_recipe, given)).notes if "no_such" in one]
    assert note.startswith("data.text: package:no_such_package/a.txt")
    assert note.endswith("pip install --no-deps no-such-package")


def test_a_plan_says_what_twins_cost_in_one_table_with_their_words(pico_recipe: Path) -> None:
    given = ["rows.input=twin", "rows.output=twin", "rows.dictionary=builtin:cedict"]
    for untie, told in (("false", True), ("true", False)):
        notes = estimate(load_recipe(pico_recipe, [*given, f"rows.untie={untie}"])).notes
        assert any("half of its English word" in note for note in notes) is told
    none = estimate(load_recipe(pico_recipe, [*given, "tokenizer.num_pieces=0"])).notes
    assert not any("half of its English word" in note for note in none)
