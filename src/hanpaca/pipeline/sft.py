"""50-sft: LoRA learns to answer; the loss is on the answers only."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerFast

from hanpaca.data.conversations import (
    ALPACA,
    CHATML,
    IGNORED,
    Conversation,
    encode_conversation,
)
from hanpaca.data.pack import Blocks, content_hash, mix, pack
from hanpaca.errors import RecipeError
from hanpaca.model.load import end_token, load_tokenizer
from hanpaca.pipeline import base, data, merged, stages
from hanpaca.pipeline.adapter import ProbeTexts, train_adapter
from hanpaca.pipeline.job import Job
from hanpaca.pipeline.jsonl import read_jsonl, read_texts
from hanpaca.pipeline.pretrain import PROBED_TEXTS, num_blocks, replay_blocks
from hanpaca.pipeline.progress import training_progress
from hanpaca.recipe import SftSection
from hanpaca.training.journal import Progress

NAME = stages.SFT
_TEMPLATES = {"chatml": CHATML, "alpaca": ALPACA}
_GREETING = "你好"
TEMPLATE = "chat_template.jinja"
"""Kept beside the adapter: a merged model must be asked as it was taught."""


@dataclass(frozen=True)
class SftTexts:
    """What is learned, what is replayed, and what is probed."""

    conversations: Sequence[Conversation]
    replay: Sequence[str]
    heldout: Sequence[str]
    question: str


def work(job: Job, folder: Path) -> Mapping[str, Any]:
    """Train on the run's conversations; the adapter belongs to the model of stage 40-merged."""
    source = job.stage(data.NAME)
    question = next(read_jsonl(source / data.QUESTIONS), {"question": _GREETING})["question"]
    return tune_on(
        job.stage(merged.NAME),
        SftTexts(
            data.stored_conversations(source / data.CONVERSATIONS),
            read_texts(source / data.REPLAY),
            read_texts(source / data.TEXT_HELDOUT)[:PROBED_TEXTS],
            question,
        ),
        folder=folder,
        settings=job.recipe.sft,
        seed=job.recipe.seed,
        num_new_rows=base.num_new_rows(job),
        on_progress=training_progress(job, NAME, folder),
    )


def tune_on(
    model: Path,
    texts: SftTexts,
    *,
    folder: Path,
    settings: SftSection,
    seed: int,
    num_new_rows: int,
    on_progress: Callable[[Progress, str | None], None],
) -> dict[str, Any]:
    """Encode, mask, pack, mix and train on any model and conversations; see `train_adapter`."""
    tokenizer = load_tokenizer(model)
    tokenizer.chat_template = chat_template(tokenizer, settings)
    blocks = mix(
        pack_conversations(tokenizer, texts.conversations, settings),
        replay_blocks(tokenizer, texts.replay, settings),
        num_blocks=num_blocks(settings),
        share=settings.replay_fraction,
        seed=seed,
    )
    prompt = tokenizer.apply_chat_template(
        [{"role": "user", "content": texts.question}], tokenize=False, add_generation_prompt=True
    )
    metrics = train_adapter(
        model,
        blocks,
        folder=folder,
        section=settings,
        seed=seed,
        num_new_rows=num_new_rows,
        probe=ProbeTexts(texts.heldout, tokenizer.encode(prompt, add_special_tokens=False)),
        on_progress=on_progress,
    )
    (folder / TEMPLATE).write_text(str(tokenizer.chat_template), encoding="utf-8")
    return {**metrics, "blocks_sha256": content_hash(blocks)}


def chat_template(tokenizer: PreTrainedTokenizerFast, settings: SftSection) -> str:
    """The Jinja template conversations are written with.

    Raises:
        RecipeError: `base` is asked for, but the base model has none.
    """
    template = _TEMPLATES.get(settings.template, tokenizer.chat_template)
    if not isinstance(template, str):
        raise RecipeError(
            "template: the base model has no chat template of its own; set sft.template (on the "
            "command line --set template=) to alpaca or chatml"
        )
    return template


def pack_conversations(
    tokenizer: PreTrainedTokenizerFast,
    conversations: Sequence[Conversation],
    settings: SftSection,
) -> Blocks:
    """Conversations as labelled blocks, as many as the recipe's tokens need.

    A conversation longer than a block loses its end; one that loses every answer is left out.

    Raises:
        RecipeError: No answer begins within the tokens of a block.
    """

    def render(messages: list[dict[str, str]], prompt: bool) -> str:
        text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=prompt)
        return str(text)

    def encode(text: str) -> list[int]:
        return list(tokenizer.encode(text, add_special_tokens=False))

    sequences = []
    size = 0
    for conversation in conversations:
        if size > 1.1 * settings.num_tokens:
            break
        ids, labels = encode_conversation(conversation, render=render, encode=encode)
        ids, labels = ids[: settings.block_tokens], labels[: settings.block_tokens]
        if any(label != IGNORED for label in labels):
            sequences.append((ids, labels))
            size += len(ids)
    if conversations and not sequences:
        raise RecipeError(
            f"sft.block_tokens: {settings.block_tokens} tokens end before any answer begins; "
            "give more"
        )
    return pack(sequences, block_tokens=settings.block_tokens, pad_id=end_token(tokenizer))
