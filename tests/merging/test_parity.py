"""The check against transformers and peft: it passes what is right and catches what is not."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from hanpaca.cli import app
from hanpaca.errors import ArtifactError, RecipeError, ResourceError
from hanpaca.merging import MergeOptions, MergePlan, parity, plan_merge, run_merge
from tests.support.merge_oracle import Q, factors, prefixed, write_adapter
from tests.support.peft_adapters import make_adapter

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")
CASES: dict[str, dict[str, Any]] = {
    "rows": {"trainable_token_indices": {"embed_tokens": [380, 381, 383]}},
    "grown": {"num_rows": 405, "modules_to_save": ["embed_tokens", "lm_head"]},
    "dora": {"use_dora": True},
}


def merged(base: Path, adapters: Sequence[Path], output: Path, dtype: str = "f32") -> MergePlan:
    plan = plan_merge(base, adapters, MergeOptions(dtype=dtype))  # type: ignore[arg-type]
    run_merge(plan, output)
    return plan


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_a_right_merge_passes_and_the_adapters_matter(
    case: str, pico_untied: Path, tmp_path: Path
) -> None:
    adapter = make_adapter(pico_untied, tmp_path / "a", **CASES[case])
    plan = merged(pico_untied, [adapter], tmp_path / "o")
    dtype = parity.check_feasible(plan)
    found = parity.compare(plan, tmp_path / "o", dtype)
    assert (dtype, found.arithmetic) == (torch.float32, "float32")
    assert found.largest_difference < 1e-5 < found.effect
    assert found.passed
    assert found.same_choice == 1.0


@pytest.mark.slow
def test_two_adapters_in_order(pico_untied: Path, tmp_path: Path) -> None:
    saved = {"modules_to_save": ["embed_tokens", "lm_head"]}
    first = make_adapter(pico_untied, tmp_path / "1", num_rows=398, **saved)
    second = make_adapter(pico_untied, tmp_path / "2", num_rows=399, r=2, **saved)
    plan = merged(pico_untied, [first, second], tmp_path / "o")
    assert parity.compare(plan, tmp_path / "o", torch.float32).passed
    merged(pico_untied, [second], tmp_path / "wrong")
    assert not parity.compare(plan, tmp_path / "wrong", torch.float32).passed


@pytest.mark.slow
def test_one_wrong_matrix_is_found(pico_untied: Path, tmp_path: Path) -> None:
    adapter = make_adapter(pico_untied, tmp_path / "a", lora_alpha=40)
    plan = merged(pico_untied, [adapter], tmp_path / "o")
    file = tmp_path / "o/model.safetensors"
    base = load_file(pico_untied / "model.safetensors")
    save_file({**load_file(file), f"{Q}.weight": base[f"{Q}.weight"].float()}, file)
    found = parity.compare(plan, tmp_path / "o", torch.float32)
    assert not found.passed
    assert found.largest_difference > 10 * found.tolerance * found.spread


def test_what_cannot_be_compared_is_told_before_the_merge(
    pico_untied: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = plan_merge(pico_untied, [], MergeOptions())
    monkeypatch.setattr(
        parity, "free_bytes", lambda: 3.0 * sum(t.num_bytes for t in plan.tensors) / 2
    )
    assert parity.check_feasible(plan) is torch.float16
    monkeypatch.setattr(parity, "free_bytes", lambda: 1000.0)
    with pytest.raises(ResourceError, match="the check loads the model whole: about"):
        parity.check_feasible(plan)
    adapter = write_adapter(tmp_path / "a", prefixed(factors()))
    weighted = plan_merge(pico_untied, [adapter], MergeOptions(weights=(0.5,)))
    with pytest.raises(ArtifactError, match="peft, which knows no weights"):
        parity.check_feasible(weighted)
    run_merge(plan_merge(pico_untied, [], MergeOptions(format="pth")), tmp_path / "meta")
    with pytest.raises(ArtifactError, match="needs a base in safetensors"):
        parity.check_feasible(plan_merge(tmp_path / "meta", [], MergeOptions()))


def test_an_adapter_peft_cannot_read_is_told(pico_untied: Path, tmp_path: Path) -> None:
    state = {
        name.replace("lora_A", "lora_A.default").replace("lora_B", "lora_B.default"): t
        for name, t in prefixed(factors()).items()
    }
    adapter = write_adapter(tmp_path / "a", state, file="pytorch_model.bin")
    plan = merged(pico_untied, [adapter], tmp_path / "o")
    with pytest.raises(ArtifactError, match="peft cannot read this adapter"):
        parity.compare(plan, tmp_path / "o", torch.float32)


@pytest.mark.slow
def test_the_command_says_what_was_found(
    pico_untied: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    adapter = make_adapter(pico_untied, tmp_path / "a")
    given = ["merge", "--base", str(pico_untied), "--adapter", str(adapter), "--check"]
    done = CliRunner().invoke(app, [*given, "-o", str(tmp_path / "o"), "--dtype", "f32"])
    assert done.exit_code == 0
    assert "100 % the same choice" in done.output
    monkeypatch.setattr(parity, "_TOLERANCES", dict.fromkeys(parity._TOLERANCES, 1e-9))
    done = CliRunner().invoke(app, [*given, "-o", str(tmp_path / "p"), "--json"])
    assert isinstance(done.exception, ArtifactError)
    tree = json.loads(done.output[done.output.index("{") :])
    assert tree["check"]["passed"] is False
    done = CliRunner().invoke(app, [*given, "-o", str(tmp_path / "q"), "--format", "pth"])
    assert isinstance(done.exception, RecipeError)
    assert not (tmp_path / "q").exists()
