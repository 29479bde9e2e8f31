"""Adapters with random factors that peft itself saves."""

from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file
from torch import nn
from transformers import LlamaForCausalLM

from hanpaca.merging import merge_adapters
from hanpaca.steps.write_gguf import model_to_gguf

TARGETS = ["q_proj", "v_proj", "down_proj"]


def load(folder: Path, dtype: torch.dtype) -> LlamaForCausalLM:
    model: LlamaForCausalLM = LlamaForCausalLM.from_pretrained(folder, dtype=dtype)
    return model


def make_adapter(base: Path, folder: Path, *, num_rows: int | None = None, **settings: Any) -> Path:
    """An adapter with random factors, saved by peft itself."""
    model = load(base, torch.float32)
    if num_rows:
        model.resize_token_embeddings(num_rows, mean_resizing=False)
    config = LoraConfig(**{"r": 4, "lora_alpha": 10, "target_modules": TARGETS, **settings})
    adapted = get_peft_model(model, config)
    torch.manual_seed(1)
    for parameter in adapted.parameters():
        if parameter.requires_grad:
            torch.nn.init.normal_(parameter, std=0.05)
    adapted.save_pretrained(str(folder))
    return folder


def check_merged_as_peft(
    model: nn.Module, ids_bt: torch.Tensor, base: Path, adapter: Path, folder: Path
) -> set[str]:
    """peft answers as the trained model; merging has its bits, and so has a file written at once.

    Gives the names of the merged tensors.
    """
    oracle = PeftModel.from_pretrained(load(base, torch.float32), str(adapter))
    with torch.inference_mode():
        torch.testing.assert_close(
            model(ids_bt).logits, oracle(ids_bt).logits, rtol=1e-5, atol=1e-5
        )
    merge_adapters(base, [adapter], folder / "merged")
    found = load_file(folder / "merged/model.safetensors")
    wanted = oracle.merge_and_unload().state_dict()
    assert {name for name in found if not torch.equal(found[name], wanted[name])} == set()
    files = [folder / name / "model.gguf" for name in ("once", "twice")]
    for file in files:
        file.parent.mkdir()
    model_to_gguf(base, {"f32": files[0]}, adapters=[adapter], metadata={})
    model_to_gguf(folder / "merged", {"f32": files[1]}, metadata={})
    assert files[0].read_bytes() == files[1].read_bytes()
    return set(found)
