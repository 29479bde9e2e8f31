"""LoRA and trainable new rows on a frozen model, saved in peft's format.

The layers are our own for speed; benchmarks/throughput.py measures what they bring against autocast
with peft's own layers. The files are the same, so peft loads what is saved here.
"""

import json
import re
from collections import Counter
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, TypeVar, cast

import torch
from peft import LoraConfig, TaskType
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor

from hanpaca.checkpoints.safetensors import PlannedTensor, write_safetensors
from hanpaca.errors import ArtifactError, RecipeError
from hanpaca.lora_settings import LoraSettings
from hanpaca.model.layers import LoraLinear, SplitEmbedding, SplitHead
from hanpaca.model.load import CausalLM
from hanpaca.model.quantized import Bits, QuantizedWeight, check_quantizer
from hanpaca.model.whole import whole_weights
from hanpaca.together import leads

Number = TypeVar("Number", int, float)
ADAPTER_WEIGHTS = "adapter_model.safetensors"
ADAPTER_CONFIG = "adapter_config.json"
_PREFIX = "base_model.model."
_INPUT_ROWS = f"{_PREFIX}model.embed_tokens.token_adapter.trainable_tokens_delta"
_OUTPUT_ROWS = f"{_PREFIX}lm_head.token_adapter.trainable_tokens_delta"
_TABLES = ("model.embed_tokens.", "lm_head.")
_NO_TARGET = "dummy-target-modules"
"""peft's word for an adapter without factors."""


def add_lora(model: CausalLM, settings: LoraSettings, *, bits: Bits = "none") -> None:
    """Freeze the model and add trainable float32 LoRA factors to its linear layers, in place.

    Args:
        model: Changed in place.
        settings: Which layers, and how large the update B @ A is (Hu et al. 2021, arXiv
            2106.09685).
        bits: Of the frozen matrices of these layers.

    Raises:
        ArtifactError: The model has no layer of one of these names.
        RecipeError: A pattern for ranks or alphas fits none of them.
        ResourceError: What quantizes is not installed.
    """
    check_quantizer(bits)
    known = {name.rsplit(".", 1)[-1] for name, _ in model.named_modules()}
    for target in settings.targets:
        if target not in known:
            raise ArtifactError(f"lora targets: the model has no layer named {target!r}")
    model.requires_grad_(False)
    layers = {
        name: module
        for name, module in model.named_modules()
        if name.rpartition(".")[2] in settings.targets and isinstance(module, nn.Linear)
    }
    if unused := settings.unused_patterns(layers):
        raise RecipeError(
            f"LoRA's pattern {unused[0]!r} fits none of the layers that get an adapter",
            "mend {lora.rank_pattern} or {lora.alpha_pattern}",
        )
    for name, module in layers.items():
        parent, _, last = name.rpartition(".")
        rank, alpha = settings.rank_and_alpha(name)
        lora = LoraLinear(
            module,
            rank=rank,
            alpha=alpha,
            dropout=settings.dropout,
            rank_stabilized=settings.rslora,
            scales_rows=settings.dora,
            bits=bits,
        )
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


def parted_factors(model: CausalLM) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """LoRA factors by the rate that LoRA+ gives them: A, and B with DoRA's lengths, as in peft."""
    layers = _lora_layers(model).values()
    slow = [layer.lora_A for layer in layers]
    fast = [layer.lora_B for layer in layers]
    return slow, fast + [layer.lengths for layer in layers if layer.lengths is not None]


def trainable_groups(model: CausalLM) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """The trainable parameters: LoRA factors, and rows of embedding and head; each may be empty."""
    parts: tuple[list[nn.Parameter], list[nn.Parameter]] = ([], [])
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            parts[name.startswith(_TABLES)].append(parameter)
    return parts


def trained_weights(model: CausalLM) -> tuple[dict[str, int], float]:
    """How many weights are trained, by what they are, and their share of all.

    Returns:
        Numbers by kind, those that there are; the share of all weights, LoRA factors among them,
        as peft counts it.
    """
    numbers: dict[str, int] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            kind = _kind(name)
            numbers[kind] = numbers.get(kind, 0) + parameter.numel()
    # Frozen matrices beside factors and rows are buffers; a tied one stands twice.
    sizes = {one.data_ptr(): one.numel() for one in model.parameters()}
    for module in model.modules():
        if isinstance(module, LoraLinear | SplitEmbedding | SplitHead):
            sizes |= {one.data_ptr(): one.numel() for one in module.buffers(recurse=False)}
        elif isinstance(module, QuantizedWeight):
            sizes[module.codes.data_ptr()] = module.shape.numel()
    return numbers, sum(numbers.values()) / sum(sizes.values())


def frozen_as_parameters(model: CausalLM) -> None:
    """Make parameters of the frozen matrices beside factors and rows: only those are sharded."""
    made: dict[int, nn.Parameter] = {}  # a tied matrix stays one
    for module in model.modules():
        if isinstance(module, LoraLinear | SplitEmbedding | SplitHead):
            for name, tensor in list(module.named_buffers(recurse=False)):
                delattr(module, name)
                whole = made.setdefault(
                    tensor.data_ptr(), nn.Parameter(tensor, requires_grad=False)
                )
                module.register_parameter(name, whole)


def adapter_state(model: CausalLM) -> dict[str, Tensor]:
    """Every trained tensor in float32, under the names peft gives them; of a whole model too.

    Where they lie in parts in several processes, all must ask.
    """
    return {name: _whole(parameter) for name, parameter in _trained(model).items()}


def whole_state(model: CausalLM) -> dict[str, Tensor]:
    """Every weight of a model that is trained as a whole, in float32 by its Hugging Face name."""
    return {name: _whole(parameter) for name, parameter in whole_weights(model).items()}


def _whole(parameter: nn.Parameter) -> Tensor:
    tensor = parameter.detach()
    return (tensor.full_tensor() if isinstance(tensor, DTensor) else tensor).cpu().contiguous()


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
            whole = saved[key].to(parameter.device)
            if isinstance(parameter, DTensor):
                whole = distribute_tensor(whole, parameter.device_mesh, parameter.placements)
            parameter.copy_(whole)


def save_adapter(model: CausalLM, folder: Path, *, metadata: Mapping[str, str]) -> None:
    """Write the adapter as peft reads it: `adapter_config.json` and safetensors.

    Of several processes that train it together the first writes.

    Args:
        model: Prepared by `add_lora`, `add_new_rows` or `train_tables`.
        folder: Made if it is not there.
        metadata: Goes into the safetensors header: fingerprints of base and tokenizer.

    Raises:
        ArtifactError: There is nothing to write: something keeps the weights elsewhere.
    """
    save_trained(model, folder, metadata=metadata)
    if not leads():
        return
    layers = _lora_layers(model)
    whole = whole_weights(model)
    config = LoraConfig(
        task_type=TaskType.CAUSAL_LM,
        inference_mode=True,
        trainable_token_indices=_new_row_indices(model) or None,
        modules_to_save=[name.split(".")[-2] for name in whole] or None,
        ensure_weight_tying=len(set(map(id, whole.values()))) < len(whole),
        **(_of_factors(layers) if layers else {}),
    )
    tree = {key: value for key, value in config.to_dict().items() if value is not None}  # type: ignore[no-untyped-call]
    tree["target_modules"] = sorted({name.rsplit(".", 1)[-1] for name in layers}) or _NO_TARGET
    (folder / ADAPTER_CONFIG).write_text(json.dumps(tree, indent=2, sort_keys=True, default=str))


def _of_factors(layers: Mapping[str, LoraLinear]) -> dict[str, Any]:
    """What peft is told of the factors."""
    one = next(iter(layers.values()))
    rank, ranks = _by_pattern({name: len(layer.lora_A) for name, layer in layers.items()})
    alpha, alphas = _by_pattern({name: layer.alpha for name, layer in layers.items()})
    return {
        "r": rank,
        "lora_alpha": alpha,
        "rank_pattern": ranks,
        "alpha_pattern": alphas,
        "use_rslora": one.rank_stabilized,
        "use_dora": one.lengths is not None,
        "lora_dropout": one.dropout,
    }


def save_trained(model: CausalLM, folder: Path, *, metadata: Mapping[str, str]) -> None:
    """Write every trained tensor in float32, as `load_adapter_state` reads them; see above."""
    state = adapter_state(model)
    if not leads():
        return
    empty = [name for name, tensor in state.items() if not tensor.numel()]
    if empty or not state:
        raise ArtifactError(f"{folder}: the adapter would be empty: {(empty or ['it'])[0]} is")
    folder.mkdir(parents=True, exist_ok=True)
    write_safetensors(
        folder / ADAPTER_WEIGHTS,
        [
            PlannedTensor(name, tensor.dtype, tuple(tensor.shape), partial(state.__getitem__, name))
            for name, tensor in sorted(state.items())
        ],
        metadata=metadata,
    )


def _by_pattern(values: Mapping[str, Number]) -> tuple[Number, dict[str, Number]]:
    """The commonest value, and those of the other layers: by their last name where it decides."""
    counts = Counter(values.values())
    commonest = counts.most_common(1)[0][0]
    by_last: dict[str, set[Number]] = {}
    for name, value in values.items():
        by_last.setdefault(name.rsplit(".", 1)[-1], set()).add(value)
    pattern = {}
    for name, value in values.items():
        last = name.rsplit(".", 1)[-1]
        if value != commonest:
            pattern[last if len(by_last[last]) == 1 else re.escape(name)] = value
    return commonest, pattern


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
    lengths = {
        f"{_PREFIX}{name}.lora_magnitude_vector": layer.lengths
        for name, layer in _lora_layers(model).items()
        if layer.lengths is not None
    }
    whole = {f"{_PREFIX}{name}": weight for name, weight in whole_weights(model).items()}
    return factors | lengths | _new_rows(model) | whole


def _kind(name: str) -> str:
    if name.endswith(("lora_A", "lora_B", "lengths")):
        return "LoRA factors"
    if name.endswith("new_rows"):
        return "new rows"
    if name.startswith(_TABLES):
        return "the embedding" if name.startswith(_TABLES[0]) else "the head"
    return "the layers"
