"""30-pretrain: LoRA and new rows learn the new language from text, with replay of the old one."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerFast

from hanpaca.data.pack import Blocks, content_hash, document_sequence, mix, pack
from hanpaca.model.load import end_token, load_tokenizer, start_token
from hanpaca.pipeline import base, data, stages
from hanpaca.pipeline.adapter import ProbeTexts, train_adapter
from hanpaca.pipeline.job import Job
from hanpaca.pipeline.jsonl import read_texts
from hanpaca.pipeline.progress import training_progress
from hanpaca.recipe import TrainingSection
from hanpaca.training.journal import Progress

NAME = stages.PRETRAIN
PROBED_TEXTS = 16
_PROMPT_CHARACTERS = 5


@dataclass(frozen=True)
class PretrainTexts:
    """What is learned, what is replayed, and what is probed."""

    learned: Sequence[str]
    replay: Sequence[str]
    heldout: Sequence[str]


def work(job: Job, folder: Path) -> Mapping[str, Any]:
    """Train on the run's text; the adapter belongs to the model of stage 20-base."""
    source = job.stage(data.NAME)
    return pretrain_on(
        job.stage(base.NAME),
        PretrainTexts(
            read_texts(source / data.TEXT),
            read_texts(source / data.REPLAY),
            read_texts(source / data.TEXT_HELDOUT)[:PROBED_TEXTS],
        ),
        folder=folder,
        settings=job.recipe.pretrain,
        seed=job.recipe.seed,
        num_new_rows=base.num_new_rows(job),
        on_progress=training_progress(job, NAME, folder),
    )


def pretrain_on(
    model: Path,
    texts: PretrainTexts,
    *,
    folder: Path,
    settings: TrainingSection,
    seed: int,
    num_new_rows: int,
    on_progress: Callable[[Progress, str | None], None],
) -> dict[str, Any]:
    """Pack, mix and train on any model and texts; see `train_adapter`."""
    tokenizer = load_tokenizer(model)
    blocks = mix(
        pack_texts(tokenizer, texts.learned, settings),
        replay_blocks(tokenizer, texts.replay, settings),
        num_blocks=num_blocks(settings),
        share=settings.replay_fraction,
        seed=seed,
    )
    opening = tokenizer.encode(texts.heldout[0][:_PROMPT_CHARACTERS], add_special_tokens=False)
    metrics = train_adapter(
        model,
        blocks,
        folder=folder,
        section=settings,
        seed=seed,
        num_new_rows=num_new_rows,
        probe=ProbeTexts(texts.heldout, [start_token(tokenizer), *opening]),
        on_progress=on_progress,
    )
    return {**metrics, "blocks_sha256": content_hash(blocks)}


def pack_texts(
    tokenizer: PreTrainedTokenizerFast, texts: Sequence[str], settings: TrainingSection
) -> Blocks:
    """Documents between their start and end tokens, in blocks."""
    start, end = start_token(tokenizer), end_token(tokenizer)
    encoded = tokenizer(list(texts), add_special_tokens=False).input_ids
    return pack(
        (document_sequence(ids, start_id=start, end_id=end) for ids in encoded),
        block_tokens=settings.block_tokens,
        pad_id=end,
    )


def replay_blocks(
    tokenizer: PreTrainedTokenizerFast, texts: Sequence[str], settings: TrainingSection
) -> Blocks | None:
    """Blocks of the old language, if the recipe wants any."""
    if settings.replay_fraction == 0 or not texts:
        return None
    return pack_texts(tokenizer, texts, settings)


def num_blocks(settings: TrainingSection) -> int:
    """How many blocks make up the tokens the recipe asks for."""
    return settings.num_tokens // settings.block_tokens
