"""Rows read without writing the model are those of the written model, bit for bit."""

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file

from hanpaca.errors import ArtifactError
from hanpaca.merging import (
    MergeOptions,
    merge_adapters,
    merged_rows,
    outputs,
    plan_merge,
    run_merge,
)
from tests.support.merge_oracle import EMBED, Q, factors, prefixed, tables, write_adapter
from tests.support.peft_adapters import make_adapter

ROWS = {"trainable_token_indices": {"embed_tokens": [380, 381, 383]}}
CASES: dict[str, dict[str, Any]] = {
    "none": {},
    "lora": {"target_modules": ["q_proj", "k_proj", "down_proj"]},
    "dora": {"use_dora": True, "target_modules": ["q_proj", "o_proj"]},
    "rows": ROWS,
    "tables": {"modules_to_save": ["embed_tokens", "lm_head"]},
    "two": {"alpha_pattern": {"q_proj": 7}},
}


@pytest.fixture(scope="module", params=CASES)
def adapters(
    request: pytest.FixtureRequest, pico_untied: Path, tmp_path_factory: pytest.TempPathFactory
) -> list[Path]:
    folder = tmp_path_factory.mktemp("rows")
    if request.param == "none":
        return []
    first = make_adapter(pico_untied, folder / "a", **CASES[request.param])
    return [first, first] if request.param == "two" else [first]


@pytest.fixture(scope="module", params=["hf", "meta 1", "meta 2"])
def base(
    request: pytest.FixtureRequest, pico_untied: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    if request.param == "hf":
        return pico_untied
    output = tmp_path_factory.mktemp("meta") / "base"
    options = MergeOptions(format="pth", num_files=int(request.param[-1]))
    merge_adapters(pico_untied, [], output, options=options)
    return output


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("dtype", ["as-base", "f32"])
@settings(max_examples=5, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_any_rows_are_those_of_the_written_model(
    data: st.DataObject,
    dtype: str,
    base: Path,
    adapters: list[Path],
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    output = tmp_path_factory.mktemp("written") / "out"
    plan = plan_merge(base, adapters, MergeOptions(dtype=dtype))  # type: ignore[arg-type]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(outputs, "_CHUNK_ELEMENTS", data.draw(st.sampled_from([1, 300, 1 << 18])))
        run_merge(plan, output)
        written = load_file(output / "model.safetensors")
        with merged_rows(plan) as tensors:
            assert [tensor.name for tensor in tensors] == [one.name for one in plan.tensors]
            for tensor in tensors:
                wanted = written[tensor.name]
                assert (tensor.shape, tensor.dtype) == (tuple(wanted.shape), wanted.dtype)
                matrix = wanted.float().view(len(wanted), -1)
                start = data.draw(st.integers(0, len(matrix)))
                stop = data.draw(st.integers(start, len(matrix)))
                found = tensor.read(start, stop)
                assert found.dtype is torch.float32
                assert torch.equal(found, matrix[start:stop]), tensor.name


def test_threads_may_read_at_the_same_time_and_files_are_opened_once(
    pico_untied: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    adapter = write_adapter(tmp_path / "a", prefixed(factors() | tables(395)))
    plan = plan_merge(pico_untied, [adapter], MergeOptions())
    run_merge(plan, tmp_path / "out")
    written = load_file(tmp_path / "out/model.safetensors")
    opened: list[object] = []
    really = os.open

    def watched(file: Path, flags: int) -> int:
        if not flags & os.O_DIRECT:  # which comes on top, where the file is not in memory
            opened.append(file)
        return really(file, flags)

    monkeypatch.setattr(os, "open", watched)
    monkeypatch.setattr(outputs, "_CHUNK_ELEMENTS", 100)
    before = torch.get_num_threads()
    with merged_rows(plan) as tensors, ThreadPoolExecutor(4) as pool:
        jobs = [
            (tensor, row, pool.submit(tensor.read, row, row + 1))
            for row in range(16)
            for tensor in tensors
        ]
        for tensor, row, job in jobs:
            wanted = written[tensor.name].float().view(len(written[tensor.name]), -1)[row]
            assert torch.equal(job.result()[0], wanted)
    assert sorted(map(str, opened)) == sorted(
        [str(pico_untied / "model.safetensors"), str(adapter / "adapter_model.safetensors")]
    )
    assert torch.get_num_threads() == before


def test_a_value_that_is_no_number_is_told_when_it_is_read(
    pico_untied: Path, tmp_path: Path
) -> None:
    state = factors() | tables(395)
    state[EMBED][2, 3] = float("nan")
    adapter = write_adapter(tmp_path / "a", prefixed(state))
    with merged_rows(plan_merge(pico_untied, [adapter], MergeOptions())) as tensors:
        by_name = {tensor.name: tensor for tensor in tensors}
        with pytest.raises(ArtifactError, match=r"embed_tokens.*NaN"):
            by_name[EMBED].read(0, 3)
        assert by_name[f"{Q}.weight"].read(0, 3).isfinite().all()
