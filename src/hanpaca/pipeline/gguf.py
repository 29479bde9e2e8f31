"""70-gguf: the chat model as one file for each type asked for."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hanpaca.model.fingerprint import model_fingerprint
from hanpaca.pipeline import chat, stages
from hanpaca.pipeline.formats import model_to_gguf
from hanpaca.pipeline.job import Job
from hanpaca.pipeline.progress import bytes_progress
from hanpaca.recipe import Recipe

NAME = stages.GGUF


def work(job: Job, folder: Path) -> Mapping[str, Any]:
    """Write every type, all in one reading of the model of 60-chat."""
    model = job.stage(chat.NAME)
    types = job.recipe.gguf.types
    summaries = model_to_gguf(
        model,
        {file_type: folder / file_name(job.recipe, file_type) for file_type in types},
        metadata=fingerprints(model, job.base),
        on_bytes=bytes_progress(job, NAME, f"writing {', '.join(types)}"),
    )
    return {"num_bytes": {kind: summary.num_bytes for kind, summary in summaries.items()}}


def file_name(recipe: Recipe, file_type: str) -> str:
    """What a file is called."""
    return f"{recipe.name}.{file_type}.gguf"


def fingerprints(model: Path, base: Path) -> dict[str, str]:
    """What a GGUF file says about where it comes from, beside its tokenizer."""
    return {
        "hanpaca.base.fingerprint": model_fingerprint(base),
        "hanpaca.model.fingerprint": model_fingerprint(model),
    }
