"""What transformers.Trainer is told of a training."""

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from transformers import TrainingArguments

from hanpaca.errors import RecipeError
from hanpaca.together import num_processes

_MOST_ZERO = 2


@dataclass(frozen=True)
class Optimization:
    """How the trainable parameters move."""

    learning_rate: float
    """Peak rate of the factors."""
    row_learning_rate: float
    """Peak rate of the rows."""
    batch_blocks: int
    """Blocks in one optimizer step, of all processes together."""
    accumulation_steps: int = 1
    """Parts that each process computes its blocks of a step in."""
    schedule: Literal["cosine", "linear", "constant", "warmup_stable_decay"] = "cosine"
    warmup_fraction: float = 0.05
    """Share of the steps over which the rates rise from 0."""
    decay_fraction: float = 0.2
    """Share of the steps over which they fall, under `warmup_stable_decay`."""
    min_rate_fraction: float = 0.0
    """Share of the peak that they do not fall below after the warm-up."""
    weight_decay: float = 0.0
    sharded: bool = False
    """Whether each process holds a part of every weight (`sharding.py`)."""
    trackers: tuple[str, ...] = ()
    """Integrations of transformers that are told each step."""
    faster_ratio: float = 1.0
    """Peak rate of the faster factors over that of the others."""
    max_grad_norm: float = 1.0
    checkpoint_steps: int = 50
    """Steps between two checkpoints."""
    seed: int = 0
    """Seeds dropout."""


def trainer_arguments(
    checkpoints: Path, optimization: Optimization, *, ahead: bool
) -> TrainingArguments:
    """What the Trainer is told; making it connects the processes of a training."""
    parts = num_processes() * optimization.accumulation_steps
    share, rest = divmod(optimization.batch_blocks, parts)
    if rest:
        raise RecipeError(
            f"the {optimization.batch_blocks} blocks of a step cannot be shared evenly by "
            f"{num_processes()} processes in {optimization.accumulation_steps} parts",
            f"give {{batch_blocks}} a multiple of {parts}",
        )
    arguments = TrainingArguments(
        output_dir=str(checkpoints),
        per_device_train_batch_size=share,
        gradient_accumulation_steps=optimization.accumulation_steps,
        num_train_epochs=1,
        train_sampling_strategy="sequential",
        max_grad_norm=optimization.max_grad_norm,
        save_steps=optimization.checkpoint_steps,
        save_total_limit=2,
        logging_steps=1,
        logging_nan_inf_filter=False,
        remove_unused_columns=False,
        **_prefetching(torch.cuda.is_available(), ahead=ahead),
        disable_tqdm=True,
        report_to=list(optimization.trackers) or "none",
        log_level="error",
        seed=optimization.seed,
        use_cpu=not torch.cuda.is_available(),
        ddp_find_unused_parameters=False,
        # The frozen weights are buffers: to send them round before every step would take for ever.
        ddp_broadcast_buffers=False,
    )
    # accelerate hands it to PyTorch under its old name.
    warnings.filterwarnings("ignore", "`broadcast_buffers` is deprecated", FutureWarning)
    # One process trains on one device; DataParallel would cut the blocks of a step once more.
    arguments._n_gpu = min(arguments.n_gpu, 1)
    _check_deepspeed(arguments)
    return arguments


def _check_deepspeed(arguments: TrainingArguments) -> None:
    plugin: Any = arguments.deepspeed_plugin
    if plugin is not None and plugin.zero_stage > _MOST_ZERO:
        raise RecipeError(
            "ZeRO-3 of DeepSpeed parts what is trained only; what is frozen would lie whole "
            "everywhere",
            "take ZeRO-2, or set {sharding} to full without DeepSpeed",
        )


def _prefetching(on_gpu: bool, *, ahead: bool) -> dict[str, Any]:
    """How blocks come to a device: for a GPU another process reads them ahead and pins them."""
    if not on_gpu:
        return {"dataloader_pin_memory": False}
    workers = {"dataloader_num_workers": 1, "dataloader_prefetch_factor": 4} if ahead else {}
    return {
        "dataloader_pin_memory": True,
        "accelerator_config": {"non_blocking": True},
        **workers,
    }
