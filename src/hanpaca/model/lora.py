"""LoRA and trainable new rows on a frozen model, saved in peft's format.

The layers are our own for speed; benchmarks/throughput.py measures what they bring against autocast
with peft's own layers. The files are the same, so peft loads what is saved here.
"""

import json
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import cast

import torch
from peft import LoraConfig, TaskType
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from hanpaca.errors import ArtifactError
from hanpaca.model.checkpoint import PlannedTensor, write_safetensors
from hanpaca.model.layers import LoraLinear, SplitEmbedding, SplitHead
from hanpaca.model.load import CausalLM

ADAPTER_WEIGHTS = "adapter_model.safetensors"
ADAPTER_CONFIG = "adapter_config.json"
_PREFIX = "base_model.model."
_INPUT_ROWS = f"{_PREFIX}model.embed_tokens.token_adapter.trainable_tokens_delta"
_OUTPUT_ROWS = f"{_PREFIX}lm_head.token_adapter.trainable_tokens_delta"


def add_lora(
    model: CausalLM, *, rank: int, alpha: float, dropout: float, targets: Sequence[str]
) -> None:
    """Freeze the model and add trainable float32 LoRA factors to its linear layers, in place.

    Args:
        model: Changed in place.
        rank: Rank r of the update B @ A (Hu et al. 2021, arXiv 2106.09685).
        alpha: The update is scaled by alpha / rank.
        dropout: Probability of dropping an input element of A.
        targets: Names of the linear layers, such as `q_proj`.

    Raises:
        ArtifactError: The model has no layer of one of these names.
    """
    known = {name.rsplit(".", 1)[-1] for name, _ in model.named_modules()}
    for target in targets:
        if target not in known:
            raise ArtifactError(f"lora targets: the model has no layer named {target!r}")
    model.requires_grad_(False)
    for name, module in list(model.named_modules()):
        parent, _, last = name.rpartition(".")
        if last in targets and isinstance(module, nn.Linear):
            lora = LoraLinear(module, rank=rank, alpha=alpha, dropout=dropout)
            model.get_submodule(parent).add_module(last, lora)


def add_new_rows(model: CausalLM, num_new_rows: int) -> None:
    """Make the last rows of embedding and head trainable in float32, in place.

    A tied model keeps one set of rows for both.

    Raises:
        ArtifactError: The model has no more rows than that.
    """
    embedding, head = model.model.embed_tokens, model.lm_head
    num_old = embedding.weight.shape[0] - num_new_rows
    if num_old < 1:
        raise ArtifactError(
            f"{num_new_rows} new rows: the model has {embedding.weight.shape[0]} in all"
        )
    tied = head.weight is embedding.weight
    input_rows = nn.Parameter(embedding.weight[num_old:].detach().float().clone())
    output_rows = (
        input_rows if tied else nn.Parameter(head.weight[num_old:].detach().float().clone())
    )
    model.model.embed_tokens = cast(
        nn.Embedding, SplitEmbedding(embedding.weight.detach()[:num_old], input_rows)
    )
    model.lm_head = cast(nn.Linear, SplitHead(head.weight.detach()[:num_old], output_rows))


def trainable_groups(model: CausalLM) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """The trainable parameters: LoRA factors, and new rows (empty when there are none)."""
    factors = [
        parameter
        for name, parameter in model.named_parameters()
        if parameter.requires_grad and not name.endswith("new_rows")
    ]
    rows = [parameter for name, parameter in model.named_parameters() if name.endswith("new_rows")]
    return factors, rows


def adapter_state(model: CausalLM) -> dict[str, Tensor]:
    """Every trained tensor in float32, under the names peft gives them."""
    return {
        name: parameter.detach().cpu().contiguous() for name, parameter in _trained(model).items()
    }


def load_adapter_state(model: CausalLM, file: Path) -> None:
    """Put the tensors `save_adapter` wrote back into a model prepared the same way.

    Raises:
        ArtifactError: The file is damaged, or was written for another preparation.
    """
    try:
        saved = load_file(file)
    except (OSError, SafetensorError) as error:
        raise ArtifactError(f"{file}: cannot be read: {error}") from error
    current = adapter_state(model)
    wrong = sorted(set(saved) ^ set(current)) or [
        name for name in current if saved[name].shape != current[name].shape
    ]
    if wrong:
        raise ArtifactError(f"{file}: {wrong[0]} does not fit this model and recipe")
    with torch.no_grad():
        for key, parameter in _trained(model).items():
            parameter.copy_(saved[key])


def save_adapter(model: CausalLM, folder: Path, *, metadata: Mapping[str, str]) -> None:
    """Write the adapter as peft reads it: `adapter_config.json` and safetensors.

    Args:
        model: Prepared by `add_lora` and, where the vocabulary grew, `add_new_rows`.
        folder: Made if it is not there.
        metadata: Goes into the safetensors header: fingerprints of base and tokenizer.
    """
    folder.mkdir(parents=True, exist_ok=True)
    layers = _lora_layers(model)
    one = next(iter(layers.values()))
    config = LoraConfig(
        task_type=TaskType.CAUSAL_LM,
        inference_mode=True,
        r=len(one.lora_A),
        lora_alpha=cast(int, one.alpha),
        lora_dropout=one.dropout,
        trainable_token_indices=_new_row_indices(model) or None,
    )
    tree = {key: value for key, value in config.to_dict().items() if value is not None}  # type: ignore[no-untyped-call]
    tree["target_modules"] = sorted({name.rsplit(".", 1)[-1] for name in layers})
    (folder / ADAPTER_CONFIG).write_text(json.dumps(tree, indent=2, sort_keys=True, default=str))
    state = adapter_state(model)
    write_safetensors(
        folder / ADAPTER_WEIGHTS,
        [
            PlannedTensor(name, tensor.dtype, tuple(tensor.shape), partial(state.__getitem__, name))
            for name, tensor in sorted(state.items())
        ],
        metadata=metadata,
    )


def _new_row_indices(model: CausalLM) -> dict[str, list[int]]:
    embedding = model.model.embed_tokens
    if not isinstance(embedding, SplitEmbedding):
        return {}
    num_old = embedding.weight.shape[0]
    ids = list(range(num_old, num_old + embedding.new_rows.shape[0]))
    names = [key.split(".token_adapter")[0].rsplit(".", 1)[-1] for key in _new_rows(model)]
    return dict.fromkeys(names, ids)


def _new_rows(model: CausalLM) -> dict[str, nn.Parameter]:
    embedding, head = model.model.embed_tokens, model.lm_head
    if not isinstance(embedding, SplitEmbedding) or not isinstance(head, SplitHead):
        return {}
    if head.new_rows is embedding.new_rows:
        return {_INPUT_ROWS: embedding.new_rows}
    return {_INPUT_ROWS: embedding.new_rows, _OUTPUT_ROWS: head.new_rows}


def _lora_layers(model: CausalLM) -> dict[str, LoraLinear]:
    return {
        name: module for name, module in model.named_modules() if isinstance(module, LoraLinear)
    }


def _trained(model: CausalLM) -> dict[str, nn.Parameter]:
    """Every trained parameter under the name peft gives it."""
    factors = {
        f"{_PREFIX}{name}.{side}.weight": cast(nn.Parameter, getattr(layer, side))
        for name, layer in _lora_layers(model).items()
        for side in ("lora_A", "lora_B")
    }
    return factors | _new_rows(model)
