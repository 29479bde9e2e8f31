"""Every stage on the pico model, through the command line, as a user would."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from hanpaca.checkpoints.fingerprint import model_fingerprint, tokenizer_fingerprint
from hanpaca.checkpoints.gguf import read_header
from hanpaca.evals.results import BITS, TOKENS, read_results
from hanpaca.manifests import read_manifest
from hanpaca.runs.stages import STAGES
from hanpaca.steps.write_gguf import gguf_to_folder
from hanpaca.tokenizer.sentencepiece_bpe import read_sentencepiece
from tests.support.commands import hanpaca

pytestmark = pytest.mark.slow


def test_every_stage_leaves_its_files_and_no_leftovers(finished: Path) -> None:
    assert sorted(path.name for path in finished.iterdir() if path.is_dir()) == [
        stage.name for stage in STAGES
    ]
    assert not list(finished.rglob("*.partial"))
    assert not list(finished.rglob("checkpoints"))
    result = read_results(finished / "80-eval/results.json")
    assert [model.name for model in result.models] == ["base", "pretrained", "chat", "chat q8_0"]
    assert [(one.name, one.language) for one in result.curves] == [
        (name, tag) for name in ("pretraining", "instruction tuning") for tag in ("zh", "en")
    ]
    assert [note.partition(" takes ")[0] for note in result.notes] == ["English text"]
    base, pretrained = result.models[:2]
    for measure in (TOKENS, BITS):
        before, after = base.get("zh", measure), pretrained.get("zh", measure)
        assert before is not None
        assert after is not None
        assert after.value < before.value
    assert 'lang="zh"' in (finished / "80-eval/report.zh.html").read_text(encoding="utf-8")
    assert "<table" in (finished / "80-eval/report.html").read_text(encoding="utf-8")


def test_a_llama_with_a_sentencepiece_vocabulary_goes_the_whole_way(
    pico_llama: Path, pico_recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    run = tmp_path / "run"
    done = hanpaca(
        "run",
        pico_recipe,
        "--run",
        run,
        f"base={pico_llama}",
        "sft.template=alpaca",
        "sft.block_tokens=256",
    )
    assert done.returncode == 0, done.stderr
    result = read_results(run / "80-eval/results.json")
    base, pretrained = result.models[:2]
    longer, shorter = base.get("zh", TOKENS), pretrained.get("zh", TOKENS)
    assert longer is not None
    assert shorter is not None
    assert shorter.value < longer.value
    assert (run / "60-chat/tokenizer.model").is_file()
    (file,) = run.glob("70-gguf/*.f16.gguf")
    gguf_to_folder(file, tmp_path / "back")
    before, after = (read_sentencepiece(one) for one in (run / "60-chat", tmp_path / "back"))
    assert before.ids == after.ids
    texts = ["白日依山尽，黄河入海流。", "The quick  brown fox"]
    assert before.encode(texts) == after.encode(texts)
    assert hanpaca("verify", run).returncode == 0


def test_a_file_for_llama_cpp_says_what_it_comes_from(finished: Path) -> None:
    (file,) = finished.glob("70-gguf/*.q8_0.gguf")
    fields = read_header(file).fields
    assert fields["hanpaca.model.fingerprint"] == model_fingerprint(finished / "60-chat")
    assert fields["hanpaca.tokenizer.fingerprint"] == tokenizer_fingerprint(finished / "60-chat")
    assert len(fields["hanpaca.base.fingerprint"]) == 64


def test_a_second_run_does_nothing(finished: Path, pico_recipe: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in finished.glob("*/manifest.json")}
    again = hanpaca("run", pico_recipe, "--run", finished)
    assert again.returncode == 0, again.stderr
    assert again.stderr.count("already done") == len(STAGES)
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_verify_passes_and_names_a_flipped_byte(finished: Path, tmp_path: Path) -> None:
    run = tmp_path / "copy"
    shutil.copytree(finished, run)
    assert hanpaca("verify", run).returncode == 0
    for file in ("40-merged/model.safetensors", "10-tokenizer/audit.json", "05-data/text.jsonl"):
        damaged = bytearray((run / file).read_bytes())
        damaged[len(damaged) // 2] ^= 1
        (run / file).write_bytes(damaged)
        found = hanpaca("verify", run)
        assert found.returncode == 4
        assert file in found.stderr
        assert f"stage {file.split('/')[0]}" in found.stderr
        damaged[len(damaged) // 2] ^= 1
        (run / file).write_bytes(damaged)


def test_killed_and_resumed_training_ends_with_the_same_adapter(
    finished: Path, pico_recipe: Path, tmp_path: Path
) -> None:
    run = tmp_path / "killed"
    shutil.copytree(finished, run)
    for stage in STAGES[3:]:
        shutil.rmtree(run / stage.name)
    code = "from hanpaca.cli import main; main()"
    child = subprocess.Popen(
        [sys.executable, "-c", code, "run", str(pico_recipe), "--run", str(run)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    wait_for = run / "30-pretrain.partial/checkpoints"
    deadline = time.monotonic() + 600
    while not list(wait_for.glob("checkpoint-*/whole")):
        assert time.monotonic() < deadline
        assert child.poll() is None, "it ended before it could be killed"
        time.sleep(0.002)
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    assert not (run / "30-pretrain").exists()
    done = hanpaca("run", pico_recipe, "--run", run)
    assert done.returncode == 0, done.stderr
    for file in ("30-pretrain/adapter_model.safetensors", "60-chat/model.safetensors"):
        assert (run / file).read_bytes() == (finished / file).read_bytes()
    lines = (run / "30-pretrain/metrics.jsonl").read_text(encoding="utf-8").splitlines()
    steps = [json.loads(line)["step"] for line in lines]
    assert steps == list(range(len(steps)))


def test_changing_instruction_tuning_keeps_pretraining(
    finished: Path, pico_recipe: Path, tmp_path: Path
) -> None:
    run = tmp_path / "other"
    shutil.copytree(finished, run)
    done = hanpaca("run", pico_recipe, "--run", run, "sft.learning_rate=5e-4")
    assert done.returncode == 0, done.stderr
    for stage in STAGES:
        same = read_manifest(run / stage.name).key == read_manifest(finished / stage.name).key
        assert same == (stage.name < "50-sft"), stage.name


def test_status_and_plan_answer(finished: Path, pico_recipe: Path) -> None:
    rows = json.loads(hanpaca("status", finished, "--json").stdout)
    assert {row["state"] for row in rows} == {"done"}
    plan = json.loads(hanpaca("plan", pico_recipe, "--json").stdout)
    assert list(plan["seconds"]) == [stage.name for stage in STAGES]


def test_single_commands_work_on_the_users_own_files(
    finished: Path, pico_base: Path, pico_recipe: Path, tmp_path: Path
) -> None:
    own = pico_recipe.parent
    text, talk, tiny = own / "zh.txt", own / "chat.json", "--block-tokens=64"
    more = "--num-tokens=512"
    token, adapter, merged = tmp_path / "tok", tmp_path / "a", tmp_path / "m"
    steps: list[tuple[object, ...]] = [
        (
            "tokenizer",
            "extend",
            "--base",
            pico_base,
            "--text",
            text,
            "--num-pieces=10",
            "-o",
            token,
        ),
        ("tokenizer", "audit", pico_base, token, "--text", text),
        ("pretrain", "--base", pico_base, "--text", text, "-o", adapter, more, tiny),
        ("merge", "--base", pico_base, "--adapter", adapter, "-o", merged),
        (
            "sft",
            "--base",
            merged,
            "--instructions",
            talk,
            "-o",
            tmp_path / "s",
            "--num-tokens=512",
            "--block-tokens=256",
        ),
        ("gguf", merged, "-o", tmp_path / "g", "--types", "f16,q4_0"),
        ("eval", pico_base, merged, "--text", text),
    ]
    for step in steps:
        done = hanpaca(*step)
        assert done.returncode == 0, (step, done.stderr)
    assert {path.name for path in (tmp_path / "g").iterdir()} == {"m.f16.gguf", "m.q4_0.gguf"}


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["run", "RECIPE", "sft.learning_rat=1"], 2, "did you mean"),
        (["run", "none.yaml"], 2, "none.yaml"),
        (["verify", "none"], 4, "no finished stage"),
        (["chat", "RECIPE"], 4, "not a GGUF file"),
        (["run", "RECIPE", "base=nowhere"], 4, "does not exist"),
        (["run", "RECIPE", "data.text=[gone.txt]"], 3, "gone.txt"),
        (["run", "RECIPE", "tokenizer.num_pieces=100000"], 3, "pieces"),
        (["gguf", "RECIPE", "-o", "OUT", "--types", "q9"], 2, "'q9' is unknown"),
        (["merge", "--base", "BASE", "--adapter", "BASE", "-o", "OUT/m"], 4, "no adapter here"),
    ],
)
def test_a_users_mistake_is_one_clear_line(
    arguments: list[str],
    status: int,
    message: str,
    pico_recipe: Path,
    pico_base: Path,
    tmp_path: Path,
) -> None:
    places = {"RECIPE": pico_recipe, "BASE": pico_base, "OUT": tmp_path / "out"}
    words = [str(places.get(word, word)) for word in arguments]
    words = [word.replace("OUT/", f"{tmp_path}/") for word in words]
    if arguments[0] == "run":
        words += ["--run", str(tmp_path / "run")]
    done = hanpaca(*words)
    assert done.returncode == status, done.stderr
    last = done.stderr.strip().splitlines()
    assert message in "\n".join(last)
    assert "Traceback" not in done.stderr
