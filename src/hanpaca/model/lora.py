"""LoRA and trainable new rows on a frozen model, arranged for speed; saved in peft's format.

The frozen weights stay in bfloat16 and no autocast is used. LoRA factors and new rows are kept in
float32 for the optimizer and cast down where they are used. New rows are matrices of their own
beside the old ones, so that the old embedding and head are neither copied nor differentiated.
benchmarks/throughput.py measures what this brings against autocast with peft's own
`trainable_token_indices`; the files are the same, so peft loads what is saved here.
"""

import json
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import cast

import torch
import torch.nn.functional as F
from peft import LoraConfig, inject_adapter_in_model
from peft.tuners.lora import LoraLayer
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn.utils import parametrize

from hanpaca.errors import ArtifactError
from hanpaca.model.checkpoint import PlannedTensor, write_safetensors
from hanpaca.model.load import CausalLM

ADAPTER_WEIGHTS = "adapter_model.safetensors"
ADAPTER_CONFIG = "adapter_config.json"
_ADAPTER = "default"
_PREFIX = "base_model.model."
_INPUT_ROWS = f"{_PREFIX}model.embed_tokens.token_adapter.trainable_tokens_delta"
_OUTPUT_ROWS = f"{_PREFIX}lm_head.token_adapter.trainable_tokens_delta"


class _CastDown(nn.Module):
    """A float32 parameter, read in the dtype the frozen weights have."""

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        self.dtype = dtype

    def forward(self, weight: Tensor) -> Tensor:
        return weight.to(self.dtype)


class SplitEmbedding(nn.Module):
    """An embedding whose last rows are a trainable matrix of their own."""

    def __init__(self, weight_vd: Tensor, new_rows_nd: nn.Parameter) -> None:
        super().__init__()
        self.register_buffer("weight", weight_vd, persistent=False)
        self.weight: Tensor
        self.new_rows = new_rows_nd

    def forward(self, ids_bt: Tensor) -> Tensor:
        """Look up rows: (batch, tokens) -> (batch, tokens, hidden)."""
        num_old = self.weight.shape[0]
        old_btd = F.embedding(ids_bt.clamp(max=num_old - 1), self.weight)
        rows_nd = self.new_rows.to(self.weight.dtype)
        new_btd = F.embedding((ids_bt - num_old).clamp(min=0), rows_nd)
        return torch.where((ids_bt >= num_old).unsqueeze(-1), new_btd, old_btd)


class SplitHead(nn.Module):
    """A head whose last rows are a trainable matrix of their own."""

    def __init__(self, weight_vd: Tensor, new_rows_nd: nn.Parameter) -> None:
        super().__init__()
        self.register_buffer("weight", weight_vd, persistent=False)
        self.weight: Tensor
        self.new_rows = new_rows_nd

    def forward(self, hidden_btd: Tensor) -> Tensor:
        """Score every piece: (batch, tokens, hidden) -> (batch, tokens, vocabulary)."""
        old_btv = F.linear(hidden_btd, self.weight)
        new_btn = F.linear(hidden_btd, self.new_rows.to(self.weight.dtype))
        return torch.cat([old_btv, new_btn], dim=-1)


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
    dtype = model.dtype
    model.requires_grad_(False)
    config = LoraConfig(
        r=rank, lora_alpha=cast(int, alpha), lora_dropout=dropout, target_modules=list(targets)
    )
    inject_adapter_in_model(config, model, adapter_name=_ADAPTER)
    for layer in _lora_layers(model).values():
        for factor in (layer.lora_A[_ADAPTER], layer.lora_B[_ADAPTER]):
            factor.float()
            if dtype != torch.float32:
                parametrize.register_parametrization(
                    factor, "weight", _CastDown(dtype), unsafe=True
                )


def add_new_rows(model: CausalLM, num_new_rows: int) -> None:
    """Make the last rows of embedding and head trainable in float32, in place.

    A tied model keeps one set of rows for both.
    """
    embedding, head = model.model.embed_tokens, model.lm_head
    num_old = embedding.weight.shape[0] - num_new_rows
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
    state = {}
    for name, layer in _lora_layers(model).items():
        for side in ("lora_A", "lora_B"):
            state[f"{_PREFIX}{name}.{side}.weight"] = _original(getattr(layer, side)[_ADAPTER])
    for key, rows in _new_rows(model).items():
        state[key] = rows
    return {name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}


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
    layers = _lora_layers(model)
    with torch.no_grad():
        for name, layer in layers.items():
            for side in ("lora_A", "lora_B"):
                key = f"{_PREFIX}{name}.{side}.weight"
                _original(getattr(layer, side)[_ADAPTER]).copy_(saved[key])
        for key, rows in _new_rows(model).items():
            rows.copy_(saved[key])


def save_adapter(model: CausalLM, folder: Path, *, metadata: Mapping[str, str]) -> None:
    """Write the adapter as peft reads it: `adapter_config.json` and safetensors.

    Args:
        model: Prepared by `add_lora` and, where the vocabulary grew, `add_new_rows`.
        folder: Made if it is not there.
        metadata: Goes into the safetensors header: fingerprints of base and tokenizer.
    """
    folder.mkdir(parents=True, exist_ok=True)
    config = next(iter(_peft_config(model).values()))
    tree = {key: value for key, value in config.to_dict().items() if value is not None}  # type: ignore[no-untyped-call]
    tree["target_modules"] = sorted(config.target_modules or ())
    tree["base_model_name_or_path"] = None
    indices = _new_row_indices(model)
    if indices:
        tree["trainable_token_indices"] = indices
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


def _new_rows(model: CausalLM) -> dict[str, Tensor]:
    embedding, head = model.model.embed_tokens, model.lm_head
    if not isinstance(embedding, SplitEmbedding) or not isinstance(head, SplitHead):
        return {}
    if head.new_rows is embedding.new_rows:
        return {_INPUT_ROWS: embedding.new_rows}
    return {_INPUT_ROWS: embedding.new_rows, _OUTPUT_ROWS: head.new_rows}


def _lora_layers(model: CausalLM) -> dict[str, LoraLayer]:
    return {name: module for name, module in model.named_modules() if isinstance(module, LoraLayer)}


def _original(linear: nn.Linear) -> Tensor:
    """The float32 parameter itself, not what `_CastDown` makes of it."""
    if parametrize.is_parametrized(linear, "weight"):
        parametrizations = cast(nn.ModuleDict, linear.parametrizations)
        return cast(Tensor, parametrizations["weight"].original)
    return linear.weight


def _peft_config(model: CausalLM) -> Mapping[str, LoraConfig]:
    return cast(Mapping[str, LoraConfig], model.peft_config)
