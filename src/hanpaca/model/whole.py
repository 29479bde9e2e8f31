"""Weights that are trained as a whole: all rows of embedding and head, or every weight of a model.

Each is kept in float32 for the optimizer, as low-rank factors and new rows are, and cast down where
it is used. What it starts from is read from the base's files, so that nothing is rounded that the
training does not move.
"""

from collections.abc import Collection, Mapping
from functools import partial
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from hanpaca.checkpoints.dtypes import DTYPES
from hanpaca.checkpoints.meta import EMBEDDING, HEAD
from hanpaca.checkpoints.model import open_model
from hanpaca.checkpoints.safetensors import PlannedTensor, copy_side_files, write_weights
from hanpaca.model.load import CausalLM

TABLES = {"embedding": EMBEDDING, "head": HEAD}
"""By the words of the settings."""
_MASTER = ".parametrizations."


class CastDown(nn.Module):
    """What a weight in float32 is computed with."""

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        self.dtype = dtype

    def forward(self, weight: Tensor) -> Tensor:
        """The weight in `dtype`, any shape."""
        return weight.to(self.dtype)


def train_tables(model: CausalLM, base: Path, tables: Collection[str]) -> None:
    """Make all rows of embedding, head or both trainable, in place; a tied table is one.

    Args:
        model: Its frozen weights stay as they are.
        base: What it was loaded from.
        tables: Names of `TABLES`.
    """
    files = open_model(base)
    dtype = model.model.embed_tokens.weight.dtype
    with files.rows() as rows:
        for name in tables if not files.tied else [EMBEDDING]:
            table = nn.Parameter(rows[name].read(0, rows[name].shape[0]))
            for one in [EMBEDDING, HEAD] if files.tied else [name]:
                _train(model, one, table, dtype)


def train_everything(model: CausalLM, dtype: torch.dtype) -> None:
    """Make every weight of a model trainable, in place.

    Args:
        model: In float32.
        dtype: What it is computed in.
    """
    model.requires_grad_(True)
    for name, parameter in list(model.named_parameters(remove_duplicate=False)):
        _train(model, name, parameter, dtype)


def _train(model: CausalLM, name: str, weight: nn.Parameter, dtype: torch.dtype) -> None:
    path, _, last = name.rpartition(".")
    module = model.get_submodule(path)
    module.register_parameter(last, weight)
    parametrize.register_parametrization(module, last, CastDown(dtype), unsafe=True)


def master(module: nn.Module) -> nn.Parameter | None:
    """The float32 weight of a layer that is trained as a whole; None where it is not."""
    if not parametrize.is_parametrized(module, "weight"):
        return None
    listed = cast(nn.ModuleDict, module.parametrizations)
    return cast(nn.Parameter, listed["weight"].original)


def whole_weights(model: nn.Module) -> dict[str, nn.Parameter]:
    """The weights trained as a whole, in float32 by their Hugging Face names; a tied one twice."""
    return {
        f"{module}.{name.removesuffix('.original')}": parameter
        for path, parameter in model.named_parameters(remove_duplicate=False)
        for module, found, name in (path.partition(_MASTER),)
        if found
    }


def write_model(weights: Mapping[str, Tensor], base: Path, folder: Path) -> None:
    """Write a model that was trained as a whole, in the types that its base's files have.

    Args:
        weights: Every weight, by its Hugging Face name.
        base: What it was trained from: gives configuration and tokenizer too.
        folder: Made if it is not there.
    """
    folder.mkdir(parents=True, exist_ok=True)
    plan = []
    for name, stored in open_model(base).tensors.items():
        dtype = DTYPES[stored.dtype]
        make = partial(weights[name].to, dtype)
        plan.append(PlannedTensor(name, dtype, stored.shape, make))
    copy_side_files(base, folder)
    write_weights(folder, plan)
