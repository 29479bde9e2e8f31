"""Preference tuning: of two answers, LoRA learns to prefer the better one (DPO)."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerFast

from hanpaca.data.jsonl import read_jsonl
from hanpaca.data.pack import (
    IGNORED,
    BlocksInMemory,
    PairBlocks,
    Sequence_,
    content_hash,
    pack_pairs,
)
from hanpaca.data.preferences import Preference, preference_row
from hanpaca.data.templates import Writer, choose_template, encode_conversation
from hanpaca.errors import DataError, RecipeError
from hanpaca.files import CHECKPOINTS, resumable
from hanpaca.model.load import end_token, load_tokenizer
from hanpaca.model.preference import PreferenceLoss
from hanpaca.progress import Progress, Tell, silent
from hanpaca.settings import DpoSettings
from hanpaca.steps.sft import TEMPLATE
from hanpaca.together import together
from hanpaca.tokenizer.conversion.fast import with_fast_tokenizer
from hanpaca.training.adapter import ProbeTexts, train_adapter
from hanpaca.training.begun import num_new_rows, training_key
from hanpaca.training.journal import METRICS
from hanpaca.training.reference import pairs_of, reference_log_ratios


@dataclass(frozen=True)
class DpoTexts:
    """What is learned, and what is probed."""

    preferences: Sequence[Preference]
    heldout: Sequence[str]
    places: Sequence[str] = ()
    """Where each preference comes from, `file:row`, for messages."""


@together
def dpo(
    base: Path | str,
    preferences: Iterable[Preference],
    output: Path | str,
    settings: DpoSettings,
    *,
    places: Sequence[str] = (),
    heldout: Iterable[str] = (),
    seed: int = 0,
    tell: Tell = silent,
) -> dict[str, Any]:
    """Tune on pairs of a better and a worse answer, and write an adapter.

    The loss is that of Rafailov et al. 2023 (arXiv 2305.18290); the model that it is held against
    is the base. An interrupted training is gone on from as in `sft`.

    Args:
        base: Folder of the model that the adapter will belong to: one that answers already.
        preferences: See `hanpaca.read_preferences`.
        output: Folder to write; must not exist.
        settings: How much is learned, and how; `settings.template` is kept beside the adapter.
        places: Where each preference comes from, for messages: `file:row`.
        heldout: Documents to measure bits per character on, now and then.
        seed: Of every random choice.
        tell: Called after each step.

    Returns:
        Metrics: `num_pairs`, `num_steps`, `loss` (of the last step), and of the last epoch
        `margin` (β-weighted nats) and `accuracy` (share of pairs whose margin is above 0), …

    Raises:
        DataError: There is no preference.
        RecipeError: The template or the length of blocks does not suit.
        ArtifactError: The base cannot be read, or `output` exists.
        HanpacaError: The loss became infinite or no number.

    Examples:
        >>> from hanpaca.data.conversations import Message
        >>> from hanpaca.data.preferences import Preference
        >>> pair = Preference((Message("user", "写一句诗。"),), "白日依山尽。", "不写。")
        >>> settings = DpoSettings(num_epochs=3, block_tokens=128)
        >>> metrics = dpo(base, [pair], folder / "adapter", settings)
        >>> metrics["num_steps"]
        2
    """
    base = with_fast_tokenizer(Path(base), lambda note: tell(Progress(0, note=note)))
    load_tokenizer(base)  # says what is wrong before everything is hashed
    material = DpoTexts(list(preferences), list(heldout), places)
    if not material.preferences:
        raise DataError("there is no preference to learn from")
    given: dict[str, list[object]] = {
        "learned": [preference_row(one) for one in material.preferences],
        "heldout": list(material.heldout),
    }
    key = training_key("dpo", base, given, settings=settings, made_of=[seed, num_new_rows(base)])
    with resumable(Path(output), key, leftovers=[CHECKPOINTS]) as folder:
        return dpo_in(folder, base, material, settings=settings, seed=seed, tell=tell)


def dpo_in(
    folder: Path,
    base: Path,
    texts: DpoTexts,
    *,
    settings: DpoSettings,
    seed: int,
    tell: Tell = silent,
) -> dict[str, Any]:
    """Do the work of `dpo` in a folder that somebody keeps for it, such as a run's stage."""
    tokenizer = load_tokenizer(base)
    tokenizer.chat_template = choose_template(tokenizer, settings.template)
    blocks = pack_preferences(tokenizer, texts, settings, tell=tell)
    rows = num_new_rows(base)
    reference = reference_log_ratios(
        base, blocks, folder=folder, settings=settings, num_new_rows=rows, tell=tell
    )
    writer = Writer.of(tokenizer)
    asked = [{"role": turn.role, "content": turn.content} for turn in texts.preferences[0].prompt]
    metrics = train_adapter(
        base,
        _in_order(blocks, reference, epochs=settings.num_epochs, seed=seed),
        folder=folder,
        settings=settings,
        seed=seed,
        num_new_rows=rows,
        probe=ProbeTexts(texts.heldout, writer.encode(writer.render(asked, True))[0]),
        tell=tell,
        objective=partial(PreferenceLoss, beta=settings.beta),
    )
    (folder / TEMPLATE).write_text(str(tokenizer.chat_template), encoding="utf-8")
    measured = _last_epoch(folder / METRICS, settings.num_epochs)
    num_pairs = int(pairs_of(blocks).sum())
    return {**metrics, **measured, "num_pairs": num_pairs, "blocks_sha256": content_hash(blocks)}


def pack_preferences(
    tokenizer: PreTrainedTokenizerFast,
    texts: DpoTexts,
    settings: DpoSettings,
    *,
    tell: Tell = silent,
) -> BlocksInMemory:
    """Preferences as blocks: prompt and chosen answer, then prompt and rejected answer, in turn.

    A pair that does not fit into a block is left out, and counted: half an answer is neither the
    better nor the worse one.

    Raises:
        DataError: The template refuses a conversation: names its place.
        RecipeError: No pair fits into a block.
    """
    writer = Writer.of(tokenizer)
    pairs = []
    longest = 0
    for preference, place in zip_longest(texts.preferences, texts.places[: len(texts.preferences)]):
        try:
            pair = _encoded(preference, writer)
        except DataError as error:
            raise DataError(f"{place}: {error.message}" if place else error.message) from error
        size = sum(len(ids) for ids, _ in pair)
        longest = max(longest, size)
        if size <= settings.block_tokens:
            pairs.append(pair)
    left_out = len(texts.preferences) - len(pairs)
    found = f"of {len(texts.preferences)} pairs {left_out} do not fit into a block of "
    found += f"{settings.block_tokens} tokens; the longest has {longest}"
    if not pairs:
        raise RecipeError(found, "give more {block_tokens}")
    if left_out:
        tell(Progress(0, note=f"{found}; they are left out"))
    return pack_pairs(pairs, block_tokens=settings.block_tokens, pad_id=end_token(tokenizer))


def _encoded(preference: Preference, writer: Writer) -> tuple[Sequence_, Sequence_]:
    """Both conversations; of each the last sequence alone has something to learn."""
    chosen, rejected = (
        encode_conversation(preference.conversation(answer), writer)[-1]
        for answer in (preference.chosen, preference.rejected)
    )
    return chosen, rejected


def _in_order(
    blocks: BlocksInMemory, reference: NDArray[np.float32], *, epochs: int, seed: int
) -> PairBlocks:
    """Every block once an epoch, each time in another order."""
    chance = np.random.default_rng(seed)
    order = np.concatenate([chance.permutation(len(blocks)) for _ in range(epochs)])
    is_pair = np.arange(reference.shape[1]) < pairs_of(blocks)[:, None]
    return PairBlocks(
        blocks.input_ids[order],
        np.where(is_pair, 0, IGNORED).astype(np.int32)[order],
        blocks.position_ids[order],
        answers=blocks.labels[order],
        reference=reference[order],
    )


def _last_epoch(metrics: Path, epochs: int) -> dict[str, float]:
    """Means over the pairs of the steps of the last epoch."""
    steps = [row for row in read_jsonl(metrics) if "pairs" in row]
    last = steps[-max(1, len(steps) // epochs) :]
    number = sum(row["pairs"] for row in last)
    return {
        name: sum(row[name] * row["pairs"] for row in last) / number
        for name in ("margin", "accuracy")
    }
