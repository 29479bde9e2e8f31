"""Merging from Python: the same functions as behind the commands."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from hanpaca.errors import ArtifactError, RecipeError
from hanpaca.manifests import ALONE, read_manifest
from hanpaca.progress import Progress
from hanpaca.steps.combine import combine
from hanpaca.steps.extract import extract
from hanpaca.steps.merge import merge
from hanpaca.steps.write_gguf_adapter import write_gguf_adapter
from tests.support.merge_oracle import (
    check,
    expected,
    factors,
    load_base,
    prefixed,
    write_adapter,
)


def test_merge_reports_what_it_wrote_and_what_was_odd(pico_untied: Path, tmp_path: Path) -> None:
    adapter = write_adapter(tmp_path / "a", prefixed(factors()))
    signs: list[Progress] = []
    report = merge(pico_untied, [adapter], tmp_path / "out", dtype="f32", tell=signs.append)
    check(tmp_path / "out", expected(load_base(pico_untied), factors(), 10 / 4, torch.float32))
    assert (report.num_changed, report.output) == (3, tmp_path / "out")
    assert signs[-1].done == signs[-1].total == report.num_bytes
    assert "records no base" in report.warnings[0]
    manifest = read_manifest(tmp_path / "out", ALONE)
    assert manifest.config["dtype"] == "f32"


def test_merge_writes_every_format(pico_untied: Path, tmp_path: Path) -> None:
    pth = merge(pico_untied, [], tmp_path / "pth", format="pth", num_files=1, manifest=False)
    assert (pth.output / "consolidated.00.pth").is_file()
    gguf = merge(pico_untied, [], tmp_path / "m.gguf", format="gguf")
    assert gguf.num_bytes == (tmp_path / "m.gguf").stat().st_size
    back = merge(tmp_path / "m.gguf", [], tmp_path / "back", dtype="bf16")
    assert back.num_changed == 0
    with pytest.raises(RecipeError, match="leave out format="):
        merge(pico_untied, [], tmp_path / "checked", format="pth", check=True)


def test_merge_refuses_before_it_writes(pico_untied: Path, tmp_path: Path) -> None:
    adapter = write_adapter(tmp_path / "a", prefixed(factors()), r=8)
    with pytest.raises(ArtifactError, match="says rank 8"):
        merge(pico_untied, [adapter], tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_what_merge_adds_extract_and_combine_find_again(pico_untied: Path, tmp_path: Path) -> None:
    adapter = write_adapter(tmp_path / "a", prefixed(factors()))
    merge(pico_untied, [adapter], tmp_path / "tuned", dtype="f32")
    found = extract(pico_untied, tmp_path / "tuned", tmp_path / "again", rank=4)
    assert max(found.relative_errors.values()) < 1e-2
    report = combine(
        [(pico_untied, 1.0)],
        tmp_path / "sum",
        tuned=[(tmp_path / "tuned", 1.0)],
        base=pico_untied,
        dtype="f32",
    )
    assert report.num_bytes > 0
    tuned, added = (load_file(tmp_path / name / "model.safetensors") for name in ("tuned", "sum"))
    for name, tensor in tuned.items():
        torch.testing.assert_close(added[name], tensor, rtol=1e-5, atol=1e-5)


def test_an_adapter_for_llama_cpp_is_reported(pico_untied: Path, tmp_path: Path) -> None:
    adapter = write_adapter(tmp_path / "a", prefixed(factors()))
    report = write_gguf_adapter(adapter, pico_untied, tmp_path / "a.gguf")
    assert report.num_matrices == 3
    assert report.num_bytes == (tmp_path / "a.gguf").stat().st_size
    assert "records no base" in report.warnings[0]
