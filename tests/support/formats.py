"""Bases as transformers of 2023 saved them, and Meta's format by its rules."""

import json
import shutil
from pathlib import Path

import torch
from torch import Tensor

from tests.support.merge_oracle import load_base

COLUMNS = ("tok_embeddings", "wo", "w2")


def as_bin(base: Path, folder: Path, num_files: int) -> Path:
    """The base as transformers of 2023 saved it, with its rotary constants."""
    folder.mkdir()
    shutil.copyfile(base / "config.json", folder / "config.json")
    state = load_base(base)
    state["model.layers.0.self_attn.rotary_emb.inv_freq"] = torch.ones(4)
    if num_files == 1:
        torch.save(state, folder / "pytorch_model.bin")
        return folder
    places: dict[str, str] = {}
    names = list(state)
    for number in range(num_files):
        file = f"pytorch_model-{number + 1:05d}-of-{num_files:05d}.bin"
        part = {name: state[name] for name in names[number::num_files]}
        torch.save(part, folder / file)
        places |= dict.fromkeys(part, file)
    index = {"metadata": {}, "weight_map": places}
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps(index))
    return folder


def meta_names(name: str) -> str:
    for ours, theirs in (
        ("model.", ""),
        ("embed_tokens", "tok_embeddings"),
        ("lm_head", "output"),
        ("self_attn.q_proj", "attention.wq"),
        ("self_attn.k_proj", "attention.wk"),
        ("self_attn.v_proj", "attention.wv"),
        ("self_attn.o_proj", "attention.wo"),
        ("mlp.gate_proj", "feed_forward.w1"),
        ("mlp.down_proj", "feed_forward.w2"),
        ("mlp.up_proj", "feed_forward.w3"),
        ("input_layernorm", "attention_norm"),
        ("post_attention_layernorm", "ffn_norm"),
    ):
        name = name.replace(ours, theirs)
    return name


def unpermuted(weight: Tensor, num_heads: int) -> Tensor:
    """The reference's formula for wq and wk."""
    rows, columns = weight.shape
    halves = weight.view(num_heads, 2, rows // num_heads // 2, columns)
    return halves.transpose(1, 2).reshape(rows, columns)


def joined(name: str, parts: list[Tensor]) -> Tensor:
    if "norm" in name:
        assert all(torch.equal(part, parts[0]) for part in parts)
        return parts[0]
    return torch.cat(parts, dim=1 if any(f"{c}." in name for c in COLUMNS) else 0)
