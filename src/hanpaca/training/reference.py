"""What the model says of each pair of answers before it is trained on them."""

import json
from pathlib import Path
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from hanpaca.data.pack import BlocksInMemory
from hanpaca.errors import ArtifactError
from hanpaca.files import CHECKPOINTS, read_text, write_atomically
from hanpaca.model.preference import log_ratios
from hanpaca.progress import Progress, Tell
from hanpaca.settings import TrainingSettings
from hanpaca.training.adapter import trainable_model, training_dtype
from hanpaca.training.threads import training_threads

_KEPT = "reference.json"


def pairs_of(blocks: BlocksInMemory) -> NDArray[np.int64]:
    """How many pairs of sequences with answers each block has, (blocks,)."""
    sequences = (blocks.position_ids == 0).cumsum(axis=1) - 1
    pairs: NDArray[np.int64] = np.where(blocks.labels >= 0, sequences // 2 + 1, 0).max(axis=1)
    return pairs


def reference_log_ratios(
    base: Path,
    blocks: BlocksInMemory,
    *,
    folder: Path,
    settings: TrainingSettings,
    num_new_rows: int,
    tell: Tell,
) -> NDArray[np.float32]:
    """`log_ratios` of the model with an adapter that does nothing yet; computed once.

    Args:
        base: The model that will be trained.
        blocks: As `pack_pairs` makes them.
        folder: Of the training; what is found is kept among its checkpoints.
        settings: The training's.
        num_new_rows: The training's.
        tell: Called after each batch.

    Returns:
        (blocks, most pairs of a block), 0 where a block has no such pair.

    Raises:
        ArtifactError: What was kept is not of these blocks.
    """
    kept = folder / CHECKPOINTS / _KEPT
    shape = len(blocks), int(pairs_of(blocks).max())
    if not kept.exists():
        with training_threads(base, folder, tell):
            found = _computed(base, blocks, folder, settings, num_new_rows, tell)
        kept.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(kept, json.dumps(found.tolist()))
    ratios = np.asarray(json.loads(read_text(kept)), np.float32)
    if ratios.shape != shape:
        raise ArtifactError(f"{kept}: not of this training; remove it to compute it again")
    return ratios


@torch.no_grad()
def _computed(
    base: Path,
    blocks: BlocksInMemory,
    folder: Path,
    settings: TrainingSettings,
    num_new_rows: int,
    tell: Tell,
) -> NDArray[np.float32]:
    dtype = training_dtype(settings, folder)
    model = trainable_model(base, settings, num_new_rows=num_new_rows, seed=0, dtype=dtype)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    cast(nn.Module, model).to(device).train(False)
    most = int(pairs_of(blocks).max())
    size = settings.batch_blocks // settings.accumulation_steps
    parts = []
    for start in range(0, len(blocks), size):
        ids_bt, answers_bt, positions_bt = (
            torch.from_numpy(one[start : start + size].astype(np.int64)).to(device)
            for one in (blocks.input_ids, blocks.labels, blocks.position_ids)
        )
        parts.append(log_ratios(model, ids_bt, answers_bt, positions_bt, most).cpu().numpy())
        done = min(start + size, len(blocks))
        tell(Progress(done, len(blocks), "blocks", "the model before training"))
    return np.concatenate(parts)
