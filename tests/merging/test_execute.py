"""Cutting the work into rows changes nothing."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from hanpaca.merging import MergeOptions, execute, merge_adapters, outputs
from tests.support.merge_oracle import (
    EMBED,
    Q,
    check,
    expected,
    factors,
    load_base,
    prefixed,
    tables,
    write_adapter,
)


@pytest.mark.parametrize("num_elements", [1, 100, 2000])
@pytest.mark.parametrize("form", ["hf", "pth"])
def test_a_few_rows_at_a_time_give_the_same(
    num_elements: int,
    form: str,
    pico_untied: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(outputs, "_CHUNK_ELEMENTS", num_elements)
    monkeypatch.setattr(execute, "_CHUNKS", 3)
    state = factors() | tables(395)
    adapter = write_adapter(tmp_path / "a", prefixed(state))
    options = MergeOptions(format=form, num_files=2)  # type: ignore[arg-type]
    merge_adapters(pico_untied, [adapter], tmp_path / "out", options=options)
    if form == "pth":
        merge_adapters(tmp_path / "out", [], tmp_path / "back")
    folder = tmp_path / ("out" if form == "hf" else "back")
    check(folder, expected(load_base(pico_untied), state, 10 / 4))


@pytest.mark.parametrize("rank", [8, 64, 400])
@pytest.mark.parametrize("alpha", [128, 20])
@pytest.mark.parametrize("dtype", ["f32", "bf16"])
def test_the_rows_of_a_product_are_those_of_the_whole_product(
    rank: int, alpha: int, dtype: str, tmp_path: Path
) -> None:
    """Sizes of real layers, where a matrix is cut many times; the formula multiplies it whole."""
    chance = torch.Generator().manual_seed(rank)
    weight = torch.randn(1100, 768, generator=chance).bfloat16()
    a = torch.randn(rank, 768, generator=chance)
    b = torch.randn(1100, rank, generator=chance)
    base = tmp_path / "base"
    base.mkdir()
    (base / "config.json").write_text(json.dumps({"model_type": "of one matrix"}))
    embedding = torch.zeros(8, 768).bfloat16()
    save_file({f"{Q}.weight": weight, EMBED: embedding}, base / "model.safetensors")
    state = prefixed({f"{Q}.lora_A.weight": a, f"{Q}.lora_B.weight": b})
    adapter = write_adapter(tmp_path / "a", state, r=rank, lora_alpha=alpha)
    options = MergeOptions(dtype=dtype)  # type: ignore[arg-type]
    merge_adapters(base, [adapter], tmp_path / "out", options=options)
    found = load_file(tmp_path / "out/model.safetensors")[f"{Q}.weight"]
    wanted = weight.float() + alpha / rank * (b @ a)
    assert torch.equal(found, wanted.to(found.dtype))
