"""Models made of fixed numbers, the same on every machine, with what a converter heeds."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file
from tokenizers.pre_tokenizers import ByteLevel

from hanpaca.tokenizer.conversion.pretokenizers import PRE_TOKENIZERS
from hanpaca.tokenizer.sentencepiece_bpe import new_model

NUM_ROWS = 283
CONFIG: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "vocab_size": NUM_ROWS,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "rms_norm_eps": 1e-5,
    "rope_theta": 10_000.0,
    "hidden_act": "silu",
    "tie_word_embeddings": False,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
_LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
_YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64}
MODELS: Mapping[str, tuple[str, dict[str, Any]]] = {
    "pieces": ("llama", {}),
    "tied": ("llama", {"tie_word_embeddings": True}),
    "biases": ("llama", {"attention_bias": True, "mlp_bias": True}),
    "linear": ("llama", {"rope_scaling": {"type": "linear", "factor": 2.0}}),
    "yarn": ("llama", {"rope_scaling": _YARN}),
    "llama3": ("llama-bpe", {"rope_scaling": _LLAMA3, "rope_theta": 500_000.0}),
    "head size": ("smollm", {"head_dim": 16}),
    "mistral": (
        "llama",
        {"model_type": "mistral", "architectures": ["MistralForCausalLM"], "sliding_window": None},
    ),
}
"""Name to kind of tokenizer (`llama` for SentencePiece, else the splitting rule) and options."""


def make_golden_model(name: str, folder: Path) -> Path:
    """Write a model folder."""
    kind, options = MODELS[name]
    config = {**CONFIG, **options}
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config))
    numbers = np.random.RandomState(0)  # whose sequence numpy has promised to keep
    shapes = _shapes(config)
    weights = {
        name: (numbers.randint(-999, 999, shape) / 1024).astype(np.float32)
        for name, shape in sorted(shapes.items())
    }
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    if kind == "llama":
        (folder / "tokenizer.model").write_bytes(_pieces())
    else:
        spec = _bytes(kind)
        (folder / "tokenizer.json").write_text(json.dumps(spec))
        settings = {"bos_token": "<s>", "eos_token": "</s>", "add_bos_token": kind == "llama-bpe"}
        settings["tokenizer_class"] = "PreTrainedTokenizerFast"
        (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return folder


def _shapes(config: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    hidden, inner = config["hidden_size"], config["intermediate_size"]
    head_dim = config.get("head_dim", hidden // config["num_attention_heads"])
    queries = config["num_attention_heads"] * head_dim
    keys = config["num_key_value_heads"] * head_dim
    linear = {
        "self_attn.q_proj": (queries, hidden),
        "self_attn.k_proj": (keys, hidden),
        "self_attn.v_proj": (keys, hidden),
        "self_attn.o_proj": (hidden, queries),
        "mlp.gate_proj": (inner, hidden),
        "mlp.up_proj": (inner, hidden),
        "mlp.down_proj": (hidden, inner),
    }
    shapes: dict[str, tuple[int, ...]] = {
        "model.embed_tokens.weight": (NUM_ROWS, hidden),
        "model.norm.weight": (hidden,),
    }
    if not config["tie_word_embeddings"]:
        shapes["lm_head.weight"] = (NUM_ROWS, hidden)
    for layer in range(config["num_hidden_layers"]):
        prefix = f"model.layers.{layer}"
        shapes[f"{prefix}.input_layernorm.weight"] = (hidden,)
        shapes[f"{prefix}.post_attention_layernorm.weight"] = (hidden,)
        for part, shape in linear.items():
            shapes[f"{prefix}.{part}.weight"] = shape
            if config.get("attention_bias"):
                shapes[f"{prefix}.{part}.bias"] = shape[:1]
    return shapes


def _pieces() -> bytes:
    model = new_model()
    kinds = [("<unk>", 2), ("<s>", 3), ("</s>", 3)]
    kinds += [(f"<0x{byte:02X}>", 6) for byte in range(256)]
    for text, kind in kinds:
        model.pieces.add(piece=text, score=0.0, type=kind)
    texts = ["▁t", "he", "▁the", "中文", *"▁the中文abcdfgijkl"]
    for number, text in enumerate(dict.fromkeys(texts)):
        model.pieces.add(piece=text, score=-float(number), type=1)
    model.trainer_spec.model_type, model.trainer_spec.byte_fallback = 2, True
    model.normalizer_spec.name = "identity"
    model.normalizer_spec.remove_extra_whitespaces = False
    return bytes(model.SerializeToString())


def _bytes(rule: str) -> dict[str, Any]:
    alphabet = sorted(ByteLevel.alphabet())
    merges = [["t", "h"], ["th", "e"], ["Ġ", "the"]]
    texts = ["<pad>", "<s>", "</s>", *alphabet, *("".join(pair) for pair in merges)]
    special = [
        {"id": number, "content": text, "special": True, "normalized": False}
        | dict.fromkeys(("single_word", "lstrip", "rstrip"), False)
        for number, text in enumerate(texts[:3])
    ]
    return {
        "version": "1.0",
        "added_tokens": special,
        "normalizer": None,
        "pre_tokenizer": PRE_TOKENIZERS[rule],
        "post_processor": None,
        "decoder": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True},
        "model": {
            "type": "BPE",
            "ignore_merges": rule == "llama-bpe",
            "vocab": {text: number for number, text in enumerate(texts)},
            "merges": merges,
        },
    }
