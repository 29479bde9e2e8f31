"""The command `merge`, in one process."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from hanpaca.checkpoints.fingerprint import model_fingerprint
from hanpaca.cli import app
from hanpaca.errors import ArtifactError, RecipeError
from hanpaca.steps.write_gguf import folder_to_gguf
from tests.support.merge_oracle import (
    Q,
    check,
    expected,
    factors,
    grown_adapter,
    load_base,
    prefixed,
    tables,
    write_adapter,
)


def run(*arguments: object) -> str:
    done = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == 0, done.output
    return done.output


def parsed(output: str) -> dict[str, Any]:
    """Without the warnings before it, which go to stderr."""
    tree: dict[str, Any] = json.loads(output[output.index("{") :])
    return tree


def test_a_plan_is_printed_and_nothing_written(pico_base: Path, tmp_path: Path) -> None:
    base = tmp_path / "pth"
    run("merge", "--base", pico_base, "-o", base, "--format", "pth", "--dtype", "f16")
    assert sorted(file.name for file in base.iterdir()) == [
        "consolidated.00.pth",
        "manifest.json",
        "params.json",
        "tokenizer.json",
        "tokenizer_config.json",
    ]
    told = run("merge", "--base", base, "-o", tmp_path / "hf", "--dry-run")
    assert "GB to write" in told
    assert [path.name for path in tmp_path.iterdir()] == ["pth"]
    told = run("merge", "--base", base, "-o", tmp_path / "hf", "--max-shard-size", "0.02MB")
    assert "0 of 21 tensors changed" in told
    assert len(list((tmp_path / "hf").glob("*.safetensors"))) > 3


@pytest.mark.parametrize("size", ["5", "GB", "-1GB", "5TB", "1e999GB", "0MB"])
def test_a_size_that_is_none_is_told(size: str, pico_base: Path, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="--max-shard-size"):
        run("merge", "--base", pico_base, "-o", tmp_path / "o", "--max-shard-size", size)


def test_what_does_not_fit_is_told_with_what_to_do_before_a_byte_is_written(
    pico_base: Path, tmp_path: Path
) -> None:
    first = grown_adapter(tmp_path / "first", 1, model_fingerprint(pico_base))
    second = grown_adapter(tmp_path / "second", 2, "0" * 64)
    given = ["merge", "--base", pico_base, "-o", tmp_path / "o", "--adapter", second]
    with pytest.raises(ArtifactError, match=rf"another model .*; pass {first} first"):
        run(*given, "--adapter", first)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["first", "second"]
    write_adapter(tmp_path / "bare", prefixed(factors()))
    told = run("merge", "--base", pico_base, "-o", tmp_path / "o", "--adapter", tmp_path / "bare")
    assert told.count("warning") == 1
    assert "it records no base; only shapes were checked" in told


def test_a_gguf_file_is_a_base_and_an_adapter_has_a_weight(
    pico_untied: Path, tmp_path: Path
) -> None:
    file, output = tmp_path / "model.gguf", tmp_path / "out"
    folder_to_gguf(pico_untied, file, file_type="f32", metadata={})
    adapter = write_adapter(tmp_path / "a", prefixed(factors()))
    run("merge", "--base", file, "--adapter", f"{adapter}=0.5", "-o", output, "--dtype", "f32")
    wanted = expected(load_base(pico_untied), factors(), 10 / 4 * 0.5, torch.float32)
    check(output, wanted)


def test_a_released_model_is_rebuilt_by_name(
    pico_untied: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    names = ("chinese-llama-plus-7b", "chinese-alpaca-plus-7b")
    given = ("merge", "--base", pico_untied, "--release", "Chinese-Alpaca-Plus-7B", "-o", "byname")
    with pytest.raises(ArtifactError, match="hanpaca models chinese-llama-plus-7b --download"):
        run(*given)
    for number, name in enumerate(names):
        write_adapter(tmp_path / name, prefixed(factors(seed=number) | tables(395 + number)))
    run(*given)
    run("merge", "--base", pico_untied, "--adapter", names[0], "--adapter", names[1], "-o", "paths")
    one, two = (tmp_path / name / "model.safetensors" for name in ("byname", "paths"))
    assert one.read_bytes() == two.read_bytes()
    with pytest.raises(RecipeError, match="leave out --adapter"):
        run(*given, "--adapter", names[0])


def test_a_gguf_file_is_that_of_the_merged_folder(pico_untied: Path, tmp_path: Path) -> None:
    adapter = write_adapter(tmp_path / "a", prefixed(factors()))
    given = ("merge", "--base", pico_untied, "--adapter", adapter)
    run(*given, "-o", tmp_path / "folder")
    run(*given, "-o", tmp_path / "one" / "model.gguf", "--format", "gguf")
    folder_to_gguf(
        tmp_path / "folder", tmp_path / "two" / "model.gguf", file_type="bf16", metadata={}
    )
    one, two = ((tmp_path / name / "model.gguf").read_bytes() for name in ("one", "two"))
    assert one == two
    with pytest.raises(ArtifactError, match="already exists"):
        run(*given, "-o", tmp_path / "one" / "model.gguf", "--format", "gguf")


def test_a_dry_run_says_what_it_takes_and_writes_nothing(pico_base: Path, tmp_path: Path) -> None:
    adapter = grown_adapter(tmp_path / "a", 1, model_fingerprint(pico_base))
    given = ["merge", "--base", pico_base, "--adapter", adapter, "-o", tmp_path / "sub/o"]
    told = parsed(run(*given, "--dry-run", "--json"))
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
    assert f"{Q}.weight" in told["changed"]
    assert told["num_tensors"] == 21
    assert told["num_bytes"] == sum(told["files"].values())
    assert told["vocab_size"] == 395
    assert told["seconds"] > 0
    assert told["peak_bytes"] > 1e8
    assert told["free_bytes"] > told["num_bytes"]
    done = parsed(run(*given, "--json"))
    assert done["num_changed"] == len(told["changed"])
    size = (tmp_path / "sub/o/model.safetensors").stat().st_size
    assert 0 < size - told["num_bytes"] < 10_000


def test_the_manifest_finds_a_changed_byte(pico_base: Path, tmp_path: Path) -> None:
    adapter = write_adapter(tmp_path / "a", prefixed(factors()))
    output = tmp_path / "o"
    run("merge", "--base", pico_base, "--adapter", adapter, "-o", output)
    manifest = json.loads((output / "manifest.json").read_text())
    file = adapter / "adapter_model.safetensors"
    sums = {one["path"]: one["sha256"] for one in manifest["inputs"]}
    assert sums[str(file)] == hashlib.sha256(file.read_bytes()).hexdigest()
    assert "unchanged" in run("verify", output)
    moved = output.rename(tmp_path / "moved")
    run("verify", moved)
    with (moved / "model.safetensors").open("r+b") as stream:
        stream.seek(-1, 2)
        stream.write(b"x")
    with pytest.raises(ArtifactError, match=r"model\.safetensors: changed since"):
        run("verify", moved)
    (moved / "model.safetensors").unlink()
    with pytest.raises(ArtifactError, match=r"model\.safetensors: missing"):
        run("verify", moved)


def test_without_a_manifest_nothing_is_hashed(pico_base: Path, tmp_path: Path) -> None:
    run("merge", "--base", pico_base, "-o", tmp_path / "o", "--no-manifest")
    assert not (tmp_path / "o/manifest.json").exists()
