"""Runs side by side, read from what their stages left."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hanpaca.errors import ArtifactError, RecipeError
from hanpaca.evals.choice.tally import Picked, baselines, tally
from hanpaca.evals.results import BITS, Measured, RunResult, TaskResult, write_results
from hanpaca.files import Artifact
from hanpaca.manifests import Manifest, environment, write_manifest
from hanpaca.runs.compare import compare
from tests.support.in_process import say
from tests.support.pages import quickstart

BITS_OF_TEXTS = tuple(float(bits) for bits in np.random.default_rng(0).uniform(500, 900, 84))


def results(factor: float = 1.0) -> RunResult:
    """Those of the quickstart, with bits of each text, which are `factor` times as many."""
    found = quickstart()

    def scaled(measured: Measured) -> Measured:
        bits = tuple(factor * one for one in BITS_OF_TEXTS)
        low, high = ((measured.low or 0) * factor, (measured.high or 0) * factor)
        value = measured.value * factor
        return replace(measured, value=value, low=low, high=high, per_text=bits)

    models = tuple(
        replace(
            one,
            measured={
                **one.measured,
                "zh": {**one.measured["zh"], BITS.name: scaled(one.measured["zh"][BITS.name])},
            },
        )
        for one in found.models
    )
    return replace(found, models=models)


def run(
    folder: Path, found: RunResult, config: Mapping[str, Any], *, heldout: str = "1" * 64
) -> Path:
    """A run folder with two stages before the evaluation."""
    text = Artifact("05-data/text.heldout.jsonl", heldout, 9)
    given = Artifact("text.txt", "a" * 64, 9)
    stages = {
        "05-data": ({"text": ["text.txt"], "notes": ["long"]}, (given,), (text,)),
        "30-pretrain": (config, (text,), ()),
        "80-eval": ({}, (), ()),
    }
    for name, (settings, inputs, outputs) in stages.items():
        (folder / name).mkdir(parents=True)
        manifest = Manifest(
            name, 1, "key", settings, inputs, outputs, {}, environment(), "2026-01-01", 1.0
        )
        write_manifest(folder / name, manifest)
    write_results(found, folder / "80-eval/results.json")
    return folder


@pytest.mark.slow
def test_runs_are_compared_text_by_text_and_setting_by_setting(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one = run(tmp_path / "one", results(), {"num_tokens": 10, "lora": {"rank": 8}})
    two = run(tmp_path / "two", results(0.9), {"num_tokens": 10, "lora": {"rank": 64}})
    found = compare([one, two])
    assert [(pair.language, pair.judgement) for pair in found.pairs] == [("zh", "better")]
    assert found.pairs[0].ratio == pytest.approx(0.9)
    settings = found.tables[-1]
    assert settings == (("setting", "one", "two"), [("pretrain.lora.rank", "8", "64")])
    assert found.runs[0].provenance["text.txt"] == "a" * 64
    page = tmp_path / "compare.html"
    said = say(capsys, "compare", one, two, "--page", page, "--lang", "zh")
    assert (said.status, "pretrain.lora.rank" in said.out) == (0, True)
    assert "not what another training run" in said.error
    text = page.read_text(encoding="utf-8")
    assert "<h2>不同的设置</h2>" in text
    assert "http://" not in text.replace("http://www.w3.org", "")
    told = json.loads(say(capsys, "compare", one, two, "--json").out)
    assert [each["name"] for each in told["runs"]] == ["one", "two"]


def test_equal_numbers_show_no_difference_and_other_texts_are_not_compared(tmp_path: Path) -> None:
    one = run(tmp_path / "one", results(), {})
    same = run(tmp_path / "same", results(), {})
    other = run(tmp_path / "other", results(0.5), {}, heldout="2" * 64)
    found = compare([one, same, other])
    assert [(pair.other, pair.judgement) for pair in found.pairs] == [
        ("same", "not shown either way")
    ]
    assert any(note.startswith("other was measured on other Chinese text") for note in found.notes)


def test_what_eval_wrote_as_json_is_compared_too(tmp_path: Path) -> None:
    one = run(tmp_path / "a/run", results(), {})
    write_results(results(1.1), tmp_path / "found.json")
    found = compare([one, tmp_path / "found.json"])
    assert [(run.name, bool(run.settings)) for run in found.runs] == [
        ("run", True),
        ("found", False),
    ]
    assert found.pairs[0].judgement == "worse"
    again = run(tmp_path / "b/run", results(), {})
    assert [each.name for each in compare([one, again]).runs] == ["a/run", "b/run"]


def test_a_folder_and_a_file_of_one_name_are_two_and_tasks_have_a_table(tmp_path: Path) -> None:
    picked = [Picked("law", 0, 4, number % 2) for number in range(10)]
    asked = tally("chat", picked, {}, how="", notes=())
    task = TaskResult("own", "v", "rule letter", "% right", baselines(picked), (asked,))
    found = replace(results(), tasks=(task,))
    one = run(tmp_path / "run", found, {})
    write_results(found, tmp_path / "run.json")
    compared = compare([one, tmp_path / "run.json"])
    assert [each.name for each in compared.runs] == ["run", "run.json"]
    header, rows = next(table for table in compared.tables if table[0][0] == "own")
    assert header[:3] == ("own", "% right", "95 %")
    assert [row[:2] for row in rows] == [
        *(("run", "50.00"), ("run.json", "50.00"), ("chance", "25.00"), ("always A", "100.00")),
    ]
    with pytest.raises(RecipeError, match=r"run\.json: given twice"):
        compare([one, tmp_path / "run.json", tmp_path / "run.json"])


def test_one_run_none_evaluated_and_one_twice_are_refused(tmp_path: Path) -> None:
    one = run(tmp_path / "one", results(), {})
    with pytest.raises(RecipeError, match="there is one run"):
        compare([one])
    with pytest.raises(ArtifactError, match=r"absent: no 80-eval/results\.json"):
        compare([one, tmp_path / "absent"])
    with pytest.raises(RecipeError, match="given twice"):
        compare([one, one])
