"""Which file of a run lies where, and what every stage is given to find it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hanpaca.progress import Tell
from hanpaca.settings import Recipe

DATA = "05-data"
TEXT, TEXT_HELDOUT = "text.jsonl", "text.heldout.jsonl"
REPLAY, REPLAY_HELDOUT = "replay.jsonl", "replay.heldout.jsonl"
CONVERSATIONS, QUESTIONS = "conversations.jsonl", "questions.jsonl"
TASKS = "tasks.jsonl"
"""Only where the recipe has tasks."""
TOKENIZER = "10-tokenizer"
SPELLINGS, AUDIT = "spellings.jsonl", "audit.json"
BASE = "20-base"
PRETRAIN = "30-pretrain"
METRICS = "metrics.jsonl"
"""Of a training: a line a step, in 50-sft too."""
MERGED = "40-merged"
SFT = "50-sft"
CHAT = "60-chat"
GGUF = "70-gguf"
EVAL = "80-eval"
RESULTS, REPORT = "results.json", "report.html"
EARLIER = (DATA, TOKENIZER, BASE, PRETRAIN, MERGED, SFT, CHAT, GGUF)
"""What an evaluation looks at."""
TUNED, DPO = "52-tuned", "55-dpo"
"""Only of a recipe with preferences: what instruction tuning gave, and what prefers."""
EVERY = tuple(sorted((*EARLIER, TUNED, DPO, EVAL)))
_SECTIONS = {
    **{TOKENIZER: "tokenizer", BASE: "tokenizer"},
    **{PRETRAIN: "pretrain", SFT: "sft", DPO: "dpo"},
}
"""The section without which a recipe has no such stage."""
_FOLDING = (MERGED, TUNED, CHAT)
"""Stages that fold the adapter of a training into the model that it started from."""


@dataclass(frozen=True)
class Job:
    """One run of one recipe."""

    recipe: Recipe
    run: Path
    """The run folder."""
    base: Path
    """The base model as a Hugging Face folder."""
    tell: Tell

    def stage(self, name: str) -> Path:
        """The folder of a finished stage."""
        return self.run / name

    def model(self, before: str) -> Path:
        """The model that a stage starts from: the last one made before it, or the base."""
        made = [name for name in models(self.recipe) if name < before]
        return self.stage(made[-1]) if made else self.base

    def gguf(self, file_type: str) -> Path:
        """The chat model as a file of this type."""
        return self.run / GGUF / gguf_name(self.recipe, file_type)


def gguf_name(recipe: Recipe, file_type: str) -> str:
    """What a file of 70-gguf is called."""
    return f"{recipe.name}.{file_type}.gguf"


def text_files(stage: Path) -> list[Path]:
    """What is learned: one file, or one for each path of `data.text` where they have weights."""
    parts = sorted(stage.glob("text.[0-9]*.jsonl"), key=lambda file: int(file.name.split(".")[1]))
    return parts or [stage / TEXT]


def text_part(number: int) -> str:
    """Name of the file of the n-th path, from 1."""
    return f"text.{number}.jsonl"


def in_recipe(stage: str, recipe: Recipe) -> bool:
    """Whether a recipe has this stage: a section left out leaves its stages out.

    Nothing is folded in where a training is of every weight: that leaves a model itself.
    """
    if stage in _FOLDING:
        return stage in _folded(recipe)
    return stage not in _SECTIONS or getattr(recipe, _SECTIONS[stage]) is not None


def model_after(training: str, recipe: Recipe) -> str | None:
    """Which stage leaves the model that a training ends with; None where it is not in the recipe.

    Args:
        training: `PRETRAIN`, `SFT` or `DPO`.
        recipe: The choices.
    """
    folded = {one: stage for stage, one in _folded(recipe).items()}
    return folded.get(training, training) if in_recipe(training, recipe) else None


def models(recipe: Recipe) -> list[str]:
    """Stages that leave a model, in order."""
    grown = [BASE] if in_recipe(BASE, recipe) else []
    made = [model_after(training, recipe) for training in (PRETRAIN, SFT, DPO)]
    return grown + [stage for stage in made if stage]


def _folded(recipe: Recipe) -> dict[str, str]:
    """Each stage that folds an adapter in, and the training that it comes from."""
    stages = {PRETRAIN: MERGED, SFT: TUNED if recipe.dpo else CHAT, DPO: CHAT}
    sections = {one: getattr(recipe, _SECTIONS[one]) for one in stages}
    return {stages[one]: one for one, section in sections.items() if section and not section.whole}


def read_in(recipe: Recipe, reads: Sequence[str]) -> list[str]:
    """What of `reads` a stage of this recipe reads: for a model left out, the one before it."""
    found = []
    for name in reads:
        if name in (BASE, *_FOLDING):
            found += [one for one in models(recipe) if one <= name][-1:]
        elif in_recipe(name, recipe):
            found.append(name)
    return list(dict.fromkeys(found))


def measured_scripts(recipe: Recipe) -> tuple[str, ...]:
    """Scripts that tokens per character are counted in: those of new pieces."""
    return recipe.tokenizer.scripts if recipe.tokenizer else ()
