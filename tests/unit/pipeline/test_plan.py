import json
from pathlib import Path

import pytest

from hanpaca.pipeline.plan import estimate
from hanpaca.recipe import Recipe, load_recipe

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
    [note] = estimate(recipe_with(tied, base="model.gguf")).notes
    assert "as large as its embedding" in note


def test_more_tokens_take_longer_and_a_larger_base_more_disk(tied: Path) -> None:
    few = estimate(recipe_with(tied))
    many = estimate(recipe_with(tied, num_tokens=20_000))
    assert many.seconds["30-pretrain"] > few.seconds["30-pretrain"]
    (tied / "base/model.safetensors").write_bytes(bytes(40_000_000))
    assert estimate(recipe_with(tied)).disk_bytes["20-base"] == pytest.approx(4e7)
