"""Whether a GGUF file is whole, and of the model it is said to be of."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hanpaca.checkpoints.gguf_model import GgufModel, open_gguf
from hanpaca.checkpoints.model import open_model
from hanpaca.checkpoints.rows import OpenTensor
from hanpaca.checkpoints.tensors import matrix_shape
from hanpaca.errors import ArtifactError
from hanpaca.files import check_regular
from hanpaca.gguf.verify import Deviation, check_values, deviations
from hanpaca.progress import Progress, Tell, silent
from hanpaca.tokenizer.conversion.gguf_side import gguf_vocabulary

__all__ = ["Deviation", "strange", "verify_gguf"]


def verify_gguf(
    file: Path | str, against: Path | str | None = None, *, tell: Tell = silent
) -> list[Deviation]:
    """Check that a file is whole and its values are finite, or that it is of a given model.

    ```python
    found = verify_gguf("files/out.q8_0.gguf", against="out")
    print(max(one.relative_error for one in found), strange(found))
    ```

    Args:
        file: A GGUF file.
        against: The model it was made of, in any format: every weight is compared.
        tell: Told the bytes checked.

    Returns:
        How far each tensor is from the model's; none without a model.

    Raises:
        ArtifactError: The file is damaged, or has a value that is no number.
    """
    check_regular(Path(file))
    model = open_gguf(Path(file))

    def told(done: int, total: int) -> None:
        tell(Progress(done, total, "bytes", "checking"))

    if against is not None:
        with open_model(Path(against)).rows() as tensors:
            return deviations(model, lambda name: _read(tensors, name, model, Path(against)), told)
    gguf_vocabulary(model)
    check_values(model, told)
    return []


def strange(found: Sequence[Deviation]) -> Deviation | None:
    """The worst of those further away than their type explains, if there is one."""
    return max(
        (one for one in found if not one.is_plausible),
        key=lambda one: one.relative_error,
        default=None,
    )


def _read(
    tensors: Mapping[str, OpenTensor], name: str, model: GgufModel, against: Path
) -> NDArray[np.float32]:
    if name not in tensors:
        raise ArtifactError(f"{against}: has no {name}, but {model.path} has")
    tensor = tensors[name]
    rows = tensor.read(0, matrix_shape(tensor.shape)[0])
    return np.asarray(rows.numpy()).reshape(tensor.shape)
