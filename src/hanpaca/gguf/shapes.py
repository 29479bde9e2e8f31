"""The weights that a Llama-style model of a configuration has, by their Hugging Face names."""

from collections.abc import Mapping
from typing import Any


def llama_shapes(config: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """Shape of every weight, rows first.

    Args:
        config: As `config.json` has it.

    Raises:
        ValueError: The heads do not fit each other.
    """
    hidden, inner = config["hidden_size"], config["intermediate_size"]
    heads = config["num_attention_heads"]
    kv_heads = config.get("num_key_value_heads") or heads
    head_dim = config.get("head_dim") or hidden // heads
    if head_dim % 2 or heads % kv_heads:
        raise ValueError(f"{heads} heads of {head_dim}, {kv_heads} for keys: they do not fit")
    queries, keys = heads * head_dim, kv_heads * head_dim
    layer: dict[str, tuple[int, ...]] = {
        "self_attn.q_proj.weight": (queries, hidden),
        "self_attn.k_proj.weight": (keys, hidden),
        "self_attn.v_proj.weight": (keys, hidden),
        "self_attn.o_proj.weight": (hidden, queries),
        "mlp.gate_proj.weight": (inner, hidden),
        "mlp.up_proj.weight": (inner, hidden),
        "mlp.down_proj.weight": (hidden, inner),
        "input_layernorm.weight": (hidden,),
        "post_attention_layernorm.weight": (hidden,),
    }
    biased = [
        part
        for part, key in (("self_attn", "attention_bias"), ("mlp", "mlp_bias"))
        if config.get(key)
    ]
    for name, shape in list(layer.items()):
        if len(shape) == 2 and name.partition(".")[0] in biased:
            layer[name.replace(".weight", ".bias")] = shape[:1]
    table = (config["vocab_size"], hidden)
    shapes: dict[str, tuple[int, ...]] = {
        "model.embed_tokens.weight": table,
        "model.norm.weight": (hidden,),
    }
    if not config.get("tie_word_embeddings"):
        shapes["lm_head.weight"] = table
    for number in range(config["num_hidden_layers"]):
        shapes |= {f"model.layers.{number}.{part}": shape for part, shape in layer.items()}
    return shapes
