"""What a training proves of itself, before it costs hours.

Texts in one block do not see each other, and everything that is to be trained is. Attention that
forgets a mask, a cache that sneaks in, or a layer that no optimizer knows make no error of their
own: the loss falls all the same, and the model is another.
"""

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from hanpaca.errors import HanpacaError
from hanpaca.model.loss import NO_LABEL
from hanpaca.model.whole import CastDown

_STEPS = 3
"""The rates are 0 in the first step of a warm-up, then B moves, and A only after B has."""
_MOST_NAMES = 3


class Proof(TrainerCallback):
    """Checks what is trained when a training begins; one that goes on was checked before."""

    def __init__(self, ids_t: Tensor) -> None:
        """Args: `ids_t`, (tokens,): ids of a block of the training."""
        self.ids_t = ids_t
        self.before: dict[str, tuple[float, float]] = {}
        self.pushed: set[str] = set()

    def on_train_begin(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        model: nn.Module | None = None,
        **_: Any,
    ) -> None:
        """Check that documents are separate, and keep what the trained weights sum to."""
        if model is None or state.global_step:
            return
        check_documents_are_separate(model, self.ids_t.to(args.device))
        self.before = {name: _sums(weight) for name, weight in _trained(model).items()}

    def on_pre_optimizer_step(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        model: nn.Module | None = None,
        **_: Any,
    ) -> None:
        """Keep which weights the loss does not reach, and which it pushes."""
        if model is None or not self.before:
            return
        for name, weight in _trained(model).items():
            # The rows of pieces that stood in no text so far have a gradient, and it is 0.
            if weight.grad is None or any(_sums(weight.grad)):
                self.pushed.add(name)

    def on_step_end(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        model: nn.Module | None = None,
        **_: Any,
    ) -> None:
        """Check that all of them have moved."""
        if model is None or not self.before or state.global_step < min(_STEPS, state.max_steps):
            return
        still = {
            name
            for name, weight in _trained(model).items()
            if name in self.pushed and _sums(weight) == self.before[name]
        }
        # A of a training of one step has had no gradient, and that is no fault.
        if still:
            named = ", ".join(sorted(still)[:_MOST_NAMES])
            more = f" and {len(still) - _MOST_NAMES} more" if len(still) > _MOST_NAMES else ""
            raise HanpacaError(
                f"after step {state.global_step} of training {named}{more} are as they were before",
                "raise {learning_rate} or {row_learning_rate}, if they are very small",
            )
        self.before = {}


@torch.no_grad()
def check_documents_are_separate(model: nn.Module, ids_t: Tensor) -> None:
    """Check that a text packed between others is scored as if it were alone.

    It is scored beside one neighbour, beside another one, and by itself: the first two are the same
    sums, and the third differs by rounding alone.

    Args:
        model: As `Trainable.model`; is left in evaluation mode.
        ids_t: (tokens,): a block of at least 9 tokens is cut into three texts.

    Raises:
        HanpacaError: It is not; says by how much.
    """
    model.train(False)
    third = len(ids_t) // 3
    if third < 3:
        return
    middle_t, last_t = ids_t[third : 2 * third], ids_t[2 * third :]
    first_t = ids_t[:third]
    beside = [_nats(model, [one, middle_t, last_t], 1) for one in (first_t, (first_t == 0).long())]
    alone = _nats(model, [middle_t], 0)
    rounding = max(1e-3, 16 * _rounding(model)) * abs(alone)
    if beside[0] != beside[1] or not abs(beside[0] - alone) <= rounding:
        raise HanpacaError(
            f"texts packed into one block see each other: one has a loss of {alone:.6f} nats "
            f"alone, {beside[0]:.6f} and {beside[1]:.6f} beside others; nothing was trained"
        )


def _rounding(model: nn.Module) -> float:
    """Of the coarsest type that a model computes in, relative to a number."""
    kinds = [one.dtype for one in (*model.parameters(), *model.buffers())]
    kinds += [one.dtype for one in model.modules() if isinstance(one, CastDown)]
    return max(torch.finfo(kind).eps for kind in kinds if kind.is_floating_point)


def _nats(model: nn.Module, texts: list[Tensor], scored: int) -> float:
    """Mean loss of one of several texts in a block."""
    labels = [
        one if number == scored else torch.full_like(one, NO_LABEL)
        for number, one in enumerate(texts)
    ]
    labels_t = torch.cat(labels)
    labels_t[sum(map(len, texts[:scored]))] = NO_LABEL  # nothing of its own text predicts it
    positions_t = torch.cat([torch.arange(len(one), device=one.device) for one in texts])
    found = model(
        input_ids=torch.cat(texts)[None], labels=labels_t[None], position_ids=positions_t[None]
    )
    return float(found["loss"])


def _trained(model: nn.Module) -> dict[str, nn.Parameter]:
    return {name: one for name, one in model.named_parameters() if one.requires_grad}


def _sums(weight: Tensor) -> tuple[float, float]:
    """Sum and length of a tensor, which may lie in parts in several processes."""
    whole = weight.detach()
    whole = whole.full_tensor() if isinstance(whole, DTensor) else whole
    norm = torch.linalg.vector_norm(whole, dtype=torch.float64)
    total = float(whole.sum(dtype=torch.float64))
    return (0.0 if math.isnan(total) else total), float(norm)
