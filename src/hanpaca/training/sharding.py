"""A model in shards: each process holds a part of every weight (FSDP2).

PyTorch's own `fully_shard` is used, and not accelerate's plugin, which takes it on GPUs only and
elsewhere trains unsharded without a word. What is saved is whole: any number of processes goes on
from it.
"""

from pathlib import Path
from typing import Any, cast

import torch
from accelerate import PartialState
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_optimizer_state_dict,
    set_optimizer_state_dict,
)
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor

from hanpaca.model.lora import frozen_as_parameters
from hanpaca.model.loss import NextTokenLoss
from hanpaca.together import leads, num_processes

_OPTIMIZER, _SCHEDULER = "optimizer.pt", "scheduler.pt"


def shard(loss: NextTokenLoss) -> float:
    """Leave each process its part of a model, in place: layer by layer, and the rest as one.

    Args:
        loss: The model, prepared for training; its parameters are others afterwards.

    Returns:
        Which share of all weights this process holds now.
    """
    device = PartialState(cpu=not torch.cuda.is_available()).device
    frozen_as_parameters(loss.model)
    loss.to(device)
    mesh = init_device_mesh(device.type, (num_processes(),))
    for part in (*loss.model.model.layers, loss):
        sharded = fully_shard(part, mesh=mesh)
        if device.type == "cpu":
            sharded.set_force_sum_reduction_for_comms(True)  # gloo knows no mean
    parts = [cast(DTensor, one.detach()) for one in loss.parameters()]
    return sum(one.to_local().numel() for one in parts) / sum(one.numel() for one in parts)


def save_optimizer(model: Any, optimizer: Any, scheduler: Any, folder: Path) -> None:  # noqa: ANN401
    """Write the whole state of an optimizer; every process calls it, and the first writes."""
    options = StateDictOptions(full_state_dict=True, cpu_offload=True)
    state = get_optimizer_state_dict(model, optimizer, options=options)
    if leads():
        torch.save(state, folder / _OPTIMIZER)
        torch.save(scheduler.state_dict(), folder / _SCHEDULER)


def load_optimizer(model: Any, optimizer: Any, scheduler: Any, folder: Path) -> None:  # noqa: ANN401
    """Give each process its part of the state that `save_optimizer` wrote."""
    state = torch.load(folder / _OPTIMIZER, map_location="cpu", weights_only=True)
    options = StateDictOptions(full_state_dict=True)
    set_optimizer_state_dict(model, optimizer, state, options=options)
    scheduler.load_state_dict(torch.load(folder / _SCHEDULER, weights_only=True))
