"""Whether adapters were trained on what they are merged into, by the fingerprints they carry."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from torch import Tensor

from hanpaca.checkpoints.adapter import AdapterFiles
from hanpaca.checkpoints.fingerprint import base_fingerprint, fingerprint, tokenizer_fingerprint
from hanpaca.checkpoints.model import ModelFiles
from hanpaca.checkpoints.tensors import matrix_shape
from hanpaca.merging.findings import Findings
from hanpaca.merging.rows import MergedTensor, rows_of
from hanpaca.merging.tensors import plan_tensors

_PIECE_BYTES = 1 << 21


def check_bases(
    base: ModelFiles, adapters: Sequence[AdapterFiles], found: Findings, *, read_content: bool
) -> None:
    """Compare each adapter's recorded base with what it is merged into.

    What comes before a second adapter is a model that lies nowhere: its rows are computed and
    hashed, which takes about as long as the merge, and only where the adapter records a base.

    Args:
        base: What the first adapter is merged into.
        adapters: In order; they fit each other by names and shapes.
        found: Gets what is wrong, and what cannot be checked.
        read_content: Whether the base may be hashed.
    """
    for number, adapter in enumerate(adapters):
        wanted = adapter.base_fingerprint
        if not wanted:
            found.warnings.append(
                f"{adapter.path}: it records no base; only shapes were checked (it does not say "
                "which model it was trained on)"
            )
        elif not read_content:
            found.warnings.append(
                f"{adapter.path}: the base it records ({wanted[:12]}…) was not compared with this "
                "one, for which all data has to be read"
            )
        elif wanted != base_fingerprint(base):
            _check_result(base, adapters, number, wanted, found)
        elif number:
            before = ", ".join(str(one.path) for one in adapters[:number])
            found.warnings.append(
                f"{adapter.path}: it was trained on {base.folder} alone, not on the result of "
                f"{before}; their changes add up, so compare the merged model with each alone"
            )


def _check_result(
    base: ModelFiles, adapters: Sequence[AdapterFiles], number: int, wanted: str, found: Findings
) -> None:
    """Compare with the result of the adapters before; the base it is not."""
    adapter, mark = adapters[number], f"fingerprint {wanted[:12]}…"
    if number == 0:
        actual = base_fingerprint(base)
        of_base = [one.path for one in adapters if one.base_fingerprint == actual]
        fix = f"pass {of_base[0]} first" if of_base else "give the model it was trained on"
        found.wrong(
            f"{adapter.file}: this adapter was trained on another model than {base.folder} "
            f"({mark}, not {actual[:12]}…); {fix}"
        )
    elif wanted != merged_fingerprint(base, adapters[:number]):
        before = ", ".join(str(one.path) for one in adapters[:number])
        found.wrong(
            f"{adapter.file}: this adapter was trained on another model than {base.folder} with "
            f"{before} ({mark}); give the adapters in the order of their training, or as the base "
            "the merged model it was trained on"
        )


def merged_fingerprint(base: ModelFiles, adapters: Sequence[AdapterFiles]) -> str:
    """Fingerprint of the model that merging the adapters one by one would write."""
    tensors, _ = plan_tensors(base, adapters, dtype=None, rounding="per-adapter")
    with rows_of(tensors) as opened:
        by_name = {tensor.name: tensor for tensor in opened}
        kinds = {tensor.name: (tensor.dtype, tensor.shape) for tensor in opened}
        return fingerprint(kinds, lambda name: _blocks(by_name[name]))


def check_tokenizer(tokenizer: Path, adapters: Sequence[AdapterFiles], found: Findings) -> None:
    """Compare the merged model's tokenizer with that of the last adapter that records one."""
    marks = [(one, mark) for one in adapters if (mark := one.tokenizer_fingerprint)]
    if not marks or not (tokenizer / "tokenizer.json").is_file():
        return
    adapter, wanted = marks[-1]
    if tokenizer_fingerprint(tokenizer) != wanted:
        found.wrong(
            f"{tokenizer}: another tokenizer than {adapter.path} was trained with (fingerprint "
            f"{wanted[:12]}…); put that one's files beside the adapter"
        )


def _blocks(tensor: MergedTensor) -> Iterator[Tensor]:
    num_rows, num_columns = matrix_shape(tensor.shape)
    size = max(1, _PIECE_BYTES // max(1, num_columns * tensor.dtype.itemsize * tensor.block_rows))
    for start in range(0, num_rows, size * tensor.block_rows):
        yield tensor.stored(start, min(start + size * tensor.block_rows, num_rows))
