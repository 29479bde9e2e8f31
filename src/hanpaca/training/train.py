"""One training loop for pretraining and instruction tuning, around transformers.Trainer.

Blocks are visited in the order given, so the data position is the step number. A killed run goes
on from its last whole checkpoint and ends with the same numbers, bit for bit on one CPU.
"""

import math
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import torch
from torch import nn
from torch.utils.data import Dataset
from transformers import PrinterCallback, Trainer, TrainingArguments, get_scheduler

from hanpaca.errors import ArtifactError
from hanpaca.training.journal import WHOLE, Journal, Probe, Progress


@dataclass(frozen=True)
class Trainable:
    """A model prepared for training, and how its trained part is kept."""

    model: nn.Module
    """Takes input_ids, labels and position_ids, each (batch, tokens); gives a mapping with
    `loss`."""
    factors: Sequence[nn.Parameter]
    """The LoRA factors."""
    rows: Sequence[nn.Parameter]
    """The new embedding and head rows; may be empty."""
    save: Callable[[Path], None]
    """Writes the trained tensors into a folder."""
    load: Callable[[Path], None]
    """Reads back what `save` wrote."""


@dataclass(frozen=True)
class Optimization:
    """How the trainable parameters move."""

    learning_rate: float
    """Peak rate of the LoRA factors."""
    row_learning_rate: float
    """Peak rate of the new rows."""
    batch_blocks: int
    """Blocks in one optimizer step."""
    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    warmup_fraction: float = 0.05
    """Share of the steps over which the rates rise from 0."""
    max_grad_norm: float = 1.0
    checkpoint_steps: int = 50
    """Steps between two checkpoints."""
    seed: int = 0
    """Seeds dropout."""


class BlockDataset(Dataset[dict[str, torch.Tensor]]):
    """Blocks of equal length, each column of shape (blocks, tokens), as the Trainer wants them."""

    def __init__(self, input_ids: np.ndarray, labels: np.ndarray, position_ids: np.ndarray) -> None:
        self.columns = {"input_ids": input_ids, "labels": labels, "position_ids": position_ids}

    def __len__(self) -> int:
        return len(self.columns["input_ids"])

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        return {
            name: torch.from_numpy(np.asarray(column[index], dtype=np.int64))
            for name, column in self.columns.items()
        }


def train(
    trainable: Trainable,
    blocks: BlockDataset,
    *,
    folder: Path,
    optimization: Optimization,
    on_progress: Callable[[Progress], None],
    probe: Probe | None = None,
) -> Progress:
    """Train on every block once, in order; go on from the last checkpoint if there is one.

    Args:
        trainable: Only its factors and rows change.
        blocks: In the order they are to be seen; the last incomplete batch is seen too.
        folder: `metrics.jsonl` (one line a step) and `checkpoints/` are written here.
        optimization: Rates, schedule, batch size.
        on_progress: Called after each step.
        probe: Asked now and then; its answers go into `metrics.jsonl`.

    Returns:
        Where training stood after the last step; an earlier sitting may have got that far.

    Raises:
        HanpacaError: The loss became infinite or not a number: names the step.
        ArtifactError: A checkpoint does not fit.
    """
    checkpoints = folder / "checkpoints"
    resume = _last_whole_checkpoint(checkpoints)
    journal = Journal(
        folder / "metrics.jsonl",
        tokens_per_step=optimization.batch_blocks * blocks.columns["input_ids"].shape[1],
        on_progress=on_progress,
        probe=probe,
    )
    trainer = _Trainer(
        model=trainable.model,
        args=_arguments(checkpoints, optimization),
        train_dataset=blocks,
        data_collator=_stack,
        optimizers=_optimizers(
            trainable, optimization, math.ceil(len(blocks) / optimization.batch_blocks)
        ),
        callbacks=[journal],
    )
    trainer.trainable = trainable
    trainer.remove_callback(PrinterCallback)
    trainer.train(resume_from_checkpoint=str(resume) if resume else None)
    last = journal.last
    if last is None or last.step != last.num_steps:
        raise ArtifactError(f"{checkpoints}: not of this training; remove it to train again")
    return last


def _optimizers(
    trainable: Trainable, optimization: Optimization, num_steps: int
) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LambdaLR]:
    groups = [{"params": list(trainable.factors), "lr": optimization.learning_rate}]
    if trainable.rows:
        groups.append({"params": list(trainable.rows), "lr": optimization.row_learning_rate})
    optimizer = torch.optim.AdamW(groups, weight_decay=0.0, betas=(0.9, 0.99), fused=True)
    name = optimization.schedule
    scheduler = get_scheduler(
        "constant_with_warmup" if name == "constant" else name,
        optimizer,
        num_warmup_steps=round(optimization.warmup_fraction * num_steps),
        num_training_steps=num_steps,
    )
    return optimizer, scheduler


def _arguments(checkpoints: Path, optimization: Optimization) -> TrainingArguments:
    return TrainingArguments(
        output_dir=str(checkpoints),
        per_device_train_batch_size=optimization.batch_blocks,
        num_train_epochs=1,
        train_sampling_strategy="sequential",
        max_grad_norm=optimization.max_grad_norm,
        save_steps=optimization.checkpoint_steps,
        save_total_limit=2,
        logging_steps=1,
        logging_nan_inf_filter=False,
        remove_unused_columns=False,
        dataloader_pin_memory=torch.cuda.is_available(),
        disable_tqdm=True,
        report_to="none",
        log_level="error",
        seed=optimization.seed,
    )


def _stack(examples: list[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    return {name: torch.stack([one[name] for one in examples]) for name in examples[0]}


def _last_whole_checkpoint(checkpoints: Path) -> Path | None:
    """Find where to go on; a checkpoint cut short by a kill is removed."""
    whole = []
    for path in sorted(checkpoints.glob("checkpoint-*")):
        if (path / WHOLE).exists():
            whole.append(path)
        else:
            shutil.rmtree(path)
    return max(whole, key=lambda path: int(path.name.rsplit("-", 1)[1]), default=None)


class _Trainer(Trainer):
    """The Trainer, keeping in its checkpoints only what is trained."""

    trainable: Trainable

    def _save(
        self, output_dir: str | None = None, state_dict: dict[str, Any] | None = None
    ) -> None:
        self.trainable.save(Path(cast(str, output_dir)))

    def _load_from_checkpoint(
        self, resume_from_checkpoint: str, model: nn.Module | None = None
    ) -> None:
        self.trainable.load(Path(resume_from_checkpoint))
