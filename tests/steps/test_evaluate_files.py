"""Any models side by side on any texts: folders and GGUF files, in the terminal and as a page."""

import doctest
import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer
from typer.testing import CliRunner

import hanpaca.steps.evaluate as module
from hanpaca import threads
from hanpaca.cli.app import app
from hanpaca.errors import ArtifactError, DataError
from hanpaca.evals.results import BITS, SPEED, TOKENS, read_results
from hanpaca.inference.engine import Answer, ChatModel
from hanpaca.memory import with_growth
from hanpaca.model.load import load_tokenizer, start_token
from hanpaca.steps.evaluate import Material, evaluate
from hanpaca.steps.write_gguf import folder_to_gguf

ENGLISH = ["It was the best of times.", "People write articles.", "A dog."]
KOREAN = ["한국에서 가장 긴 강", "안녕하세요"]


@pytest.fixture(scope="module")
def gguf(pico_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("gguf") / "pico.gguf"
    folder_to_gguf(pico_base, file, file_type="bf16", metadata={})
    return file


def test_the_example_of_the_docstring_holds(pico_base: Path) -> None:
    found = doctest.testmod(module, extraglobs={"BASE": pico_base})
    assert (found.attempted > 0, found.failed) == (True, 0)


def test_bits_are_those_of_transformers(pico_base: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(pico_base, dtype=torch.bfloat16)
    tokenizer = AutoTokenizer.from_pretrained(pico_base)
    bits = 0.0
    for text in ENGLISH:
        ids = [start_token(load_tokenizer(pico_base)), *tokenizer.encode(text)]
        with torch.inference_mode():
            loss = model(torch.tensor([ids]), labels=torch.tensor([ids])).loss
        bits += float(loss) * (len(ids) - 1) / math.log(2)
    found = evaluate([pico_base], {"en": ENGLISH}).models[0].get("en", BITS)
    assert found is not None
    assert found.value == pytest.approx(bits / sum(map(len, ENGLISH)), rel=5e-3)
    assert found.low is not None
    assert found.high is not None
    assert found.low < found.value < found.high
    assert (found.num_texts, found.num_characters) == (3, sum(map(len, ENGLISH)))


def test_a_run_that_is_half_done_says_so(tmp_path: Path) -> None:
    (tmp_path / "run/05-data").mkdir(parents=True)
    with pytest.raises(ArtifactError, match="run: a run that has no final model yet"):
        evaluate([tmp_path / "run"], {"en": ENGLISH})
    with pytest.raises(DataError, match="en: no texts to score"):
        evaluate([tmp_path / "run"], {"en": []})


@pytest.mark.slow
def test_a_gguf_file_of_the_same_weights_measures_the_same(pico_base: Path, gguf: Path) -> None:
    found = evaluate([pico_base, str(gguf)], Material({"ko": KOREAN, "en": ENGLISH}))
    folder, file = found.models
    assert (folder.name, file.name) == ("base", "pico.gguf")
    for tag in ("ko", "en"):
        for measure in (BITS, TOKENS):
            assert folder.get(tag, measure) == file.get(tag, measure)
    speed = file.get("ko", SPEED)
    assert speed is not None
    assert speed.value > 0
    assert folder.get("ko", SPEED) is None
    assert folder.memory_bytes is None or folder.memory_bytes >= 0
    assert file.file_bytes == gguf.stat().st_size
    weights = (pico_base / "model.safetensors").stat().st_size
    assert 0.9 * weights < folder.file_bytes <= weights
    assert folder.get("en", TOKENS) is not None


def test_one_text_has_a_number_without_an_interval(pico_base: Path) -> None:
    found = evaluate([pico_base], {"en": ENGLISH[:1]})
    measured = found.models[0].get("en", BITS)
    assert measured is not None
    assert (measured.low, measured.high) == (None, None)
    assert found.table[0][:4] == ("model", "en tokens/char", "en bits/char", "MB")


@pytest.mark.slow
def test_bits_that_are_known_are_not_computed_again(
    pico_base: Path, gguf: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = {"en": ENGLISH, "ko": KOREAN, "old": [ENGLISH[0]]}
    first = evaluate([pico_base, gguf], texts)

    def computed(*_: object, **__: object) -> None:
        raise AssertionError("computed again")

    monkeypatch.setattr("hanpaca.steps.text_scores.score_folder", computed)
    again = evaluate([pico_base, gguf], texts)
    for one, other in zip(first.models, again.models, strict=True):
        for tag in texts:
            assert one.get(tag, BITS) == other.get(tag, BITS)
            assert one.get(tag, TOKENS) == other.get(tag, TOKENS)
    with pytest.raises(AssertionError, match="computed again"):
        evaluate([pico_base], {"en": ENGLISH[:2]})


@pytest.mark.slow
def test_memory_that_work_takes_is_what_it_holds_at_once() -> None:
    size = 64_000_000
    made, grown = with_growth(lambda: len(bytearray(b"x") * size))
    assert made == size
    if grown is None:
        pytest.skip("this system does not tell")
    assert 0.9 * size < grown < 3 * size
    assert with_growth(lambda: None)[1] is not None


def test_models_of_one_name_are_told_apart_by_their_paths(pico_base: Path, tmp_path: Path) -> None:
    (tmp_path / "base").symlink_to(pico_base)
    found = evaluate([pico_base, tmp_path / "base"], {"en": ENGLISH})
    assert [one.name for one in found.models] == [str(pico_base), str(tmp_path / "base")]


def test_results_show_as_a_table_in_a_notebook_and_when_printed(pico_base: Path) -> None:
    found = evaluate([pico_base], {"en": ENGLISH})
    shown = found._repr_html_()
    assert shown.count("<tr>") == 2
    assert "<style" not in shown
    first, second = str(found).splitlines()
    header = ["model", "en", "tokens/char", "en", "bits/char", "95", "%", "MB"]
    assert first.split()[: len(header)] == header
    assert second.startswith("base")
    assert len(first) == len(second)


@pytest.mark.slow
def test_the_command_prints_a_table_or_json_and_writes_a_page(
    pico_base: Path, gguf: Path, tmp_path: Path
) -> None:
    (tmp_path / "en.txt").write_text("\n\n".join(ENGLISH), encoding="utf-8")
    (tmp_path / "other.jsonl").write_text(
        "\n".join(json.dumps({"text": text}) for text in KOREAN), encoding="utf-8"
    )
    texts = ["--text", f"ko={tmp_path / 'other.jsonl'}", "--text", str(tmp_path / "en.txt")]
    page = tmp_path / "page.html"
    arguments = ["eval", str(pico_base), str(gguf), *texts]
    done = CliRunner().invoke(
        app, [*arguments, "--page", str(page), "--lang", "zh"], catch_exceptions=False
    )
    assert done.exit_code == 0, done.output
    assert "比特" in done.stdout
    assert "95 %" in done.stdout
    text = page.read_text(encoding="utf-8")
    assert "语言：韩文。" in text
    assert "韩文：每字符比特数（越低越好）" in text
    assert "每秒字符数" in text  # of the file
    done = CliRunner().invoke(app, [*arguments, "--json"], catch_exceptions=False)
    (tmp_path / "results.json").write_text(done.stdout, encoding="utf-8")
    assert read_results(tmp_path / "results.json").languages == ("ko", "en")


def test_all_models_are_timed_with_as_many_threads(
    pico_base: Path, gguf: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However the load changes from one to the next, as it does after a training."""
    free = iter([1, 2, 2, 2])
    monkeypatch.setattr(threads, "num_cores", lambda: 2)
    monkeypatch.setattr(threads, "_load", lambda: 2 - next(free))
    monkeypatch.setattr(threads, "_SMALL_BYTES", 0)
    timed: list[int] = []

    class Watched(ChatModel):
        def complete(self, *arguments: Any, **given: Any) -> Answer:
            timed.append(self.num_threads)
            return super().complete(*arguments, **given)

    monkeypatch.setattr(module, "ChatModel", Watched)
    evaluate([gguf, gguf], {"en": ENGLISH})
    assert set(timed) == {1}
