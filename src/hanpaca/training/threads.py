"""How many threads a training takes: chosen when it begins, and kept with its checkpoints.

Sums of floating-point numbers come out in other last bits when other threads share them, so what
goes on elsewhere, or under another load, has to go on with as many.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from hanpaca.checkpoints.model import open_model
from hanpaca.errors import ArtifactError
from hanpaca.files import CHECKPOINTS, read_text, write_atomically
from hanpaca.progress import Progress, Tell
from hanpaca.threads import num_cores, threads_for

_MOST = 4096
"""More are a damaged file, and asking for them would end the process."""


@contextmanager
def training_threads(base: Path, folder: Path, tell: Tell) -> Iterator[int]:
    """Let PyTorch take as many threads as suit a base and this machine, and no more than it had.

    Args:
        base: The model to be trained.
        folder: Of the training; what is chosen is kept among its checkpoints.
        tell: Told how many.

    Yields:
        Their number.

    Raises:
        ArtifactError: The base cannot be read, or the number kept is none.
    """
    before = torch.get_num_threads()
    chosen = before if torch.cuda.is_available() else _chosen(base, folder, most=before)
    tell(Progress(0, note=f"training takes {chosen} of {num_cores()} cores"))
    torch.set_num_threads(chosen)
    try:
        yield chosen
    finally:
        torch.set_num_threads(before)


def _chosen(base: Path, folder: Path, *, most: int) -> int:
    kept = folder / CHECKPOINTS / "threads"
    if not kept.exists():
        kept.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(kept, str(min(most, threads_for(open_model(base).num_bytes))))
    text = read_text(kept).strip()
    if not (text.isascii() and text.isdigit() and 0 < int(text) <= _MOST):
        raise ArtifactError(f"{kept}: holds {text[:20]!r}, no number of threads", "remove the file")
    return int(text)
