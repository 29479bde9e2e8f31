"""What a GGUF file holds, whatever model it is of."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from hanpaca.checkpoints.gguf import Header, read_header
from hanpaca.files import check_regular
from hanpaca.gguf.verify import tensor_hashes


@dataclass(frozen=True)
class GgufContents:
    """The keys and tensors of a file."""

    header: Header
    hashes: Mapping[str, str]
    """sha256 of each tensor's bytes, where asked for."""


def inspect_gguf(file: Path | str, *, hash_tensors: bool = False) -> GgufContents:
    """Read the header of a GGUF file, and all data only for the hashes.

    ```python
    found = inspect_gguf("out.q8_0.gguf")
    print(found.header.fields["general.architecture"], len(found.header.tensors))
    ```

    Raises:
        ArtifactError: It is missing or damaged.
    """
    path = Path(file)
    check_regular(path)
    header = read_header(path)
    return GgufContents(header, tensor_hashes(path, header) if hash_tensors else {})
