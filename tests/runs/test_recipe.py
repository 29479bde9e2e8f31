from pathlib import Path

import pytest
import yaml

from hanpaca.errors import RecipeError, ResourceError
from hanpaca.runs.recipe import load_recipe
from hanpaca.runs.recipe_pages import recipe_reference, recipe_template
from hanpaca.settings import Recipe

OWN = """
name: mine
base: base
data: {text: [zh.txt], instructions: [chat.json]}
tokenizer: {num_pieces: 10}
pretrain: {num_tokens: 1000}
sft: {num_tokens: 1000}
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "recipe.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_recipe_is_read_with_its_defaults(tmp_path: Path) -> None:
    recipe = load_recipe(write(tmp_path, OWN))
    assert recipe.tokenizer
    assert recipe.tokenizer.scripts == ("Han",)
    assert recipe.pretrain
    assert recipe.pretrain.lora.rank == 32
    assert recipe.locate(recipe.base) == tmp_path / "base"


@pytest.mark.parametrize(("text", "value"), [("2e-4", 2e-4), ("1e-3", 1e-3), ("0.5", 0.5)])
def test_exponents_without_a_point_are_numbers(tmp_path: Path, text: str, value: float) -> None:
    """PyYAML reads 2e-4 as text."""
    recipe = load_recipe(write(tmp_path, OWN), [f"pretrain.learning_rate={text}"])
    assert recipe.pretrain
    assert recipe.pretrain.learning_rate == value


def test_a_language_called_no_must_be_quoted(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"language.*[Qq]uote"):
        load_recipe(write(tmp_path, OWN + "language: no\n"))
    assert load_recipe(write(tmp_path, OWN + 'language: "no"\n')).language == "no"


def test_all_faults_are_told_at_once_with_a_guess(tmp_path: Path) -> None:
    text = OWN.replace("num_pieces", "num_peices").replace("name:", "nmae:")
    with pytest.raises(RecipeError) as error:
        load_recipe(write(tmp_path, text), ["pretrain.learning_rate=-1"])
    message = str(error.value)
    for part in ("'num_pieces'", "'name'", "pretrain.learning_rate", "recipe.yaml"):
        assert part in message


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("- a\n", "list"),
        ("", "is empty"),
        (OWN + "seed: 1\nseed: 2\n", "seed"),
        ("a:\n\t- b\n", "recipe.yaml"),
        (OWN.replace("num_pieces: 10", "num_pieces: yes"), "tokenizer.num_pieces"),
        (OWN.replace("num_tokens: 1000}", "num_tokens: 10}", 1), "one step"),
        (OWN + "eval: {num_questions: 200}\n", "heldout_questions"),
        (OWN.replace("replay", "x") + "base_sha256: abc\n", "base_sha256"),
    ],
)
def test_a_wrong_recipe_is_one_clear_message(tmp_path: Path, text: str, part: str) -> None:
    with pytest.raises(RecipeError, match=part):
        load_recipe(write(tmp_path, text))


def test_unreadable_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"none\.yaml"):
        load_recipe(tmp_path / "none.yaml")
    (tmp_path / "recipe.yaml").write_bytes(b"\xff\xfe\xff")
    with pytest.raises(RecipeError, match=r"recipe\.yaml"):
        load_recipe(tmp_path / "recipe.yaml")


def test_an_override_is_read_as_yaml_and_checked(tmp_path: Path) -> None:
    path = write(tmp_path, OWN)
    section = load_recipe(path, ["sft.lora.rank=4"]).sft
    assert section
    assert section.lora.rank == 4
    assert load_recipe(path, ["gguf.types=[f16]"]).gguf.types == ("f16",)
    for wrong in ("sft.lora.rank", "name.x=1", "sft.lora.ranks=4"):
        with pytest.raises(RecipeError):
            load_recipe(path, [wrong])


def test_a_file_in_a_package_is_found_or_its_install_command_told(tmp_path: Path) -> None:
    recipe = load_recipe(write(tmp_path, OWN))
    assert recipe.locate("package:hanpaca/py.typed").is_file()
    with pytest.raises(ResourceError, match="pip install --no-deps no-such"):
        recipe.locate("package:no_such/a.gguf")


def test_the_commented_template_is_a_recipe(tmp_path: Path) -> None:
    text = recipe_template()
    assert isinstance(load_recipe(write(tmp_path, text)), Recipe)
    assert text.count("#") > 20
    assert yaml.safe_load(text)["name"]


def test_the_reference_page_is_up_to_date() -> None:
    page = Path(__file__).parents[2] / "docs/recipe.md"
    assert page.read_text(encoding="utf-8") == recipe_reference()


def test_twins_in_the_head_need_text_of_the_old_language(tmp_path: Path) -> None:
    """Told before a run, not after its data and tokenizer are made."""
    twins = "rows: {output: twin, dictionary: zh.tsv, untie: true}\n"
    none = ["data.replay=[]", "pretrain.replay_fraction=0", "sft.replay_fraction=0"]
    file = write(tmp_path, OWN + twins)
    load_recipe(file)
    with pytest.raises(RecipeError, match=r"rows\.output: .* but data\.replay is empty"):
        load_recipe(file, none)


def test_the_dictionary_that_comes_along_is_of_chinese(tmp_path: Path) -> None:
    twins = "rows: {input: twin, output: twin, dictionary: 'builtin:cedict', untie: true}\n"
    file = write(tmp_path, OWN + twins)
    assert load_recipe(file, ["language=zh-Hant"]).rows.dictionary == "builtin:cedict"
    with pytest.raises(RecipeError, match=r"builtin:cedict is of Chinese, and language is 'ko'"):
        load_recipe(file, ["language=ko", "tokenizer.scripts=[Hangul]"])
