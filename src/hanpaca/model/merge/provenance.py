"""Whether adapters were trained on what they are merged into, by the fingerprints they carry."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from torch import Tensor

from hanpaca.errors import ArtifactError
from hanpaca.model.bases import Base
from hanpaca.model.fingerprint import (
    base_fingerprint,
    fingerprint,
    tokenizer_fingerprint,
)
from hanpaca.model.merge.adapters import Adapter
from hanpaca.model.merge.plan import plan_tensors
from hanpaca.model.merge.rows import MergedTensor, rows_of
from hanpaca.model.stored import matrix_shape

BASE_KEY, TOKENIZER_KEY = "hanpaca.base.fingerprint", "hanpaca.tokenizer.fingerprint"
_PIECE_BYTES = 1 << 21


def check_bases(base: Base, adapters: Sequence[Adapter]) -> list[str]:
    """Compare each adapter's recorded base with what it is merged into.

    What comes before a second adapter is a model that lies nowhere: its rows are computed and
    hashed, which takes about as long as the merge, and only where the adapter records a base.

    Args:
        base: What the first adapter is merged into.
        adapters: In order.

    Returns:
        What cannot be checked, in words.

    Raises:
        ArtifactError: An adapter was trained on another model.
    """
    warnings = []
    for number, adapter in enumerate(adapters):
        wanted = adapter.metadata.get(BASE_KEY)
        before = ", ".join(str(one.folder) for one in adapters[:number])
        if not wanted:
            warnings.append(
                f"{adapter.folder}: does not say which model it was trained on; only names and "
                "shapes were checked"
            )
        elif wanted == base_fingerprint(base):
            if number:
                warnings.append(
                    f"{adapter.folder}: was trained on {base.folder} alone, not on the result of "
                    f"{before}; their changes add up, so compare the merged model with each alone"
                )
        elif number == 0:
            raise ArtifactError(
                f"{adapter.file}: this adapter was trained on another model than {base.folder} "
                f"(fingerprint {wanted[:12]}…); give the model it was trained on"
            )
        elif wanted != merged_fingerprint(base, adapters[:number]):
            raise ArtifactError(
                f"{adapter.file}: this adapter was trained on another model (fingerprint "
                f"{wanted[:12]}…) than {base.folder} with {before}; give the adapters in the order "
                "of their training, or as --base the merged model it was trained on"
            )
    return warnings


def merged_fingerprint(base: Base, adapters: Sequence[Adapter]) -> str:
    """Fingerprint of the model that merging the adapters one by one would write."""
    tensors = plan_tensors(base, adapters, dtype=None, rounding="per-adapter")
    with rows_of(tensors) as opened:
        by_name = {tensor.name: tensor for tensor in opened}
        kinds = {tensor.name: (tensor.dtype, tensor.shape) for tensor in opened}
        return fingerprint(kinds, lambda name: _blocks(by_name[name]))


def check_tokenizer(tokenizer: Path | None, adapters: Sequence[Adapter]) -> None:
    """Compare the merged model's tokenizer with that of the last adapter that records one.

    Raises:
        ArtifactError: It is another one.
    """
    marks = [(one, mark) for one in adapters if (mark := one.metadata.get(TOKENIZER_KEY))]
    if not marks or tokenizer is None or not (tokenizer / "tokenizer.json").is_file():
        return
    adapter, wanted = marks[-1]
    if tokenizer_fingerprint(tokenizer) != wanted:
        raise ArtifactError(
            f"{tokenizer}: another tokenizer than {adapter.folder} was trained with (fingerprint "
            f"{wanted[:12]}…); put that one's files beside the adapter"
        )


def _blocks(tensor: MergedTensor) -> Iterator[Tensor]:
    num_rows, num_columns = matrix_shape(tensor.shape)
    size = max(1, _PIECE_BYTES // max(1, num_columns * tensor.dtype.itemsize * tensor.block_rows))
    for start in range(0, num_rows, size * tensor.block_rows):
        yield tensor.stored(start, min(start + size * tensor.block_rows, num_rows))
