"""Adapters of every kind: of the sizes of the released ones, and by peft itself."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import peft
from safetensors.torch import load_file, save_file
from transformers import LlamaForCausalLM

P = "base_model.model."
Q = "model.layers.0.self_attn.q_proj"


def write_holes(file: Path, shapes: Mapping[str, tuple[int, ...]]) -> None:
    """A safetensors file of any size that takes no room."""
    file.parent.mkdir(parents=True, exist_ok=True)
    header: dict[str, Any] = {}
    at = 0
    for name, shape in shapes.items():
        end = at + 2 * int(np.prod(shape))
        header[name] = {"dtype": "F16", "shape": shape, "data_offsets": [at, end]}
        at = end
    text = json.dumps(header).encode()
    with file.open("wb") as stream:
        stream.write(len(text).to_bytes(8, "little") + text)
        stream.truncate(8 + len(text) + at)


def base_of(folder: Path, *, rows: int = 32_000, hidden: int = 4096) -> Path:
    """A whole model of one layer; the data is a hole."""
    matrices = [f"self_attn.{name}_proj" for name in "qkvo"]
    matrices += [f"mlp.{name}_proj" for name in ("gate", "up", "down")]
    norms = ["layers.0.input_layernorm", "layers.0.post_attention_layernorm", "norm"]
    write_holes(
        folder / "model.safetensors",
        {
            "model.embed_tokens.weight": (rows, hidden),
            **{f"model.layers.0.{name}.weight": (hidden, hidden) for name in matrices},
            **{f"model.{name}.weight": (hidden,) for name in norms},
            "lm_head.weight": (rows, hidden),
        },
    )
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": hidden,
        "intermediate_size": hidden,
        "num_hidden_layers": 1,
        "num_attention_heads": 32,
        "num_key_value_heads": 32,
        "vocab_size": rows,
        "tie_word_embeddings": False,
    }
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def released(folder: Path, *, rank: int, rows: int, hidden: int = 4096) -> Path:
    """An adapter of the sizes of a released one."""
    write_holes(
        folder / "adapter_model.safetensors",
        {
            f"{P}{Q}.lora_A.weight": (rank, hidden),
            f"{P}{Q}.lora_B.weight": (hidden, rank),
            f"{P}model.embed_tokens.weight": (rows, hidden),
            f"{P}lm_head.weight": (rows, hidden),
        },
    )
    config = {"peft_type": "LORA", "r": rank, "lora_alpha": 4 * rank}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    return folder


def adapter_of(base: Path, folder: Path, fingerprint: str | None = None, **settings: Any) -> Path:
    model = LlamaForCausalLM.from_pretrained(base)
    config = peft.LoraConfig(**{"r": 4, "target_modules": ["q_proj"], **settings})
    peft.get_peft_model(model, config).save_pretrained(str(folder))
    if fingerprint:
        file = folder / "adapter_model.safetensors"
        metadata = {"hanpaca.base.fingerprint": fingerprint}
        save_file(load_file(file), file, metadata=metadata)
    return folder


def marked(adapter: Path, **marks: str) -> Path:
    """Record fingerprints in an adapter: of `base` or `tokenizer`."""
    file = adapter / "adapter_model.safetensors"
    keys = {f"hanpaca.{name}.fingerprint": mark for name, mark in marks.items()}
    save_file(load_file(file), file, metadata=keys)
    return adapter
