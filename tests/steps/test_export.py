"""The folder that is given away holds together."""

import re
import shutil
import subprocess
from collections import Counter
from pathlib import Path

import pytest
import yaml
from huggingface_hub import ModelCard, ModelCardData
from typer.testing import CliRunner

from hanpaca.cli import app
from hanpaca.errors import ArtifactError, RecipeError
from hanpaca.evals.results import write_results
from hanpaca.files import Artifact
from hanpaca.manifests import Manifest, write_manifest
from hanpaca.steps.export import export
from hanpaca.steps.model_card import model_card
from hanpaca.steps.write_gguf import model_to_gguf
from tests.support.pages import quickstart


@pytest.fixture(scope="module")
def files(pico_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("export")
    outputs = {kind: folder / f"pico.{kind}.gguf" for kind in ("f16", "q8_0")}
    metadata = {"general.license": "mit", "hanpaca.base.fingerprint": "abc"}
    model_to_gguf(pico_base, outputs, metadata=metadata)
    return folder


def test_modelfile_card_and_checksums_are_those_of_the_files(files: Path, tmp_path: Path) -> None:
    output = tmp_path / "Pico"
    words = ["--language", "zh", "--base-model", "org/base"]
    done = CliRunner().invoke(app, ["gguf", "export", str(files), "-o", str(output), *words])
    assert done.exit_code == 0, done.output
    found = {file.name for file in output.iterdir()}
    assert found == {
        *("pico.f16.gguf", "pico.q8_0.gguf", "Modelfile", "README.md", "sha256.txt"),
    }
    checked = subprocess.run(["sha256sum", "-c", "sha256.txt"], cwd=output, check=False)
    assert checked.returncode == 0
    text = (output / "Modelfile").read_text(encoding="utf-8")
    assert text.startswith("FROM ./pico.q8_0.gguf\n")
    assert 'TEMPLATE """{{ range .Messages }}<|im_start|>{{ .Role }}\n' in text
    assert "PARAMETER num_ctx 256" in text
    _, front, body = (output / "README.md").read_text(encoding="utf-8").split("---\n", 2)
    assert yaml.safe_load(front) == {
        "license": "mit",
        "language": ["zh"],
        "base_model": ["org/base"],
        "library_name": "gguf",
        "tags": ["gguf", "hanpaca"],
    }
    assert "# Pico" in body
    assert "| hanpaca.base.fingerprint | `abc` |" in body
    assert (output / "pico.f16.gguf").stat().st_ino == (files / "pico.f16.gguf").stat().st_ino


def test_one_file_and_a_runs_folder_can_be_given(files: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    (run / "70-gguf").mkdir(parents=True)
    shutil.copyfile(files / "pico.f16.gguf", run / "70-gguf/own.f16.gguf")
    for source in (run, run / "70-gguf/own.f16.gguf"):
        output = tmp_path / f"out-{source.name}"
        summary = export(source, output, name="Own", system="Kurz.")
        assert summary.template == "ChatML"
        assert summary.files[0] == "own.f16.gguf"
        assert 'SYSTEM """Kurz."""' in (output / "Modelfile").read_text(encoding="utf-8")


def evaluated_run(files: Path, run: Path) -> Path:
    for name in ("05-data", "70-gguf", "80-eval"):
        (run / name).mkdir(parents=True)
    shutil.copyfile(files / "pico.f16.gguf", run / "70-gguf/own.f16.gguf")
    write_results(quickstart(), run / "80-eval/results.json")
    given = (Artifact("idiom.csv", "d" * 64, 9),)
    config = {"text": ["builtin:idioms"], "replay": []}
    write_manifest(
        run / "05-data",
        Manifest("05-data", 2, "key", config, given, (), {}, {}, "2026-01-01", 1.0),
    )
    return run


def test_the_card_of_a_run_has_its_numbers_in_the_hubs_form(files: Path, tmp_path: Path) -> None:
    run = evaluated_run(files, tmp_path / "run")
    text = model_card(run, name="Own", base_models=["org/base"])
    card = ModelCard(text)
    data = card.data
    assert isinstance(data, ModelCardData)
    results = data.eval_results
    assert results is not None
    assert [(one.dataset_type, one.metric_type) for one in results] == [
        ("heldout-zh", "bits_per_character"),
        ("heldout-en", "bits_per_character"),
    ]
    chat = quickstart().final
    assert results[0].metric_value == chat.measured["zh"]["bits per character"].value
    assert data.language == ["zh", "en"]
    body = card.text
    assert "org/base, taught Chinese by hanpaca" in body
    assert "| chat | 1.157 | 8.429 | 8.283–8.583 |" in body
    assert "- text: builtin:idioms\n- idiom.csv: sha256 `dddd" in body
    assert "- met: held-out Chinese bits/char fell by" in body
    assert "nothing was measured: not whether what it says is true" in body
    assert "| stage 05-data | `key` |" in body
    export(run, tmp_path / "Own", base_models=["org/base"])
    assert (tmp_path / "Own/README.md").read_text(encoding="utf-8") == text


def test_a_chinese_card_says_the_same_as_the_english_one(files: Path, tmp_path: Path) -> None:
    run = evaluated_run(files, tmp_path / "run")
    call = ["gguf", "export", str(run), "--base-model", "org/base"]
    found = {}
    for lang in ("en", "zh"):
        output = tmp_path / lang / "Own"
        done = CliRunner().invoke(app, [*call, "-o", str(output), "--lang", lang])
        assert done.exit_code == 0, done.output
        _, front, body = (output / "README.md").read_text(encoding="utf-8").split("---\n", 2)
        numbers = Counter(re.findall(r"\d+(?:[.,]\d+)*", body))
        found[lang] = (front, numbers, len(re.findall("^#+ ", body, re.MULTILINE)), body)
    assert found["zh"][:3] == found["en"][:3]
    body = found["zh"][3]
    assert "org/base，由 hanpaca 学会中文" in body
    assert "| 模型 | 中文 词元/字符 | 中文 比特/字符 | 95 % |" in body
    assert "- 达成: 留出中文的每字符比特数下降了" in body
    assert "| 阶段 05-data | `key` |" in body
    known = set(re.findall("^## (.*)$", body, re.MULTILINE))
    assert known == {"使用", "数字", "局限", "数据", "许可", "来源"}
    with pytest.raises(RecipeError, match="no page is written in 'fr'"):
        model_card(run, lang="fr")


def test_a_folder_without_files_leaves_nothing(pico_base: Path, tmp_path: Path) -> None:
    words = ["gguf", "export", str(pico_base), "-o", str(tmp_path / "out")]
    done = CliRunner().invoke(app, words)
    assert isinstance(done.exception, ArtifactError)
    assert "write some first with hanpaca.write_gguf()" in str(done.exception)
    assert not list(tmp_path.iterdir())


def test_quotes_that_would_end_the_system_prompt_leave_nothing(files: Path, tmp_path: Path) -> None:
    call = ["gguf", "export", str(files), "-o", str(tmp_path / "out")]
    done = CliRunner().invoke(app, [*call, "--system", 'Say """hi""".'])
    assert isinstance(done.exception, ArtifactError)
    assert "the system prompt holds" in str(done.exception)
    assert not list(tmp_path.iterdir())


def test_a_name_of_two_words_is_one_word_for_ollama(files: Path, tmp_path: Path) -> None:
    call = ["gguf", "export", str(files), "-o", str(tmp_path / "out"), "--name", "My Model"]
    assert CliRunner().invoke(app, call).exit_code == 0
    card = (tmp_path / "out/README.md").read_text(encoding="utf-8")
    assert "# My Model" in card
    assert "`ollama create my-model -f Modelfile`" in card
