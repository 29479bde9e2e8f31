"""The weights that a Llama-style model of a configuration has, by their Hugging Face names.

Whoever opens a model to work on it holds its files against this list first: a model that is not
whole would be merged, trained or written as another model, and nobody would know.
"""

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from hanpaca.checkpoints.meta import EMBEDDING, HEAD
from hanpaca.checkpoints.tensors import Stored

MODEL_TYPES = ("llama", "mistral")
_COUNTS = (
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "vocab_size",
)
_OPTIONAL_COUNTS = ("num_key_value_heads", "head_dim", "max_position_embeddings")
_END_OF_COUNTS = 2**32
"""GGUF writes these numbers in 32 bits; no model comes near."""
_WRAPPERS = {
    "_orig_mod.": "torch.compile",
    "module.": "DataParallel or DeepSpeed",
    "language_model.": "a model of images and text",
    "base_model.model.": "peft",
    "model.": "a wrapper",
}
"""What is put before the names of weights, and by whom."""
_LAYER_WEIGHTS = (
    "self_attn.q_proj.weight",
    "self_attn.k_proj.weight",
    "self_attn.v_proj.weight",
    "self_attn.o_proj.weight",
    "mlp.gate_proj.weight",
    "mlp.up_proj.weight",
    "mlp.down_proj.weight",
    "input_layernorm.weight",
    "post_attention_layernorm.weight",
)
_IN_LAYER = re.compile(r"^model\.layers\.\d+\.")
_LAYER = re.compile(r"(?:^|\.)layers\.(\d+)\.")


def check_numbers(config: Mapping[str, Any]) -> None:
    """Check the numbers of a configuration that say how large its weights are.

    Raises:
        ValueError: One is missing, no whole number from 1 to 2**32 - 1, or they do not fit.
    """
    for name in (*_COUNTS, *_OPTIONAL_COUNTS):
        value = config.get(name)
        if value is None and name in _OPTIONAL_COUNTS:
            continue
        if type(value) is not int or not 0 < value < _END_OF_COUNTS:
            told = "missing" if value is None else f"{value!r:.40}"
            raise ValueError(f"{name} is {told}, but should be a whole number from 1 to 2**32 - 1")
    hidden, heads = config["hidden_size"], config["num_attention_heads"]
    if not config.get("head_dim") and hidden % heads:
        raise ValueError(f"hidden_size {hidden} is no multiple of {heads} heads")


def check_whole(config: Mapping[str, Any], found: Mapping[str, tuple[int, ...]]) -> None:
    """Check that a model's weights are those its configuration describes, no more and no less.

    Args:
        config: As `config.json` has it, of a Llama-style model.
        found: Shape of every weight in the files, by Hugging Face name.

    Raises:
        ValueError: A number is impossible, or a weight is missing, of another shape or name, or
            one too many; names it.
    """
    check_numbers(config)
    if config["num_hidden_layers"] > len(found):
        raise ValueError(
            f"num_hidden_layers is {config['num_hidden_layers']}, for which {len(found)} weights "
            "are too few: the folder is incomplete or of another model"
        )
    wanted = llama_shapes(config)
    missing = [name for name in wanted if name not in found]
    extra = [name for name in found if name not in wanted]
    if missing and extra and (cause := _renamed(extra[0], wanted)):
        raise ValueError(cause)
    if missing == ["lm_head.weight"]:
        raise ValueError(
            "lm_head.weight is missing, though tie_word_embeddings is not true: the folder is "
            "incomplete, or tie_word_embeddings should be true"
        )
    for names, told in ((missing, "is missing"), (extra, "has no place")):
        if names:
            raise ValueError(
                f"the weight {names[0]:.200} {told} in a model as config.json describes it: the "
                "folder is incomplete or of another model"
            )
    for name, shape in wanted.items():
        if found[name] != shape:
            raise ValueError(
                f"the weight {name} is {list(found[name])}, but {list(shape)} in a model as "
                "config.json describes it: one of the two is damaged or of another model"
            )


def looks_like_llama(names: Collection[str]) -> bool:
    """Whether weights are named as in a Llama, all kinds of them and no other.

    Then they are to be whole whatever the configuration calls the model: a damaged name of an
    architecture must not hide a missing weight. Most other architectures have further weights.
    """
    found = [name for name in names if name not in (EMBEDDING, HEAD, "model.norm.weight")]
    kinds = {_IN_LAYER.sub("", name) for name in found}
    return EMBEDDING in names and kinds == set(_LAYER_WEIGHTS)


def _renamed(name: str, wanted: Iterable[str]) -> str | None:
    """Why a weight has another name than in a model that was saved as it should be."""
    for prefix, who in _WRAPPERS.items():
        if prefix in name and name.replace(prefix, "", 1) in wanted:
            return (
                f"the weights have {prefix!r} in their names ({name:.200}), put there by {who}: "
                "unwrap the model and save it again"
            )
    if f"model.{name}" in wanted:
        return (
            f"the weights lack 'model.' before their names ({name:.200}): the inner model was "
            "saved without its head; save the whole causal language model"
        )
    return None


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
        if config.get(key) and config.get("model_type") != "mistral"  # which heeds neither
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


@dataclass(frozen=True)
class MeasuredShape:
    """The sizes another file must fit."""

    vocab_rows: int
    """Rows of the embedding."""
    hidden_size: int
    num_layers: int
    intermediate_size: int | None
    tied: bool
    """The head is the embedding: there is no matrix of its own."""
    missing_layers: tuple[int, ...] = ()

    @property
    def in_words(self) -> str:
        """For messages."""
        return (
            f"{self.num_layers} layers, hidden size {self.hidden_size}, vocabulary "
            f"{self.vocab_rows:,}"
        )


def measure(tensors: Mapping[str, Stored]) -> MeasuredShape | None:
    """Measure a model by its tensors; None where it is not Llama-style or has no embedding."""
    embedding = tensors.get(EMBEDDING)
    if embedding is None or len(embedding.shape) != 2:
        return None
    layers = layer_numbers(tensors)
    gates = (stored for name, stored in tensors.items() if name.endswith("mlp.gate_proj.weight"))
    gate = next(gates, None)
    num_layers = max(layers, default=-1) + 1
    gaps = range(num_layers) if num_layers <= len(layers) + 1000 else range(len(layers) + 1000)
    return MeasuredShape(
        vocab_rows=embedding.shape[0],
        hidden_size=embedding.shape[1],
        num_layers=num_layers,
        intermediate_size=gate.shape[0] if gate and gate.shape else None,
        tied=HEAD not in tensors,
        missing_layers=tuple(number for number in gaps if number not in layers),
    )


def layer_numbers(names: Mapping[str, object]) -> set[int]:
    """The numbers of the layers that tensors belong to."""
    found = (_LAYER.search(name) for name in names)
    return {int(match[1]) for match in found if match and len(match[1]) < 7}
