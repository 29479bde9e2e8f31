"""Adapters that peft saved, merged as peft merges them: the same bits."""

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from torch import Tensor
from transformers import LlamaForCausalLM

from hanpaca.merging import merge_adapters
from tests.support.peft_adapters import load, make_adapter


def peft_merged(
    base: Path, adapter: Path, dtype: torch.dtype, num_rows: int | None
) -> LlamaForCausalLM:
    model = load(base, dtype)
    if num_rows:
        model.resize_token_embeddings(num_rows, mean_resizing=False)
    merged: LlamaForCausalLM = PeftModel.from_pretrained(model, str(adapter)).merge_and_unload()
    return merged


def weights(model: LlamaForCausalLM) -> dict[str, Tensor]:
    return {name: tensor.detach() for name, tensor in model.state_dict().items()}


CASES: dict[str, dict[str, Any]] = {
    "plain": {},
    "rslora": {"use_rslora": True},
    "dora": {"use_dora": True},
    "patterns": {"rank_pattern": {"q_proj": 2}, "alpha_pattern": {"layers.1.mlp.down_proj": 7}},
    "saved": {"modules_to_save": ["embed_tokens", "lm_head"]},
    "saved norm": {"modules_to_save": ["norm"]},
    "rows": {"trainable_token_indices": {"embed_tokens": [3, 200, 9], "lm_head": [9, 10, 11]}},
    "embedding": {"target_modules": ["embed_tokens", "lm_head", "up_proj"]},
    "all linear": {"target_modules": "all-linear"},
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("case", CASES)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_the_merge_has_the_bits_of_peft(
    case: str, dtype: torch.dtype, pico_untied: Path, tmp_path: Path
) -> None:
    base = tmp_path / "base"
    load(pico_untied, dtype).save_pretrained(base)
    adapter = make_adapter(base, tmp_path / "a", **CASES[case])
    merge_adapters(base, [adapter], tmp_path / "out")
    wanted = weights(peft_merged(base, adapter, dtype, None))
    found = load_file(tmp_path / "out/model.safetensors")
    assert found.keys() == wanted.keys()
    before = load_file(base / "model.safetensors")
    assert any(not torch.equal(found[name], before[name]) for name in found)
    for name, tensor in wanted.items():
        rounds_often = case == "dora" or (case == "embedding" and "embed" in name)
        if rounds_often and dtype is torch.bfloat16:
            # Peft rounds DoRA's sum, norm and quotient to bfloat16 on the way, and the update of
            # an embedding before it is added.
            torch.testing.assert_close(found[name].float(), tensor.float(), rtol=2**-6, atol=1e-3)
        else:
            assert torch.equal(found[name], tensor), name


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_grown_vocabulary_is_that_of_peft(pico_untied: Path, tmp_path: Path) -> None:
    adapter = make_adapter(
        pico_untied, tmp_path / "a", num_rows=405, modules_to_save=["embed_tokens", "lm_head"]
    )
    merge_adapters(pico_untied, [adapter], tmp_path / "out")
    wanted = weights(peft_merged(pico_untied, adapter, torch.bfloat16, 405))
    found = load(tmp_path / "out", torch.bfloat16)
    assert found.config.vocab_size == 405
    for name, tensor in weights(found).items():
        assert torch.equal(tensor, wanted[name]), name


TIED: dict[str, dict[str, Any]] = {
    "rows": {"trainable_token_indices": [3, 200, 9]},
    "embedding only": {"modules_to_save": ["embed_tokens"]},
    "head only": {"modules_to_save": ["lm_head"]},
    "both": {"modules_to_save": ["embed_tokens", "lm_head"]},
    "kept tied": {"modules_to_save": ["embed_tokens"], "ensure_weight_tying": True},
    "lora on head": {"target_modules": ["lm_head", "q_proj"]},
    "lora on embedding": {"target_modules": ["embed_tokens", "q_proj"]},
}


@pytest.mark.parametrize("case", TIED)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_tied_model_answers_as_it_did_in_training(
    case: str, pico_base: Path, tmp_path: Path
) -> None:
    """Not as peft's own merge, which writes a change of one side into the matrix of both."""
    base = tmp_path / "base"
    load(pico_base, torch.float32).save_pretrained(base)
    adapter = make_adapter(base, tmp_path / "a", **TIED[case])
    merge_adapters(base, [adapter], tmp_path / "out")
    prompt = torch.tensor([[1, 5, 200, 3, 9]])
    with torch.inference_mode():
        trained = PeftModel.from_pretrained(load(base, torch.float32), str(adapter))(prompt).logits
        merged = load(tmp_path / "out", torch.float32)(prompt).logits
    torch.testing.assert_close(merged, trained, rtol=1e-5, atol=1e-5)
