"""An adapter out of two whole models."""

from pathlib import Path

from hanpaca.checkpoints.model import open_model
from hanpaca.merging.extract import Extraction, extract_adapter
from hanpaca.progress import Progress, Tell, silent
from hanpaca.tokenizer.conversion.gguf_side import write_gguf_side


def extract(
    base: Path | str,
    tuned: Path | str,
    output: Path | str,
    *,
    rank: int,
    tell: Tell = silent,
) -> Extraction:
    """Get a LoRA adapter back from two full models, and say how much of the change it lost.

    ```python
    found = extract("llama-7b", "vicuna-7b", "vicuna-lora", rank=64)
    print(max(found.relative_errors.values()))
    ```

    Args:
        base: The model before tuning: a folder in any format, or a GGUF file.
        tuned: The model after; its vocabulary may have grown, its head may be tied or not.
        output: Folder; it appears when it is whole.
        rank: Of every matrix's update.
        tell: Told the matrices done.

    Raises:
        ArtifactError: The models are not of one shape, or are the same, or `tuned` has NaN.
        RecipeError: The rank is not between 1 and the smaller side of each changed matrix.
        ResourceError: The disk is full, or a file cannot be written.
    """

    def count(done: int, total: int) -> None:
        tell(Progress(done, total, "matrices"))

    return extract_adapter(
        open_model(Path(base), write_side=write_gguf_side),
        open_model(Path(tuned), write_side=write_gguf_side),
        Path(output),
        rank=rank,
        on_tensor=count,
    )
