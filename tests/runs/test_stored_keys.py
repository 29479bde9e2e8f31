"""What a stage is known by stays: a run finished earlier is skipped, not done again.

`tests/golden/stage_keys.json` was written by the package as it stood before its modules got their
rooms (commit 082dadd): for `tests/golden/stage_keys.yaml` and the quickstart of that time, of every
stage in `pipeline.stages.STAGES`, its version, `stage.reads`, `stage.section(recipe)`, and
`runs.stage_key` of these with the two files in `GIVEN`. Write it anew for no other reason than a
stage that comes to make something else of the same inputs, with its version raised.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from hanpaca.files import Artifact
from hanpaca.manifests import read_manifest, stage_key
from hanpaca.runs.recipe import load_recipe
from hanpaca.runs.run import run_recipe
from hanpaca.runs.stages import STAGES
from hanpaca.settings import TrainingSettings

ROOT = Path(__file__).parents[2]
GOLDEN = json.loads((ROOT / "tests/golden/stage_keys.json").read_text(encoding="utf-8"))
RECIPES = {
    "pico": ROOT / "tests/golden/stage_keys.yaml",
    "quickstart": ROOT / "tests/golden/stage_keys_quickstart.yaml",
}
GIVEN = [Artifact("base/config.json", "ab" * 32, 7), Artifact("05-data/text.jsonl", "cd" * 32, 3)]


@pytest.mark.parametrize("name", RECIPES)
def test_every_stage_keeps_its_name_version_settings_and_key(name: str) -> None:
    recipe = load_recipe(RECIPES[name])
    found = {
        stage.name: {
            "version": stage.version,
            "reads": list(stage.reads),
            "config": stage.config(recipe),
            "key": stage_key(stage.name, stage.version, stage.config(recipe), GIVEN),
        }
        for stage in STAGES
    }
    assert list(found) == list(GOLDEN[name])
    for stage_name, stored in GOLDEN[name].items():
        assert found[stage_name] == stored, stage_name


LATER = [
    name
    for name, field in TrainingSettings.model_fields.items()
    if field.json_schema_extra == {"later": True}
]
OTHER = {
    "schedule": "linear",
    "gradient_checkpointing": True,
    "attention": "eager",
    "sharding": "full",
    "train": ["lora"],
    "row_updates": "together",
    "quantize_base": "nf4",
    "device_map": "auto",
    "compile": True,
    "probed_texts": 8,
}


@pytest.mark.parametrize("section", ["pretrain", "sft"])
@pytest.mark.parametrize("name", ["schedule", *LATER])
def test_a_setting_that_came_later_counts_where_it_is_another(name: str, section: str) -> None:
    value = OTHER.get(name, 2 if name == "accumulation_steps" else 0.5)
    stage = next(one for one in STAGES if one.section == section)
    plain = load_recipe(RECIPES["pico"])
    other = load_recipe(RECIPES["pico"], [f"{section}.batch_blocks=4", f"{section}.{name}={value}"])
    found = stage.config(other)
    assert found[name] == value
    assert {
        key: found[key] for key in stage.config(plain) if key not in (name, "batch_blocks")
    } == {
        key: value
        for key, value in stage.config(plain).items()
        if key not in (name, "batch_blocks")
    }


def test_who_is_told_of_a_training_does_not_count() -> None:
    plain = load_recipe(RECIPES["pico"])
    told = load_recipe(RECIPES["pico"], ["sft.trackers=[wandb]"])
    assert told.sft is not None
    assert told.sft.trackers == ("wandb",)
    assert [stage.config(told) for stage in STAGES] == [stage.config(plain) for stage in STAGES]


def described(file: Path, name: str) -> dict[str, Any]:
    data = file.read_bytes()
    return {"path": name, "sha256": hashlib.sha256(data).hexdigest(), "num_bytes": len(data)}


def digest(tree: object) -> str:
    text = json.dumps(tree, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def finish_stage(run: Path, name: str, inputs: list[dict[str, Any]]) -> dict[str, Any]:
    """Leave what the stage left when it was run earlier; written out, not by today's code."""
    stored = GOLDEN["pico"][name]
    (run / name).mkdir(parents=True)
    (run / name / "made.txt").write_text(f"of {name}", encoding="utf-8")
    files = sorted((one["path"], one["sha256"]) for one in inputs)
    tree = {
        "stage": name,
        "stage_version": stored["version"],
        "key": digest([1, f"{name}@{stored['version']}", stored["config"], files]),
        "config": stored["config"],
        "inputs": inputs,
        "outputs": [described(run / name / "made.txt", f"{name}/made.txt")],
        "metrics": {},
        "environment": {"hanpaca": "0.1.0"},
        "started": "2026-11-01T00:00:00+00:00",
        "seconds": 1.0,
        "schema_version": 1,
    }
    text = json.dumps({**tree, "sha256": digest(tree)}, indent=2, ensure_ascii=False) + "\n"
    (run / name / "manifest.json").write_text(text, encoding="utf-8")
    return tree


@pytest.fixture
def finished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a recipe, with a run of it that an earlier version of the package finished."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "recipe.yaml").write_bytes(RECIPES["pico"].read_bytes())
    (tmp_path / "base").mkdir()
    base = [tmp_path / "base" / name for name in ("config.json", "tokenizer.json")]
    texts = [tmp_path / name for name in ("zh.txt", "en.txt", "chat.json")]
    for file in (*base, *texts):
        file.write_text("{}", encoding="utf-8")
    earlier: dict[str, list[dict[str, Any]]] = {}
    for name, stored in GOLDEN["pico"].items():
        given = [described(file, f"base/{file.name}") for file in base]
        given += [file for before in stored["reads"] for file in earlier[before]]
        if not stored["reads"]:
            given = [described(file, file.name) for file in texts]
        earlier[name] = finish_stage(tmp_path / "run", name, given)["outputs"]
    return tmp_path


def run_again(folder: Path) -> list[bool]:
    recipe = load_recipe(folder / "recipe.yaml")
    outcomes = run_recipe(recipe, folder / "run", tell=lambda _: None)
    return [skipped for _, skipped in outcomes]


def test_a_run_finished_earlier_is_skipped(finished: Path) -> None:
    keys = [read_manifest(finished / "run" / stage.name).key for stage in STAGES]
    assert run_again(finished) == [True] * len(STAGES)
    assert [read_manifest(finished / "run" / stage.name).key for stage in STAGES] == keys


def test_and_is_not_skipped_once_a_text_is_another_of_the_same_size(finished: Path) -> None:
    (finished / "zh.txt").write_text("[]", encoding="utf-8")
    with pytest.raises(Exception, match="held out"):
        run_again(finished)
