"""Keys of a recipe's section `tokenizer`: what a stage key is made of, and what they do."""

import json
from pathlib import Path
from typing import Any

import pytest

from hanpaca.progress import Progress
from hanpaca.runs.layout import Job
from hanpaca.runs.materials import tokenizer_inputs
from hanpaca.runs.recipe import load_recipe
from hanpaca.runs.stages import STAGES, tokenizer
from hanpaca.settings import Recipe
from hanpaca.tokenizer.open import open_tokenizer

OWN = """
name: mine
base: base
data: {text: [zh.txt], instructions: [chat.json]}
tokenizer: {num_pieces: 10}
pretrain: {num_tokens: 1000}
sft: {num_tokens: 1000}
"""
POEM = ["白日依山尽，", "黄河入海流。", "白日依山尽，", "黄河入海流。"]
VIETNAMESE = ["người Việt nói tiếng Việt"] * 5


def recipe_of(folder: Path, *overrides: str) -> Recipe:
    file = folder / "recipe.yaml"
    file.write_text(OWN, encoding="utf-8")
    return load_recipe(file, overrides)


def key_material(recipe: Recipe) -> dict[str, Any]:
    return next(stage.config(recipe) for stage in STAGES if stage.name == "10-tokenizer")


@pytest.mark.parametrize("overrides", [(), ("tokenizer.scripts=[]",), ("language=zh-Hans",)])
def test_a_recipe_that_says_nothing_new_keeps_its_stage_key(
    tmp_path: Path, overrides: tuple[str, ...]
) -> None:
    recipe = recipe_of(tmp_path, *overrides)
    assert key_material(recipe) == {"num_pieces": 10, "scripts": ["Han"]}


def test_the_language_decides_the_scripts_where_none_is_named(tmp_path: Path) -> None:
    for overrides, scripts in (
        (["language=ko"], ("Hangul",)),
        (["language=vi"], ()),
        (["language=ko", "tokenizer.scripts=[Han]"], ("Han",)),
    ):
        section = recipe_of(tmp_path, *overrides).tokenizer
        assert section
        assert section.scripts == scripts


def test_files_beside_the_text_are_inputs_by_their_content(tmp_path: Path) -> None:
    for name in ("a.txt", "b.txt", "c.tsv"):
        (tmp_path / name).write_text("白")
    named = ("required=a.txt", "protect=[b.txt]", "prior=c.tsv")
    recipe = recipe_of(tmp_path, *(f"tokenizer.{one}" for one in named))
    assert [one.path for one in tokenizer_inputs(recipe)] == ["a.txt", "c.tsv", "b.txt"]
    assert tokenizer_inputs(recipe_of(tmp_path)) == []


def worked(recipe: Recipe, base: Path, text: list[str], folder: Path) -> list[Progress]:
    data = folder / "05-data"
    data.mkdir()
    for name in ("text.jsonl", "text.heldout.jsonl", "replay.heldout.jsonl"):
        lines = ["The fox."] if name.startswith("replay") else text
        rows = (json.dumps({"text": one}) for one in lines)
        (data / name).write_text("\n".join(rows), encoding="utf-8")
    (folder / "out").mkdir()
    told: list[Progress] = []
    tokenizer(Job(recipe, folder, base, told.append), folder / "out")
    return told


@pytest.mark.slow
def test_the_stage_heeds_every_key(pico_base: Path, tmp_path: Path) -> None:
    (tmp_path / "required.txt").write_text("龘", encoding="utf-8")
    (tmp_path / "prior.tsv").write_text("春眠\t-1.5\n不觉\t-2\n", encoding="utf-8")
    recipe = recipe_of(
        tmp_path,
        "tokenizer.num_pieces=20",
        "tokenizer.required=required.txt",
        "tokenizer.prior=prior.tsv",
        "tokenizer.punctuation=with_text",
    )
    worked(recipe, pico_base, POEM, tmp_path)
    new = open_tokenizer(tmp_path / "out")
    assert [len(ids) for ids in new.spell(["龘".encode(), "春眠".encode()])] == [1, 1]


def test_a_text_to_protect_makes_latin_letters_possible(pico_base: Path, tmp_path: Path) -> None:
    (tmp_path / "en.txt").write_text("The fox. The dog.", encoding="utf-8")
    recipe = recipe_of(
        tmp_path,
        "language=vi",
        "tokenizer.num_pieces=5",
        "tokenizer.scripts=[Latin]",
        "tokenizer.protect=[en.txt]",
    )
    worked(recipe, pico_base, VIETNAMESE, tmp_path)
    assert json.loads((tmp_path / "out/audit.json").read_text())["scripts"] == ["Latin"]


def test_the_stage_says_what_was_guessed(pico_base: Path, tmp_path: Path) -> None:
    recipe = recipe_of(tmp_path, "language=sr", "tokenizer.num_pieces=5")
    told = worked(recipe, pico_base, ["српски језик"] * 5, tmp_path)
    assert "scripts guessed from the text: Cyrillic" in [progress.note for progress in told]
    assert json.loads((tmp_path / "out/audit.json").read_text())["scripts"] == ["Cyrillic"]
