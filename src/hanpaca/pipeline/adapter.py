"""Train one adapter: what the pretraining and instruction-tuning stages share."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch

from hanpaca.data.pack import Blocks
from hanpaca.model.attention import use_grouped_attention
from hanpaca.model.dtype import faster_dtype
from hanpaca.model.fingerprint import model_fingerprint, tokenizer_fingerprint
from hanpaca.model.load import CausalLM, load_model, load_tokenizer, start_token
from hanpaca.model.lora import (
    ADAPTER_WEIGHTS,
    add_lora,
    add_new_rows,
    load_adapter_state,
    save_adapter,
    trainable_groups,
)
from hanpaca.model.loss import NextTokenLoss
from hanpaca.model.score import negative_log_likelihoods
from hanpaca.recipe import TrainingSection
from hanpaca.runs import CHECKPOINTS, write_atomically
from hanpaca.training.journal import Probe, Progress
from hanpaca.training.train import BlockDataset, Optimization, Trainable, train

_PROBED_CHARACTERS = 2_000
"""Of a held-out text: probing takes a share of the training time and must not grow with books."""


@dataclass(frozen=True)
class ProbeTexts:
    """What a model in training is asked now and then."""

    heldout: Sequence[str]
    """Scored: bits per character."""
    prompt_ids: Sequence[int]
    """Continued greedily: the sample."""


def train_adapter(
    base: Path,
    blocks: Blocks,
    *,
    folder: Path,
    section: TrainingSection,
    seed: int,
    num_new_rows: int,
    probe: ProbeTexts,
    on_progress: Callable[[Progress, str | None], None],
) -> dict[str, Any]:
    """Train LoRA and new rows of `base` on `blocks` and save the adapter into `folder`.

    Args:
        base: The model the adapter will belong to.
        blocks: In the order they are to be seen.
        folder: Gets the adapter and `metrics.jsonl`; checkpoints in it are gone on from.
        section: Rates, ranks and steps.
        seed: Seeds the LoRA factors and dropout.
        num_new_rows: How many rows at the end of the vocabulary are trained; may be 0.
        probe: What the model is asked while it trains.
        on_progress: Called after each step, with a sample of text when there is a new one.

    Returns:
        Metrics of the stage.
    """
    model = load_model(base, dtype=_dtype(section, folder))
    torch.manual_seed(seed)
    lora = section.lora
    add_lora(model, rank=lora.rank, alpha=lora.alpha, dropout=lora.dropout, targets=lora.targets)
    if num_new_rows:
        add_new_rows(model, num_new_rows)
    use_grouped_attention(model)
    factors, rows = trainable_groups(model)
    metadata = {
        "hanpaca.base.fingerprint": model_fingerprint(base),
        "hanpaca.tokenizer.fingerprint": tokenizer_fingerprint(base),
    }
    save = partial(save_adapter, model, metadata=metadata)
    samples: list[str] = []
    last = train(
        Trainable(
            NextTokenLoss(model),
            factors,
            rows,
            save=save,
            load=lambda checkpoint: load_adapter_state(model, checkpoint / ADAPTER_WEIGHTS),
        ),
        BlockDataset(blocks.input_ids, blocks.labels, blocks.position_ids),
        folder=folder,
        optimization=_optimization(section, seed),
        on_progress=lambda progress: on_progress(progress, samples.pop() if samples else None),
        probe=Probe(lambda: _ask(model, base, probe, samples), section.sample_steps),
    )
    save(folder)
    return {
        "num_steps": last.num_steps,
        "num_tokens": int(blocks.input_ids.size),
        "loss": last.loss,
        "dtype": str(model.dtype).removeprefix("torch."),
        "tokens_per_second": round(last.tokens_per_second, 1),
        "training_seconds": round(last.seconds, 1),
    }


def _dtype(section: TrainingSection, folder: Path) -> torch.dtype:
    """What the recipe says, or what is faster here; a resumed training keeps what it began with."""
    if section.dtype != "auto":
        return cast(torch.dtype, getattr(torch, section.dtype))
    kept = folder / CHECKPOINTS / "dtype"
    if not kept.exists():
        kept.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(kept, str(faster_dtype()).removeprefix("torch."))
    return cast(torch.dtype, getattr(torch, kept.read_text(encoding="utf-8")))


def _optimization(section: TrainingSection, seed: int) -> Optimization:
    return Optimization(
        learning_rate=section.learning_rate,
        row_learning_rate=section.row_learning_rate,
        batch_blocks=section.batch_blocks,
        schedule=section.schedule,
        warmup_fraction=section.warmup_fraction,
        checkpoint_steps=section.checkpoint_steps,
        seed=seed,
    )


def _ask(model: CausalLM, base: Path, probe: ProbeTexts, samples: list[str]) -> Mapping[str, Any]:
    model.train(False)
    tokenizer = load_tokenizer(base)
    answers: dict[str, Any] = {}
    if probe.heldout:
        start, texts = start_token(tokenizer), [text[:_PROBED_CHARACTERS] for text in probe.heldout]
        nats = negative_log_likelihoods(
            model, [[start, *tokenizer.encode(text, add_special_tokens=False)] for text in texts]
        )
        num_characters = sum(map(len, texts))
        answers["heldout_bits_per_character"] = sum(nats) / math.log(2) / num_characters
    ids = torch.tensor([list(probe.prompt_ids)], device=model.device)
    with torch.inference_mode():
        written = cast(Any, model).generate(
            ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=24,
            do_sample=False,
            pad_token_id=tokenizer.eos_token_id,
        )
    answers["sample"] = tokenizer.decode(written[0], skip_special_tokens=True)
    samples.append(answers["sample"])
    return answers
