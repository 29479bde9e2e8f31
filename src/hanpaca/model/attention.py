"""Attention for training on a CPU: two batched matrix products for each group of query heads.

PyTorch's fused CPU kernel wants the keys and values repeated for every query head, and its backward
pass is slow in bfloat16. Here all query heads of a group are rows of one matrix. At 256 tokens of
SmolLM2 forward and backward of a layer take 4.1 ms, against 10.2 ms of the fused kernel and 7.5 ms
of transformers' eager attention. All scores are held at once: memory grows with tokens squared.
"""

from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.masking_utils import eager_mask

from hanpaca.errors import ResourceError

GROUPED = "hanpaca_grouped"
_NAMES = {"grouped": GROUPED, "flex": "flex_attention", "flash": "flash_attention_2"}
"""What transformers calls it, where the name is another."""


def grouped_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    scaling: float,
    dropout: float = 0.0,
    **_: Any,
) -> tuple[Tensor, None]:
    """Causal attention with grouped queries, as transformers calls it.

    Args:
        module: Not used.
        query: (batch, heads, tokens, head size).
        key: (batch, groups, tokens, head size), of which `heads` is a multiple.
        value: Like `key`.
        attention_mask: (batch, 1, tokens, tokens): added to the scores.
        scaling: Multiplies the scores.
        dropout: Probability of dropping an attention weight.

    Returns:
        (batch, tokens, heads, head size), and None for the weights.
    """
    batch, heads, tokens, size = query.shape
    groups = key.shape[1]
    stacked = query.reshape(batch, groups, heads // groups * tokens, size) * scaling
    scores = stacked @ key.transpose(-1, -2)
    if attention_mask is not None:
        scores = scores + attention_mask.repeat(1, 1, heads // groups, 1)
    weights = nn.functional.dropout(scores.softmax(dim=-1), dropout)
    mixed = (weights @ value).view(batch, heads, tokens, size)
    return mixed.transpose(1, 2).contiguous(), None


def use_attention(model: PreTrainedModel, name: str) -> None:
    """Let a transformers model attend as a recipe's `attention` says.

    Raises:
        ResourceError: What it takes is not installed, or not there.
    """
    if name == "auto":
        use_grouped_attention(model)
        return
    if name == "flex" and not torch.cuda.is_available():
        raise ResourceError(
            "attention flex trains on GPUs only, and there is none here", "give another {attention}"
        )
    try:
        model.set_attn_implementation(_NAMES.get(name, name))
    except ImportError as error:
        told = " ".join(str(error).split())[:200]
        raise ResourceError(
            f"attention {name} cannot be used here: {told}", "give another {attention}"
        ) from error


def flattened(model: PreTrainedModel) -> bool:
    """Whether blocks have to lie in one row.

    transformers tells flash attention of packed texts in a batch of one alone; in any other they
    would see each other.
    """
    return bool(model.config._attn_implementation == _NAMES["flash"])


def use_grouped_attention(model: PreTrainedModel) -> None:
    """Let a transformers model attend this way, where it will train on the CPU."""
    if not torch.cuda.is_available():
        model.set_attn_implementation(GROUPED)


AttentionInterface.register(GROUPED, grouped_attention)
AttentionMaskInterface.register(GROUPED, eager_mask)
