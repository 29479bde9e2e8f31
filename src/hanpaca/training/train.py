"""One training loop for pretraining and instruction tuning, around transformers.Trainer.

Blocks are visited in the order given, so the data position is the step number. A killed run goes
on from its last whole checkpoint and ends with the same numbers, bit for bit on one CPU. Several
processes share the blocks of each step, and are the same training as one: the loss of a step is a
mean over all of its labels, wherever they are.
"""

import importlib.util
import math
import os
import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar, cast

import numpy as np
import torch
from accelerate.optimizer import AcceleratedOptimizer
from torch import nn
from torch.utils.data import Dataset
from transformers import (
    PrinterCallback,
    Trainer,
    TrainingArguments,
    get_scheduler,
    get_wsd_schedule,
)

from hanpaca.data.pack import BlockColumn
from hanpaca.errors import ArtifactError, RecipeError, ResourceError
from hanpaca.files import CHECKPOINTS
from hanpaca.model.loss import NO_LABEL
from hanpaca.together import leads, num_processes
from hanpaca.training.arguments import Optimization, trainer_arguments
from hanpaca.training.journal import METRICS, WHOLE, Journal, Probe, Step
from hanpaca.training.proof import Proof
from hanpaca.training.rows import AXES, RowAdamW
from hanpaca.training.sharding import load_optimizer, save_optimizer

Found = TypeVar("Found")
_UNWRITTEN = re.compile("iostream|write|Writer")
"""In what torch.save says of a full disk."""


@dataclass(frozen=True)
class Trainable:
    """A model prepared for training, and how its trained part is kept."""

    model: nn.Module
    """Takes input_ids, labels and position_ids, each (batch, tokens), what else the blocks have,
    and where it says so (`accepts_loss_kwargs`) `num_items_in_batch`, the labels of the whole step;
    gives a mapping with `loss`."""
    factors: Sequence[nn.Parameter]
    """The LoRA factors, or all weights; may be empty."""
    rows: Sequence[nn.Parameter]
    """Embedding and head rows; may be empty."""
    save: Callable[[Path], None]
    """Writes the trained tensors into a folder; every process calls it, and the first writes."""
    load: Callable[[Path], None]
    """Reads back what `save` wrote."""
    faster: Sequence[nn.Parameter] = ()
    """LoRA factors with a rate of their own, not among `factors`."""
    axes: torch.Tensor | None = None
    """Along which `rows` get one update, (hidden, hidden); None moves each alone (`rows.py`)."""
    measures: Callable[[], Mapping[str, float]] = dict
    """What the last step gave beside its loss, for `metrics.jsonl`; asked in every process."""


class BlockDataset(Dataset[dict[str, torch.Tensor]]):
    """Blocks of equal length, each column of shape (blocks, tokens), as the Trainer wants them."""

    def __init__(
        self,
        input_ids: BlockColumn,
        labels: BlockColumn,
        position_ids: BlockColumn,
        **more: BlockColumn,
    ) -> None:
        """Args: `more`, what else the model takes, by its name: a row a block."""
        own = {"input_ids": input_ids, "labels": labels, "position_ids": position_ids}
        self.columns = own | more

    @property
    def block_tokens(self) -> int:
        """Tokens of a block."""
        return int(self.columns["input_ids"].shape[1])

    def __len__(self) -> int:
        return len(self.columns["input_ids"])

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        rows = {name: np.asarray(column[index]) for name, column in self.columns.items()}
        return {
            name: torch.from_numpy(row if row.dtype == np.float32 else row.astype(np.int64))
            for name, row in rows.items()
        }


class _Evened(Dataset[dict[str, torch.Tensor]]):
    """Blocks, and blocks of no label after them, until every process gets as many."""

    def __init__(self, blocks: BlockDataset, multiple: int) -> None:
        self.blocks = blocks
        self.length = math.ceil(len(blocks) / multiple) * multiple

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        if index < len(self.blocks):
            return self.blocks[index]
        first = self.blocks[0]
        return {**first, "labels": torch.full_like(first["labels"], NO_LABEL)}


def train(
    trainable: Trainable,
    blocks: BlockDataset,
    *,
    folder: Path,
    optimization: Optimization,
    on_step: Callable[[Step], object],
    probe: Probe | None = None,
) -> Step:
    """Train on every block once, in order; go on from the last checkpoint if there is one.

    Each process of a training calls it with the same; the first alone writes, tells and probes.

    Args:
        trainable: Only its factors and rows change.
        blocks: In the order they are to be seen; the last incomplete batch is seen too.
        folder: `metrics.jsonl` (one line a step) and `checkpoints/` are written here.
        optimization: Rates, schedule, batch size.
        on_step: Called after each step.
        probe: Asked now and then; its answers go into `metrics.jsonl`.

    Returns:
        Where training stood after its last step, which an earlier sitting may have got to.

    Raises:
        HanpacaError: The loss became infinite or not a number: names the step; or texts of one
            block see each other, or something that is to be trained is not (`proof.py`).
        ArtifactError: A checkpoint does not fit.
        RecipeError: The blocks of a step cannot be shared, or DeepSpeed is to move rows together.
        ResourceError: The package of a tracker is missing.
    """
    _prepare_trackers(optimization.trackers, folder)
    checkpoints = folder / CHECKPOINTS
    arguments = trainer_arguments(checkpoints, optimization, ahead=not (probe and probe.changing))
    _check_rows(trainable, arguments)
    resume = _agreed_checkpoint(checkpoints)
    journal = Journal(
        folder / METRICS,
        tokens_per_step=optimization.batch_blocks * blocks.block_tokens,
        on_step=on_step,
        probe=probe,
        measures=trainable.measures,
    )
    share = arguments.per_device_train_batch_size * num_processes()
    trainer = _Trainer(
        model=trainable.model,
        args=arguments,
        train_dataset=_Evened(blocks, share) if num_processes() > 1 else blocks,
        data_collator=_stack,
        optimizers=_optimizers(trainable, optimization, len(blocks)),
        callbacks=[Proof(blocks[0]["input_ids"]), journal],
    )
    trainer.keep(trainable, sharded=optimization.sharded)
    trainer.remove_callback(PrinterCallback)
    trainer.train(resume_from_checkpoint=str(resume) if resume else None)
    last = journal.last
    if last is None or (last.step != last.num_steps and not journal.ended):
        raise ArtifactError(f"{checkpoints}: not of this training; remove it to train again")
    return last


def _prepare_trackers(trackers: Sequence[str], folder: Path) -> None:
    for tracker in trackers:
        if importlib.util.find_spec(tracker) is None:
            raise ResourceError(f"{tracker} is not installed: pip install {tracker}")
    if "tensorboard" in trackers:
        # Beside the checkpoints, where transformers would put it: those are removed in the end.
        os.environ["TENSORBOARD_LOGGING_DIR"] = str(folder / "tensorboard")


def _check_rows(trainable: Trainable, arguments: TrainingArguments) -> None:
    if trainable.axes is not None and arguments.deepspeed_plugin is not None:
        raise RecipeError("DeepSpeed moves rows apart", "set {row_updates} to apart")


def _optimizers(
    trainable: Trainable, optimization: Optimization, num_blocks: int
) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LambdaLR]:
    num_steps = math.ceil(num_blocks / optimization.batch_blocks)
    rate = optimization.learning_rate
    # Another machine may round the axes otherwise, and then rows would drift apart.
    axes = _of_the_first(trainable.axes)
    together = {} if axes is None else {AXES: axes}
    parts: list[tuple[Sequence[nn.Parameter], float, dict[str, torch.Tensor]]] = [
        (trainable.factors, rate, {}),
        (trainable.faster, rate * optimization.faster_ratio, {}),
        (trainable.rows, optimization.row_learning_rate, together),
    ]
    optimizer = RowAdamW(
        [{"params": list(weights), "lr": peak, **more} for weights, peak, more in parts if weights],
        weight_decay=optimization.weight_decay,
        betas=(0.9, 0.99),
        fused=True,
    )
    return optimizer, _scheduler(optimizer, optimization, num_steps)


def _scheduler(
    optimizer: torch.optim.Optimizer, optimization: Optimization, num_steps: int
) -> torch.optim.lr_scheduler.LambdaLR:
    """Warm-up, then the schedule; `warmup_stable_decay` falls as 1 - sqrt (arXiv 2405.18392)."""
    num_warmup = round(optimization.warmup_fraction * num_steps)
    name = optimization.schedule
    if name == "warmup_stable_decay":
        num_decay = min(round(optimization.decay_fraction * num_steps), num_steps - num_warmup)
        scheduler = get_wsd_schedule(
            optimizer,
            num_warmup_steps=num_warmup,
            num_decay_steps=num_decay,
            num_training_steps=num_steps,
            decay_type="1-sqrt",
        )
    else:
        scheduler = get_scheduler(
            "constant_with_warmup" if name == "constant" else name,
            optimizer,
            num_warmup_steps=num_warmup,
            num_training_steps=num_steps,
        )
    if floor := optimization.min_rate_fraction:
        scheduler.lr_lambdas = [
            partial(_floored, factor, num_warmup, floor) for factor in scheduler.lr_lambdas
        ]
    return cast(torch.optim.lr_scheduler.LambdaLR, scheduler)


def _floored(factor: Callable[[int], float], num_warmup: int, floor: float, step: int) -> float:
    """Share of the peak rate that falls to `floor` where `factor` falls to 0."""
    share = factor(step)
    return share if step < num_warmup else floor + (1 - floor) * share


def _stack(examples: list[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    return {name: torch.stack([one[name] for one in examples]) for name in examples[0]}


def _agreed_checkpoint(checkpoints: Path) -> Path | None:
    """Where all processes go on: what the first one found."""
    return _of_the_first(_last_whole_checkpoint(checkpoints) if leads() else None)


def _of_the_first(found: Found) -> Found:
    """What the first process found, in all of them."""
    shared = [found]
    if num_processes() > 1:
        torch.distributed.broadcast_object_list(shared)
    return shared[0]


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
    sharded: bool

    def keep(self, trainable: Trainable, *, sharded: bool) -> None:
        """Say what goes into checkpoints; what is sharded is neither moved nor wrapped."""
        self.trainable, self.sharded = trainable, sharded
        self.is_distributed_loading_by_transformers = sharded

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        self.trainable.save(Path(cast(str, output_dir)))

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:  # noqa: ANN401  # as its own
        """A checkpoint that cannot be written goes, and makes room; the one before it stays."""
        folder = Path(str(self.args.output_dir)) / f"checkpoint-{self.state.global_step}"
        try:
            super()._save_checkpoint(model, trial)
        except (OSError, RuntimeError) as error:
            if isinstance(error, RuntimeError) and not _UNWRITTEN.search(str(error)):
                raise
            shutil.rmtree(folder, ignore_errors=True)
            told = getattr(error, "strerror", None) or "the disk is full, or there is a quota"
            raise ResourceError(
                f"{folder}: cannot be written: {told}; the checkpoint before it is kept: make "
                "room, and start again to go on from there"
            ) from error

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        if not self.sharded:
            super()._save_optimizer_and_scheduler(output_dir)
            return
        optimizer = cast(AcceleratedOptimizer, self.optimizer).optimizer
        save_optimizer(self.model, optimizer, self.lr_scheduler, Path(output_dir))

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        if not self.sharded:
            super()._load_optimizer_and_scheduler(checkpoint)
        elif checkpoint:
            optimizer = cast(AcceleratedOptimizer, self.optimizer).optimizer
            load_optimizer(self.model, optimizer, self.lr_scheduler, Path(checkpoint))

    def _load_from_checkpoint(
        self, resume_from_checkpoint: str, model: nn.Module | None = None
    ) -> None:
        self.trainable.load(Path(resume_from_checkpoint))
