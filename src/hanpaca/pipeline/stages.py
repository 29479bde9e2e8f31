"""The stages in their order: names, what each reads, and what of the recipe decides its output.

The work itself is in a module of its own for each stage and is imported only when it is to be
done: skipping a finished run needs no torch.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from hanpaca.pipeline.job import Job
from hanpaca.recipe import Recipe

DATA = "05-data"
TOKENIZER = "10-tokenizer"
BASE = "20-base"
PRETRAIN = "30-pretrain"
MERGED = "40-merged"
SFT = "50-sft"
CHAT = "60-chat"
GGUF = "70-gguf"
EVAL = "80-eval"
EARLIER = (DATA, TOKENIZER, BASE, PRETRAIN, MERGED, SFT, CHAT, GGUF)


@dataclass(frozen=True)
class Stage:
    """One step of the main job."""

    name: str
    module: str
    reads: tuple[str, ...]
    """Earlier stages whose files it reads."""
    section: Callable[[Recipe], dict[str, Any]]
    """What of the recipe decides its output, JSON-safe."""
    version: int = 1
    """Raised when the same inputs come to give other outputs."""

    def work(self, job: Job, folder: Path) -> Mapping[str, Any]:
        """Write its files into `folder`; the metrics."""
        metrics: Mapping[str, Any] = import_module(self.module).work(job, folder)
        return metrics


def _data(recipe: Recipe) -> dict[str, Any]:
    return {**recipe.data.model_dump(mode="json"), "seed": recipe.seed}


def _tokenizer(recipe: Recipe) -> dict[str, Any]:
    return recipe.tokenizer.model_dump(mode="json")


def _rows(recipe: Recipe) -> dict[str, Any]:
    return {**recipe.rows.model_dump(mode="json"), "seed": recipe.seed}


def _pretrain(recipe: Recipe) -> dict[str, Any]:
    return {**recipe.pretrain.model_dump(mode="json"), "seed": recipe.seed}


def _sft(recipe: Recipe) -> dict[str, Any]:
    return {**recipe.sft.model_dump(mode="json"), "seed": recipe.seed}


def _nothing(recipe: Recipe) -> dict[str, Any]:
    return {}


def _template(recipe: Recipe) -> dict[str, Any]:
    return {"template": recipe.sft.template}


def _gguf(recipe: Recipe) -> dict[str, Any]:
    return {**recipe.gguf.model_dump(mode="json"), "name": recipe.name}


def _eval(recipe: Recipe) -> dict[str, Any]:
    return {
        **recipe.eval.model_dump(mode="json"),
        "name": recipe.name,
        "seed": recipe.seed,
        "scripts": list(recipe.tokenizer.scripts),
        "types": list(recipe.gguf.types),
    }


STAGES = (
    Stage(DATA, "hanpaca.pipeline.data", (), _data, version=2),
    Stage(TOKENIZER, "hanpaca.pipeline.tokenizer", (DATA,), _tokenizer),
    Stage(BASE, "hanpaca.pipeline.base", (DATA, TOKENIZER), _rows),
    Stage(PRETRAIN, "hanpaca.pipeline.pretrain", (DATA, TOKENIZER, BASE), _pretrain),
    Stage(MERGED, "hanpaca.pipeline.merged", (BASE, PRETRAIN), _nothing),
    Stage(SFT, "hanpaca.pipeline.sft", (DATA, TOKENIZER, MERGED), _sft),
    Stage(CHAT, "hanpaca.pipeline.chat", (MERGED, SFT), _template),
    Stage(GGUF, "hanpaca.pipeline.gguf", (CHAT,), _gguf, version=2),
    Stage(EVAL, "hanpaca.pipeline.evaluate", EARLIER, _eval),
)
