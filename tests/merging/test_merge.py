import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import LlamaForCausalLM

from hanpaca.errors import ArtifactError
from hanpaca.merging import MergeOptions, merge_adapters, plan_merge

NEW_IDS = [380, 381, 383]
PROMPT = torch.tensor([[1, 5, 380, 7, 383, 9]])


def load(folder: Path, dtype: torch.dtype = torch.float32) -> LlamaForCausalLM:
    model: LlamaForCausalLM = LlamaForCausalLM.from_pretrained(folder, dtype=dtype)
    return model


def make_adapter(base: Path, folder: Path, **settings_: Any) -> Path:
    """An adapter with random factors, saved by peft itself."""
    config = LoraConfig(
        target_modules=["q_proj", "v_proj", "down_proj"],
        trainable_token_indices={"embed_tokens": NEW_IDS},
        **{"r": 4, "lora_alpha": 10, **settings_},
    )
    model = get_peft_model(load(base), config)
    torch.manual_seed(1)
    for parameter in model.parameters():
        if parameter.requires_grad:
            torch.nn.init.normal_(parameter, std=0.05)
    model.save_pretrained(str(folder))
    return folder


@pytest.fixture(scope="session")
def adapter(pico_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_adapter(pico_base, tmp_path_factory.mktemp("adapter") / "a")


def edited(adapter: Path, folder: Path, **changes: object) -> Path:
    shutil.copytree(adapter, folder)
    file = folder / "adapter_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("which", ["pico_base", "pico_untied"])
def test_the_merged_model_answers_as_peft_does(
    which: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    base = request.getfixturevalue(which)
    load(base).save_pretrained(tmp_path / "f32")
    adapter = make_adapter(tmp_path / "f32", tmp_path / "a")
    merge_adapters(tmp_path / "f32", [adapter], tmp_path / "merged")
    with torch.inference_mode():
        oracle = PeftModel.from_pretrained(load(tmp_path / "f32"), str(adapter))(PROMPT).logits
        ours = load(tmp_path / "merged")(PROMPT).logits
        plain = load(base)(PROMPT).logits
    torch.testing.assert_close(ours, oracle, rtol=1e-5, atol=1e-5)
    assert (plain - oracle).abs().max() > 0.01


@settings(max_examples=10, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    rank=st.integers(1, 9),
    alpha=st.integers(1, 64),
    rslora=st.booleans(),
    dtype=st.sampled_from([torch.float32, torch.bfloat16, torch.float16]),
)
def test_every_tensor_equals_one_rounding_of_the_float32_sum(
    rank: int,
    alpha: int,
    rslora: bool,
    dtype: torch.dtype,
    pico_untied: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    folder = tmp_path_factory.mktemp("exact")
    load(pico_untied, dtype).save_pretrained(folder / "base")
    adapter = make_adapter(pico_untied, folder / "a", r=rank, lora_alpha=alpha, use_rslora=rslora)
    summary = merge_adapters(folder / "base", [adapter], folder / "out", measure=True)
    base, factors = (
        load_file(folder / "base/model.safetensors"),
        load_file(adapter / "adapter_model.safetensors"),
    )
    merged = load_file(folder / "out/model.safetensors")
    scaling = alpha / (rank**0.5 if rslora else rank)
    assert merged.keys() == base.keys()
    changed = 0
    for name, weight in base.items():
        expected = weight
        stem = f"base_model.model.{name.removesuffix('.weight')}"
        if f"{stem}.lora_A.weight" in factors:
            update = factors[f"{stem}.lora_B.weight"] @ factors[f"{stem}.lora_A.weight"]
            expected = (weight.float() + scaling * update).to(dtype)
        rows = factors.get(f"{stem}.token_adapter.trainable_tokens_delta")
        if rows is not None:
            expected = weight.clone()
            expected[NEW_IDS] = rows.to(dtype)
        changed += expected is not weight
        assert torch.equal(merged[name], expected), name
    assert summary.num_changed == changed == len(summary.largest_change) == 7


def test_only_the_named_rows_change(pico_base: Path, adapter: Path, tmp_path: Path) -> None:
    merge_adapters(pico_base, [adapter], tmp_path / "out")
    before = load_file(pico_base / "model.safetensors")["model.embed_tokens.weight"]
    after = load_file(tmp_path / "out/model.safetensors")["model.embed_tokens.weight"]
    differing = (before != after).any(dim=1).nonzero().flatten().tolist()
    assert differing == NEW_IDS


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"use_dora": True}, "use_dora"),
        ({"bias": "all"}, "bias"),
        ({"modules_to_save": ["lm_head"]}, "modules_to_save names lm_head"),
        ({"peft_type": "IA3"}, "not the configuration of a LoRA"),
        ({"r": "four"}, "r = 'four' must be a number"),
        ({"trainable_token_indices": None}, "trainable_token_indices"),
        ({"trainable_token_indices": {"embed_tokens": [1]}}, "new rows"),
    ],
)
def test_what_cannot_be_folded_is_refused_by_name(
    changes: dict[str, object], named: str, pico_base: Path, adapter: Path, tmp_path: Path
) -> None:
    with pytest.raises(ArtifactError, match=named):
        merge_adapters(pico_base, [edited(adapter, tmp_path / "a", **changes)], tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a"]


def rewrite(adapter: Path, folder: Path, **tensors: torch.Tensor) -> Path:
    shutil.copytree(adapter, folder)
    file = folder / "adapter_model.safetensors"
    save_file({**load_file(file), **tensors}, file)
    return folder


Q_A = "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight"


@pytest.mark.parametrize(
    ("name", "tensor", "message"),
    [
        (Q_A, torch.full((4, 32), torch.nan), "NaN"),
        (Q_A, torch.zeros(4, 33), "another model"),
        (Q_A.replace("layers.0", "layers.9"), torch.zeros(4, 32), "only one of lora_A and lora_B"),
        (Q_A.replace("lora_A", "lora_magnitude_vector"), torch.zeros(32), "use_dora"),
        (Q_A.replace("q_proj", "k_proj"), torch.zeros(4, 32), "only one of lora_A and lora_B"),
    ],
)
def test_a_tensor_that_does_not_fit_is_named(
    name: str, tensor: torch.Tensor, message: str, pico_base: Path, adapter: Path, tmp_path: Path
) -> None:
    with pytest.raises(ArtifactError, match=message) as error:
        merge_adapters(
            pico_base, [rewrite(adapter, tmp_path / "a", **{name: tensor})], tmp_path / "out"
        )
    assert "proj" in str(error.value)
    assert not (tmp_path / "out").exists()


def test_an_adapter_of_another_base_is_refused(
    pico_base: Path, adapter: Path, tmp_path: Path
) -> None:
    shutil.copytree(adapter, tmp_path / "a")
    file = tmp_path / "a/adapter_model.safetensors"
    save_file(load_file(file), file, metadata={"hanpaca.base.fingerprint": "f" * 64})
    with pytest.raises(ArtifactError, match="trained on another model"):
        merge_adapters(pico_base, [tmp_path / "a"], tmp_path / "out")


def test_the_fingerprint_of_the_base_is_accepted(
    pico_base: Path, adapter: Path, tmp_path: Path
) -> None:
    """By its definition: a hash over names, types, shapes and hashes of the data."""
    tensors = load_file(pico_base / "model.safetensors")
    whole = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name]
        whole.update(f"{name} {tensor.dtype} {list(tensor.shape)}\n".encode())
        whole.update(hashlib.sha256(tensor.view(torch.uint8).numpy().tobytes()).digest())
    shutil.copytree(adapter, tmp_path / "a")
    file = tmp_path / "a/adapter_model.safetensors"
    save_file(load_file(file), file, metadata={"hanpaca.base.fingerprint": whole.hexdigest()})
    plan = plan_merge(pico_base, [tmp_path / "a"], MergeOptions())
    assert not plan.warnings
    plan = plan_merge(pico_base, [tmp_path / "a", adapter, tmp_path / "a"], MergeOptions())
    assert ["does not say" in warning for warning in plan.warnings] == [True, False]


def test_an_existing_output_is_left_alone(pico_base: Path, adapter: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    with pytest.raises(ArtifactError, match="already exists"):
        merge_adapters(pico_base, [adapter], tmp_path / "out")
    assert not list((tmp_path / "out").iterdir())
