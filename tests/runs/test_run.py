import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

from hanpaca.errors import ResourceError
from hanpaca.runs.plan import STAGE_NAMES, estimate
from hanpaca.runs.recipe import load_recipe
from hanpaca.runs.run import run_recipe
from hanpaca.settings import Recipe


@pytest.fixture
def recipe(pico_base: Path, tmp_path: Path) -> Recipe:
    tree = {
        "name": "own",
        "base": str(pico_base),
        "data": {"text": ["zh.txt"], "replay": [], "instructions": ["chat.json"]},
        "tokenizer": {"num_pieces": 10},
        "pretrain": {"num_tokens": 100_000, "replay_fraction": 0},
        "sft": {"num_tokens": 100_000, "replay_fraction": 0},
    }
    (tmp_path / "recipe.yaml").write_text(json.dumps(tree))
    return load_recipe(tmp_path / "recipe.yaml")


def test_a_disk_that_is_too_small_is_said_before_anything_is_done(
    recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=5_000_000))
    with pytest.raises(ResourceError, match=r"0\.\d+ GB of disk are needed, 0\.01 GB are free"):
        run_recipe(recipe, tmp_path / "run", tell=lambda update: None)
    assert not (tmp_path / "run").exists()


def test_what_is_done_needs_no_disk(
    recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in STAGE_NAMES[1:]:
        (tmp_path / "run" / name).mkdir(parents=True)
        (tmp_path / "run" / name / "manifest.json").touch()
    needed = estimate(recipe).disk_bytes[STAGE_NAMES[0]]
    for free, message in ((needed - 1, "of disk are needed"), (needed + 1, r"zh\.txt")):
        monkeypatch.setattr(
            shutil, "disk_usage", lambda path, free=free: SimpleNamespace(free=free)
        )
        with pytest.raises(Exception, match=message):
            run_recipe(recipe, tmp_path / "run", tell=lambda update: None)


def test_the_estimate_follows_the_recipe(recipe: Recipe, pico_base: Path) -> None:
    before = estimate(recipe)
    assert list(before.seconds) == list(before.disk_bytes) == list(STAGE_NAMES)
    # Small bases are counted as a million weights.
    assert before.disk_bytes["20-base"] == pytest.approx(2e6)
    assert recipe.pretrain
    longer = recipe.pretrain.model_copy(update={"num_tokens": 200_000})
    after = estimate(recipe.model_copy(update={"pretrain": longer}))
    training = before.seconds["30-pretrain"] - 15
    assert after.seconds["30-pretrain"] - 15 == pytest.approx(2 * training)
    assert after.seconds["50-sft"] == before.seconds["50-sft"]
    for kind, bits in (("f32", 32), ("q8_0", 8.5), ("q4_k_m", 4.8)):
        gguf = recipe.gguf.model_copy(update={"types": (kind,)})
        found = estimate(recipe.model_copy(update={"gguf": gguf}))
        assert found.disk_bytes["70-gguf"] == pytest.approx(1e6 * bits / 8)


@pytest.mark.parametrize(
    ("name", "bytes_per_weight"),
    [("m.f16.gguf", 2.0), ("m.Q8_0.gguf", 1.06), ("m.q4_k_m.gguf", 0.66)],
)
def test_a_gguf_base_is_counted_by_its_type(
    name: str, bytes_per_weight: float, recipe: Recipe, tmp_path: Path
) -> None:
    with (tmp_path / name).open("wb") as stream:
        stream.truncate(200_000_000)
    found = estimate(recipe.model_copy(update={"base": str(tmp_path / name)}))
    assert found.disk_bytes["20-base"] == pytest.approx(2 * 200_000_000 / bytes_per_weight)
