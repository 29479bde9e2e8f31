"""Adapters made by hand, and the merge by its formula in plain torch."""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from tests.support.adapters import marked

State = dict[str, Tensor]
PREFIX = "base_model.model."
EMBED, HEAD = "model.embed_tokens.weight", "lm_head.weight"
Q = "model.layers.0.self_attn.q_proj"
K = "model.layers.1.self_attn.k_proj"
DOWN = "model.layers.1.mlp.down_proj"
SHAPES = {Q: (32, 32), K: (16, 32), DOWN: (32, 64)}
CONFIG = {
    "peft_type": "LORA",
    "r": 4,
    "lora_alpha": 10,
    "bias": "none",
    "fan_in_fan_out": False,
    "enable_lora": None,
    "merge_weights": False,
    "inference_mode": True,
    "lora_dropout": 0.05,
    "task_type": "CAUSAL_LM",
    "target_modules": ["q_proj", "k_proj", "down_proj"],
}


def factors(dtype: torch.dtype = torch.float16, rank: int = 4, seed: int = 0) -> State:
    """LoRA factors of three matrices, by names without prefix."""
    chance = torch.Generator().manual_seed(seed)
    state = {}
    for module, (rows, columns) in SHAPES.items():
        state[f"{module}.lora_A.weight"] = torch.randn(rank, columns, generator=chance).to(dtype)
        state[f"{module}.lora_B.weight"] = torch.randn(rows, rank, generator=chance).to(dtype)
    return state


def tables(num_rows: int, dtype: torch.dtype = torch.float16, seed: int = 1) -> State:
    """A whole embedding and head."""
    chance = torch.Generator().manual_seed(seed)
    return {name: torch.randn(num_rows, 32, generator=chance).to(dtype) for name in (EMBED, HEAD)}


def write_adapter(
    folder: Path, state: State, *, file: str = "adapter_model.safetensors", **config: Any
) -> Path:
    folder.mkdir()
    if file.endswith(".safetensors"):
        save_file({name: tensor.contiguous() for name, tensor in state.items()}, folder / file)
    else:
        torch.save(state, folder / file)
    (folder / "adapter_config.json").write_text(json.dumps({**CONFIG, **config}))
    return folder


def load_base(base: Path) -> State:
    return load_file(base / "model.safetensors")


def expected(base: State, state: State, scaling: float, dtype: torch.dtype | None = None) -> State:
    """The merge by its formula: whole tables replaced, updates added in float32, one rounding."""
    merged = {}
    for name, weight in base.items():
        module = name.removesuffix(".weight")
        result = state.get(name, weight).float()
        if f"{module}.lora_A.weight" in state:
            a, b = state[f"{module}.lora_A.weight"], state[f"{module}.lora_B.weight"]
            result = result + scaling * (b.float() @ a.float())
        merged[name] = result.to(dtype or weight.dtype)
    return merged


def check(output: Path, wanted: State) -> None:
    found = load_file(output / "model.safetensors")
    assert found.keys() == wanted.keys()
    for name, tensor in wanted.items():
        assert found[name].dtype == tensor.dtype, name
        assert torch.equal(found[name], tensor), name


def prefixed(state: State) -> State:
    return {PREFIX + name: tensor for name, tensor in state.items()}


def grown_adapter(folder: Path, seed: int, mark: str | None = None, rows: int = 395) -> Path:
    """An adapter of every matrix, embedding and head grown; may record its base."""
    adapter = write_adapter(folder, prefixed(factors(seed=seed) | tables(rows, seed=seed)))
    return marked(adapter, base=mark) if mark else adapter
