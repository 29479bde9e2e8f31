"""What a run would take: rough figures from the sizes in the recipe and the base, without torch."""

import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from hanpaca.data.files import text_files
from hanpaca.errors import DataError, ResourceError
from hanpaca.runs.builtin import not_installed
from hanpaca.runs.layout import DPO, PRETRAIN, SFT, TUNED
from hanpaca.runs.sizes import GPU_FLOPS as GPU_FLOPS
from hanpaca.runs.sizes import (
    TrainingSize,
    base_config,
    shapes_of,
    training_size,
)
from hanpaca.runs.stages import STAGES, stages_of
from hanpaca.sections import HUB
from hanpaca.settings import TIED_TWINS, Recipe, TrainingSettings

STAGE_NAMES = tuple(stage.name for stage in STAGES)
_FLOPS_PER_CORE = 1.1e11
"""Sustained bfloat16 training arithmetic of one CPU core, measured: 275 tokens/s of a 135 M model
on two cores at 6 operations a parameter and token."""
_DISK_BYTES_PER_SECOND = 4e8
_BITS = {"f32": 32, "f16": 16, "bf16": 16, "q8": 8.5, "q6": 6.6, "q5": 5.7, "q4": 4.8, "iq4": 4.6}
_OTHER_BITS = 3.8
_RATES = {"q6_k": 4e7, "q5_k": 2.4e7, "q4_k": 2e7, "q3_k": 9e7, "q2_k": 2.2e7, "iq4": 3.6e6}
"""Weights that one core quantizes in a second, measured with ggml's kernels."""
_SIMPLE_RATE = 4e8
_TASK_TOKENS = 120
"""A question of a task, read and answered by base and final model."""
_ANSWER_TOKENS, _ANSWER_BYTES_PER_SECOND = 111, 5.3e9
"""Of an answer that a base gives to a general question, and what one core reads of its weights to
write it, measured: 20 tokens a second of a 135 M model in 16 bits."""
_TEXT_BYTES_PER_TOKEN = 5.0
_CHINESE_BYTES_PER_TOKEN = 3.0
_MOST_ROUNDS = 4
"""A text that is read more often teaches less and less (Muennighoff et al., arXiv 2305.16264)."""
_UNKNOWN_PARAMETERS = 1.35e8
"""Of a base that is not here and has no known name: SmolLM2-135M's."""


@dataclass(frozen=True)
class Estimate:
    """What is expected of a run; time within a factor of two."""

    seconds: Mapping[str, float]
    disk_bytes: Mapping[str, float]
    memory_bytes: float
    num_cores: int
    trainings: Mapping[str, TrainingSize]
    """By stage; empty where the base's sizes are not known."""
    notes: tuple[str, ...] = ()
    """What a choice of the recipe costs that is easy to overlook."""


def estimate(recipe: Recipe) -> Estimate:
    """Estimate every stage.

    Raises:
        ResourceError: The package that holds the base is not installed.
    """
    num_cores = os.cpu_count() or 1
    parameters = _num_parameters(recipe)
    token_seconds = 6 * parameters / (_FLOPS_PER_CORE * num_cores)
    weights = 2.0 * parameters
    copying = weights / _DISK_BYTES_PER_SECOND
    read_tokens = (recipe.eval.heldout_characters + recipe.eval.english_characters / 4) * 4
    answered = recipe.eval.num_questions * recipe.eval.max_answer_tokens / 3
    answered += len(recipe.eval.tasks) * recipe.eval.num_task_questions * _TASK_TOKENS
    trained = _num_tokens(recipe)
    seconds = {
        "05-data": 12.0,
        "10-tokenizer": 20.0,
        "20-base": 15.0 + 2 * copying,
        **{name: 1.25 * number * token_seconds + 15 for name, number in trained.items()},
        "40-merged": 2.0 + 2 * copying,
        **dict.fromkeys((TUNED, "60-chat"), 2.0 + 2 * copying),
        "70-gguf": 3.0 + copying + _gguf_seconds(recipe, parameters, num_cores),
        "80-eval": 20.0 + (read_tokens / 3 + answered / 2) * token_seconds + 8 * copying,
    }
    if recipe.sft:
        asked = recipe.sft.self_replay_conversations * _ANSWER_TOKENS
        seconds[SFT] += asked * weights / _ANSWER_BYTES_PER_SECOND / num_cores
    names = [stage.name for stage in stages_of(recipe)]
    sizes = _sizes(recipe)
    disk = _disk_bytes(recipe, parameters, sizes)
    return Estimate(
        {name: seconds[name] for name in names},
        {name: disk[name] for name in names},
        max([1.5e9 + 4 * weights, *(one.host_bytes + one.gpu_bytes for one in sizes.values())]),
        num_cores,
        sizes,
        _notes(recipe),
    )


def _sections(recipe: Recipe) -> dict[str, TrainingSettings | None]:
    return {PRETRAIN: recipe.pretrain, SFT: recipe.sft, DPO: recipe.dpo}


def _num_tokens(recipe: Recipe) -> dict[str, int]:
    """Tokens that each training learns from."""
    pairs = 0.0
    if recipe.dpo:
        files = [recipe.locate(name) for name in recipe.data.preferences]
        num_bytes = sum(file.stat().st_size for file in files if file.is_file())
        # Scored by the model before it is trained too, which is a third of a step.
        pairs = num_bytes / _TEXT_BYTES_PER_TOKEN * (recipe.dpo.num_epochs + 1 / 3)
    sections = {PRETRAIN: recipe.pretrain, SFT: recipe.sft}
    return {name: one.num_tokens if one else 0 for name, one in sections.items()} | {
        DPO: round(pairs)
    }


def _sizes(recipe: Recipe) -> dict[str, TrainingSize]:
    shapes = shapes_of(recipe)
    num_pieces = recipe.tokenizer.num_pieces if recipe.tokenizer else 0
    tokens = _num_tokens(recipe)
    return {
        stage: training_size(shapes, section, num_new_rows=num_pieces, num_tokens=tokens[stage])
        for stage, section in _sections(recipe).items()
        if shapes and section
    }


def _disk_bytes(
    recipe: Recipe, parameters: float, sizes: Mapping[str, TrainingSize]
) -> dict[str, float]:
    weights = 2.0 * parameters
    text = _TEXT_BYTES_PER_TOKEN * sum(_num_tokens(recipe).values())
    files = sum(
        parameters * _BITS.get(kind.split("_")[0], _OTHER_BITS) / 8 for kind in recipe.gguf.types
    )
    disk = dict.fromkeys(STAGE_NAMES, 1e6)
    disk |= {"05-data": 3e7 + text, "20-base": weights, "40-merged": weights}
    disk |= dict.fromkeys((TUNED, "60-chat"), weights)
    disk |= dict.fromkeys(_sections(recipe), 0.15 * weights)
    for stage, size in sizes.items():
        written = min(4.0 * size.num_trained, weights)
        disk[stage] = 1e6 + written + size.checkpoint_bytes
    quantized = sum(kind not in ("f32", "f16", "bf16") for kind in recipe.gguf.types)
    # Scratch copies, removed when it is done.
    return disk | {"70-gguf": files, "80-eval": (3 + quantized) * weights}


def _gguf_seconds(recipe: Recipe, parameters: float, num_cores: int) -> float:
    rates = [
        next((rate for kind, rate in _RATES.items() if file_type.startswith(kind)), _SIMPLE_RATE)
        for file_type in recipe.gguf.types
    ]
    return sum(parameters / rate / num_cores for rate in rates)


def estimate_seconds(recipe: Recipe) -> dict[str, float]:
    """Only the times, by stage."""
    return dict(estimate(recipe).seconds)


def _notes(recipe: Recipe) -> tuple[str, ...]:
    return (
        *_missing(recipe),
        *_guessed(recipe),
        *_short(recipe),
        *_tied_twins(recipe),
        *_untied(recipe),
    )


def _missing(recipe: Recipe) -> Iterator[str]:
    """What a run would not find; a base of one slash may be a name on the hub."""
    base = recipe.base
    path = recipe.locate(base)
    if not path.exists() and (base.count("/") != 1 or base.endswith(".gguf")):
        known = ""
        if base_config(recipe):
            known = f"; the figures are those of {path.name.removesuffix('-merged')}"
        yield f"base: {path} is not here: a run would refuse{known}."
    for key, name in _files_named(recipe):
        if not name.startswith(("builtin:", HUB)):
            yield from _absent(recipe, key, name)
    yield from not_installed(recipe)


def _absent(recipe: Recipe, key: str, name: str) -> Iterator[str]:
    try:
        path = recipe.locate(name)
    except ResourceError as error:
        yield f"{key}: {error.message}"
        return
    if not path.exists():
        yield f"{key}: {path} is not here: a run would refuse."


def _files_named(recipe: Recipe) -> Iterator[tuple[str, str]]:
    """Every file or folder that a run reads beside the base, with the key that names it."""
    for key in ("text", "replay", "instructions", "preferences"):
        for name in getattr(recipe.data, key):
            yield f"data.{key}", name
    if section := recipe.tokenizer:
        named = {
            "required": [section.required],
            "prior": [section.prior],
            "protect": section.protect,
        }
        for key, names in named.items():
            yield from ((f"tokenizer.{key}", name) for name in names if name)
    if recipe.rows.dictionary:
        yield "rows.dictionary", recipe.rows.dictionary


def _guessed(recipe: Recipe) -> Iterator[str]:
    """That nothing is known of the base's size, where that is so."""
    if _known_parameters(recipe) is None:
        yield (
            f"base: how large {recipe.base} is cannot be seen before it is here; the figures are "
            f"those of {_UNKNOWN_PARAMETERS / 1e6:.0f} M weights, and grow as it does."
        )


def _short(recipe: Recipe) -> Iterator[str]:
    """That a text is small for the tokens asked of it; nothing of one whose size is not seen."""
    section = recipe.pretrain
    if section is None or any(name.startswith(("builtin:", HUB)) for name in recipe.data.text):
        return
    with suppress(ResourceError, DataError):  # told by `_missing`, or by the run
        files = [one for name in recipe.data.text for one in text_files(recipe.locate(name))]
        if any(one.compression or one.layout == "parquet" for one in files):
            return
        num_bytes = sum(one.num_bytes for one in files)
        tokens = section.num_tokens * (1 - section.replay_fraction)
        rounds = tokens * _CHINESE_BYTES_PER_TOKEN / max(num_bytes, 1)
        if num_bytes and rounds > _MOST_ROUNDS:
            yield (
                f"pretrain.num_tokens: {section.num_tokens:,} go round {num_bytes / 1e6:.1f} MB of "
                f"text some {rounds:.0f} times: from the fifth on it teaches little; give more "
                "text, or fewer tokens."
            )


def _tied_twins(recipe: Recipe) -> Iterator[str]:
    """What twins cost where a piece and its word have the same head row."""
    tied = _is_tied(base_config(recipe) or {}) and not recipe.rows.untie
    if tied and recipe.rows.twins and recipe.tokenizer and recipe.tokenizer.num_pieces:
        yield f"rows.untie: {TIED_TWINS}."


def _untied(recipe: Recipe) -> tuple[str, ...]:
    """What untying the head adds."""
    num_pieces = recipe.tokenizer.num_pieces if recipe.tokenizer else 0
    if not recipe.rows.untie or num_pieces == 0:
        return ()
    config = base_config(recipe) or {}
    if not {"vocab_size", "hidden_size"} <= config.keys():
        return ("rows.untie: a tied base gets a head of its own, as large as its embedding.",)
    rows, hidden, tied = config["vocab_size"], config["hidden_size"], _is_tied(config)
    if not tied:
        return ()
    size = 2 * hidden * (rows + num_pieces)
    return (
        f"rows.untie: the base's head is its embedding; a head of its own adds {size / 1e6:.0f} MB "
        "to every model and its reading to every token written.",
    )


def _is_tied(config: Mapping[str, Any]) -> bool:
    return bool(config.get("tie_word_embeddings", False))


def _num_parameters(recipe: Recipe) -> float:
    return _known_parameters(recipe) or _UNKNOWN_PARAMETERS


def _known_parameters(recipe: Recipe) -> float | None:
    """From the shapes, or the base's size on disk; None where it is not here."""
    if shapes := shapes_of(recipe):
        return max(float(sum(map(prod, shapes.values()))), 1e6)
    path = recipe.locate(recipe.base)
    if path.is_dir():
        size = sum(file.stat().st_size for file in path.glob("*.safetensors"))
        return max(size / 2, 1e6)
    if path.suffix == ".gguf" and path.is_file():
        return path.stat().st_size / _bytes_per_weight(path)
    return None


def _bytes_per_weight(path: Path) -> float:
    """Guess from the file's name, as files are named by their type."""
    name = path.name.lower()
    guesses = {"q8": 1.06, "f16": 2.0, "bf16": 2.0, "f32": 4.0, "q6": 0.82, "q5": 0.7, "q4": 0.66}
    return next((bytes_ for mark, bytes_ in guesses.items() if mark in name), 1.0)
