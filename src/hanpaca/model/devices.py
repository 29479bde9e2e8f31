"""What a training may ask of a machine: compiled layers, and layers on several GPUs."""

import importlib.util
import os
import shutil
from bisect import bisect_right
from functools import partial
from typing import Any, cast

import torch
from accelerate.utils import send_to_device
from torch import nn

from hanpaca.errors import RecipeError, ResourceError
from hanpaca.model.load import CausalLM
from hanpaca.model.loss import NextTokenLoss
from hanpaca.together import num_processes

_COMPILERS = ("c++", "g++", "clang++")


def compile_layers(model: CausalLM, *, backend: str = "inductor") -> None:
    """Let torch.compile make kernels of each layer, in place.

    Layers are compiled one by one: as all are alike, that is done once, in seconds.

    Args:
        model: Prepared for training.
        backend: Of torch.compile.

    Raises:
        ResourceError: What compiles is not installed.
    """
    if backend == "inductor":
        _check_compiler()
    for layer in model.model.layers:
        layer.compile(backend=backend)


def _check_compiler() -> None:
    if torch.cuda.is_available():
        wanted = "the package triton"
        found = importlib.util.find_spec("triton") is not None
    else:
        wanted = f"a C++ compiler ({', '.join(_COMPILERS)}, or what CXX names)"
        found = bool(os.environ.get("CXX")) or any(map(shutil.which, _COMPILERS))
    if not found:
        raise ResourceError(
            f"layers cannot be compiled here: {wanted} is needed", "leave {compile} out"
        )


def spread(loss: NextTokenLoss, devices: list[torch.device] | None = None) -> None:
    """Lay the layers of a model out over several devices, in place: each step passes through all.

    Embedding, head and last norm are on the first one.

    Args:
        loss: The model, prepared for training.
        devices: Two or more; None takes all GPUs.

    Raises:
        ResourceError: There is one GPU or none.
        RecipeError: There are several processes: each would lay it out over the same GPUs.
    """
    if num_processes() > 1:
        raise RecipeError(
            "one process spreads a model over all GPUs, and several were started",
            "start one, or leave {device_map} out and shard the model by {sharding}",
        )
    number = torch.cuda.device_count()
    if devices is None and number < 2:
        raise ResourceError(
            f"a model is spread over two or more GPUs, and this machine has {number or 'none'}",
            "leave {device_map} out",
        )
    devices = devices or [torch.device("cuda", index) for index in range(number)]
    model, first = loss.model, devices[0]
    inner, layers = model.model, model.model.layers
    sizes = [_num_bytes(layer) for layer in layers]
    places = placed(sizes, len(devices), _num_bytes(loss) - sum(sizes))
    for part in (inner.embed_tokens, inner.norm, inner.rotary_emb, model.lm_head):
        part.to(first)
    for layer, place in zip(layers, places, strict=True):
        layer.to(devices[place])
        layer.register_forward_pre_hook(partial(_sent, devices[place]), with_kwargs=True)
    inner.norm.register_forward_pre_hook(partial(_sent, first), with_kwargs=True)
    # So transformers and accelerate leave it where it is.
    named = {f"model.layers.{n}": devices[place] for n, place in enumerate(places)}
    cast(Any, loss).hf_device_map = named


def placed(sizes: list[int], num_devices: int, first: int) -> list[int]:
    """The device of each layer, in order, so that all hold about as much.

    Args:
        sizes: Of the layers.
        num_devices: How many.
        first: What the first device holds beside.

    >>> placed([1, 1, 1, 1, 1, 1], 2, 2)
    [0, 0, 1, 1, 1, 1]
    """
    ends = [(first + sum(sizes)) * (number + 1) / num_devices for number in range(num_devices)]
    places, held = [], float(first)
    for size in sizes:
        places.append(min(bisect_right(ends, held + size / 2), num_devices - 1))
        held += size
    return places


def _sent(
    device: torch.device, _: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """What a layer is given, on its device."""
    return send_to_device(args, device), send_to_device(kwargs, device)


def _num_bytes(module: nn.Module) -> int:
    """Of parameters and buffers, each counted once."""
    tensors = {one.data_ptr(): one for one in (*module.parameters(), *module.buffers())}
    return sum(one.numel() * one.element_size() for one in tensors.values())
