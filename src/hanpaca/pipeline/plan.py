"""What a run would take: rough figures from the sizes in the recipe and the base, without torch."""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hanpaca.pipeline.stages import STAGES
from hanpaca.recipe import Recipe

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


@dataclass(frozen=True)
class Estimate:
    """What is expected of a run; time within a factor of two."""

    seconds: Mapping[str, float]
    disk_bytes: Mapping[str, float]
    memory_bytes: float
    num_cores: int
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
    seconds = {
        "05-data": 12.0,
        "10-tokenizer": 20.0,
        "20-base": 15.0 + 2 * copying,
        "30-pretrain": 1.25 * recipe.pretrain.num_tokens * token_seconds + 15,
        "40-merged": 2.0 + 2 * copying,
        "50-sft": 1.25 * recipe.sft.num_tokens * token_seconds + 15,
        "60-chat": 2.0 + 2 * copying,
        "70-gguf": 3.0 + copying + _gguf_seconds(recipe, parameters, num_cores),
        "80-eval": 20.0 + (read_tokens / 3 + answered / 2) * token_seconds + 8 * copying,
    }
    files = sum(
        parameters * _BITS.get(kind.split("_")[0], _OTHER_BITS) / 8 for kind in recipe.gguf.types
    )
    disk = dict.fromkeys(STAGE_NAMES, 1e6)
    disk |= {"05-data": 3e7, "20-base": weights, "40-merged": weights, "60-chat": weights}
    disk |= {"30-pretrain": 0.15 * weights, "50-sft": 0.15 * weights, "70-gguf": files}
    quantized = sum(kind not in ("f32", "f16", "bf16") for kind in recipe.gguf.types)
    disk["80-eval"] = (3 + quantized) * weights  # scratch copies, removed when it is done
    return Estimate(seconds, disk, 1.5e9 + 4 * weights, num_cores, _notes(recipe))


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
    """What untying the head adds; a GGUF base is not opened for it."""
    if not recipe.rows.untie or recipe.tokenizer.num_pieces == 0:
        return ()
    file = recipe.locate(recipe.base) / "config.json"
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
        rows, hidden, tied = config["vocab_size"], config["hidden_size"], _is_tied(config)
    except (OSError, ValueError, KeyError, TypeError):
        return ("rows.untie: a tied base gets a head of its own, as large as its embedding.",)
    if not tied:
        return ()
    size = 2 * hidden * (rows + recipe.tokenizer.num_pieces)
    return (
        f"rows.untie: the base's head is its embedding; a head of its own adds {size / 1e6:.0f} MB "
        "to every model and its reading to every token written.",
    )


def _is_tied(config: Mapping[str, Any]) -> bool:
    return bool(config.get("tie_word_embeddings", False))


def _num_parameters(recipe: Recipe) -> float:
    """From the size of the base on disk; 135 M where it is on the hub and not here."""
    path = recipe.locate(recipe.base)
    if path.is_dir():
        size = sum(file.stat().st_size for file in path.glob("*.safetensors"))
        return max(size / 2, 1e6)
    if path.suffix == ".gguf" and path.is_file():
        return path.stat().st_size / _bytes_per_weight(path)
    return 1.35e8


def _bytes_per_weight(path: Path) -> float:
    """Guess from the file's name, as files are named by their type."""
    name = path.name.lower()
    guesses = {"q8": 1.06, "f16": 2.0, "bf16": 2.0, "f32": 4.0, "q6": 0.82, "q5": 0.7, "q4": 0.66}
    return next((bytes_ for mark, bytes_ in guesses.items() if mark in name), 1.0)
