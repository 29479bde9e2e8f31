import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from hanpaca.checkpoints.model import read_tensors
from hanpaca.cli import app
from hanpaca.errors import ArtifactError
from hanpaca.progress import Progress
from hanpaca.runs.folder import verify_run
from hanpaca.steps.bakeoff import BakeoffTexts, Score, _rank, candidates, score_starts
from hanpaca.steps.grow import extension_of
from hanpaca.tokenizer.extension.extend import extend_tokenizer, write_extension
from hanpaca.training.begun import num_new_rows

CHINESE = [
    "白日依山尽，黄河入海流。",
    "欲穷千里目，更上一层楼。",
    "白日放歌须纵酒，千里江陵一日还。",
]
ENGLISH = ["All happy families are alike.", "It was the best of times."]


@pytest.fixture(scope="module")
def extended(pico_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("extended") / "tokenizer"
    write_extension(extend_tokenizer(pico_base, CHINESE * 3, num_pieces=12), pico_base, folder)
    return folder


@pytest.mark.slow
def test_starts_are_scored_without_training(
    pico_base: Path, extended: Path, tmp_path: Path
) -> None:
    told: list[Progress] = []
    settings = candidates(untied=True, num_fit_steps=2)
    scores = score_starts(
        pico_base,
        extended,
        extension_of(pico_base, extended),
        BakeoffTexts(CHINESE, CHINESE[:2], ENGLISH),
        starts=settings,
        training=None,
        scratch=tmp_path,
        tell=told.append,
    )
    assert [one.note.partition(":")[0] for one in told] == list(settings)
    assert [one.fraction for one in told] == [n / len(settings) for n in range(1, len(told) + 1)]
    assert {score.name for score in scores} == set(settings)
    assert all(score.start > 0 and score.trained is None for score in scores)
    assert len({round(score.start, 6) for score in scores}) > 4
    assert not list(tmp_path.iterdir())


def test_without_untying_no_head_row_is_tried() -> None:
    tied = candidates(untied=False, num_fit_steps=0)
    assert all(not rows.untie for rows in tied.values())
    assert not any(name.startswith("first piece") for name in tied)


def test_what_forgets_the_old_language_comes_last() -> None:
    keeps, forgets = Score("keeps", 9.0, 8.0, 1.0), Score("forgets", 9.0, 7.0, 1.1)
    assert sorted([forgets, keeps], key=lambda one: _rank(one, 1.0)) == [keeps, forgets]
    assert sorted([keeps, forgets], key=lambda one: _rank(one, None)) == [forgets, keeps]


@pytest.mark.slow
def test_the_command_names_the_best(pico_base: Path, extended: Path, tmp_path: Path) -> None:
    text = tmp_path / "zh.txt"
    text.write_text("\n\n".join(CHINESE * 10), encoding="utf-8")
    arguments = ["tokenizer", "bakeoff", "--base", str(pico_base), "--extended", str(extended)]
    arguments += ["--text", str(text), "--num-tokens", "600", "--json"]
    done = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert done.exit_code == 0
    found = json.loads(done.stdout)
    assert found == sorted(found, key=lambda one: one["trained"])
    assert all(one["trained"] < one["start"] for one in found)


def test_grow_writes_a_model_that_peft_could_train(
    pico_base: Path, extended: Path, tmp_path: Path
) -> None:
    text, output = tmp_path / "zh.txt", tmp_path / "grown"
    text.write_text("\n\n".join(CHINESE * 10), encoding="utf-8")
    arguments = ["grow", "--base", str(pico_base), "--extended", str(extended)]
    arguments += ["--text", str(text), "-o", str(output), "--untie"]
    done = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert done.exit_code == 0
    assert "12 new rows" in done.stdout
    assert "head with rows of its own" in done.stdout
    old, new = read_tensors(pico_base), read_tensors(output)
    num_old = old["model.embed_tokens.weight"].shape[0]
    assert new["model.embed_tokens.weight"].shape[0] == num_old + 12
    assert new["lm_head.weight"].shape == new["model.embed_tokens.weight"].shape
    assert len(verify_run(output)) == len(list(output.iterdir())) - 1
    assert num_new_rows(output) == 12
    assert (output / "tokenizer.json").read_bytes() == (extended / "tokenizer.json").read_bytes()
    again = CliRunner().invoke(app, arguments)
    assert isinstance(again.exception, ArtifactError)
