"""Train one adapter, or a whole model: what all trainings share."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn

from hanpaca.checkpoints.fingerprint import model_fingerprint, tokenizer_fingerprint
from hanpaca.data.pack import Blocks
from hanpaca.errors import RecipeError
from hanpaca.files import CHECKPOINTS, write_atomically
from hanpaca.model.attention import use_attention
from hanpaca.model.devices import compile_layers, spread
from hanpaca.model.dtype import faster_dtype
from hanpaca.model.layers import add_noise
from hanpaca.model.load import CausalLM, load_model, load_tokenizer, start_token
from hanpaca.model.lora import (
    ADAPTER_WEIGHTS,
    add_lora,
    add_new_rows,
    load_adapter_state,
    parted_factors,
    save_adapter,
    save_trained,
    trainable_groups,
    trained_weights,
    whole_state,
)
from hanpaca.model.loss import NextTokenLoss
from hanpaca.model.preference import PreferenceLoss
from hanpaca.model.score import negative_log_likelihoods
from hanpaca.model.whole import TABLES, train_everything, train_tables, write_model
from hanpaca.progress import Progress, Tell, silent
from hanpaca.settings import TrainingSettings
from hanpaca.together import everyone, leads, num_processes
from hanpaca.training.arguments import Optimization
from hanpaca.training.journal import METRICS, Probe, Step, first_and_last
from hanpaca.training.monitor import BEST, HELDOUT, REPLAY_HELDOUT, TEXT_BITS, kept_best, with_spare
from hanpaca.training.rows import principal_axes
from hanpaca.training.sharding import shard
from hanpaca.training.threads import training_threads
from hanpaca.training.train import BlockDataset, Trainable, train
from hanpaca.training.watching import check_bound, ended_note, kept_metrics, monitor_of

PROBED_CHARACTERS = {HELDOUT: 2_000, REPLAY_HELDOUT: 1_000}
"""Of a held-out text: probing takes a share of the training time and must not grow with books."""


@dataclass(frozen=True)
class ProbeTexts:
    """What a model in training is asked now and then."""

    heldout: Sequence[str]
    """Scored: bits per character."""
    prompt_ids: Sequence[int]
    """Continued greedily: the sample."""
    replay_heldout: Sequence[str] = ()
    """Scored as well: the old language."""


Objective = Callable[[CausalLM], NextTokenLoss]
"""Makes of a model what `Trainable.model` is."""


def train_adapter(  # noqa: PLR0913  # each is a choice of its own
    base: Path,
    blocks: Blocks,
    *,
    folder: Path,
    settings: TrainingSettings,
    seed: int,
    num_new_rows: int,
    probe: ProbeTexts,
    tell: Tell,
    objective: Objective = NextTokenLoss,
    spare: Blocks | None = None,
) -> dict[str, Any]:
    """Train what `settings.train` names of `base`, save it into `folder`, and give its metrics.

    Args:
        base: The model the adapter will belong to.
        blocks: In the order they are to be seen.
        folder: Gets the adapter or model and `metrics.jsonl`; checkpoints in it are gone on from.
        settings: Rates, ranks and steps.
        seed: Seeds the LoRA factors and dropout.
        num_new_rows: How many rows at the end of the vocabulary are new; may be 0.
        probe: What the model is asked while it trains.
        tell: Called after each step, with a sample of text when there is a new one.
        objective: What is made smaller; can be pickled.
        spare: As many blocks of replay, for a monitor that raises its share.

    Raises:
        RecipeError: A bound cannot be seen, or nothing to train is there.
    """
    check_bound(settings, probe.heldout, probe.replay_heldout)
    with training_threads(base, folder, tell) as num_threads:
        share = partial(
            _train,
            base,
            blocks,
            folder=folder,
            settings=settings,
            seed=seed,
            num_new_rows=num_new_rows,
            dtype=training_dtype(settings, folder),
            objective=objective,
            num_threads=num_threads,
            spare=spare,
        )
        last = everyone(share, folder / CHECKPOINTS / "work", tell=tell, probe=probe)
    return {
        "num_steps": last.step,
        "num_tokens": min(
            last.step * settings.batch_blocks * settings.block_tokens, int(blocks.input_ids.size)
        ),
        "loss": last.loss,
        "dtype": str(training_dtype(settings, folder)).removeprefix("torch."),
        "tokens_per_second": round(last.tokens_per_second, 1),
        "training_seconds": round(last.seconds, 1),
        "num_threads": num_threads,
        **_before_after(folder / METRICS),
        **kept_metrics(folder),
    }


def _before_after(metrics: Path) -> dict[str, float]:
    return {
        f"{name}_{when}": value
        for name in (HELDOUT, REPLAY_HELDOUT)
        for when, value in zip(
            ("before", "after"), first_and_last(metrics, name) or (), strict=False
        )
    }


def _train(  # noqa: PLR0913  # what every process is given, and what the first alone
    base: Path,
    blocks: Blocks,
    *,
    folder: Path,
    settings: TrainingSettings,
    seed: int,
    num_new_rows: int,
    dtype: torch.dtype,
    objective: Objective,
    num_threads: int,
    spare: Blocks | None,
    tell: Tell = silent,
    probe: ProbeTexts | None = None,
) -> Step:
    """What each process of a training does; the first one writes."""
    torch.set_num_threads(num_threads)
    model = trainable_model(base, settings, num_new_rows=num_new_rows, seed=seed, dtype=dtype)
    for note in (_trained_note(model), *_length_notes(model, settings.block_tokens)):
        tell(Progress(0, note=note))
    loss = objective(model)
    axes = principal_axes(model, blocks) if settings.row_updates == "together" else None
    sharded = _laid_out(loss, settings, tell)
    factors, faster, rows = _groups(model, settings)
    made_of = _fingerprints(base)
    samples: list[str] = []

    def save(place: Path) -> None:
        save_trained(model, place, metadata=made_of)

    monitor = monitor_of(settings, folder, save, tell)
    if monitor and spare is not None:
        blocks = with_spare(blocks, spare, monitor, seed=seed)
    last = train(
        Trainable(
            loss,
            factors,
            rows,
            faster=faster,
            axes=axes if rows else None,
            save=save,
            load=lambda place: load_adapter_state(model, place / ADAPTER_WEIGHTS),
            measures=loss.measures if isinstance(loss, PreferenceLoss) else dict,
        ),
        BlockDataset(**{one.name: getattr(blocks, one.name) for one in fields(blocks)}),
        folder=folder,
        optimization=replace(_optimization(settings, seed), sharded=sharded),
        on_step=lambda step: tell(_progress(step, samples.pop() if samples else "")),
        # Of several processes the first alone asks; all must know when.
        probe=Probe(
            lambda: _ask(model, base, probe, samples) if probe else {},
            settings.sample_steps,
            monitor,
        )
        if not sharded  # what is in shards answers only all at once
        else None,
    )
    _finish(model, base, folder, settings=settings, last=last, tell=tell)
    return last


def _laid_out(loss: NextTokenLoss, settings: TrainingSettings, tell: Tell) -> bool:
    """Lay a model out over devices or processes; whether it is in shards now."""
    if settings.device_map == "auto":
        spread(loss)
    if settings.sharding == "none" or num_processes() == 1:
        return False
    tell(Progress(0, note=f"this process holds {shard(loss):.0%} of all weights"))
    return True


def _finish(
    model: CausalLM, base: Path, folder: Path, *, settings: TrainingSettings, last: Step, tell: Tell
) -> None:
    """Write what came of a training: of its end, or of the step that is kept."""
    if last.step < last.num_steps:
        tell(Progress(0, note=ended_note(last.step, last.num_steps, settings)))
    if kept := kept_best(folder / CHECKPOINTS):
        load_adapter_state(model, folder / CHECKPOINTS / BEST / ADAPTER_WEIGHTS)
        tell(Progress(0, note=f"kept is the adapter of step {kept['step']} of {last.num_steps}"))
    if settings.whole:
        _save_whole(model, base, folder)
    else:
        save_adapter(model, folder, metadata=_fingerprints(base))


def _save_whole(model: CausalLM, base: Path, folder: Path) -> None:
    weights = whole_state(model)
    if leads():
        write_model(weights, base, folder)


def _trained_note(model: CausalLM) -> str:
    numbers, share = trained_weights(model)
    kinds = ", ".join(f"{number:,} of {kind}" for kind, number in numbers.items())
    return f"trained are {kinds}: {share:.2%} of all weights"


def _length_notes(model: CausalLM, block_tokens: int) -> Iterator[str]:
    made_for = getattr(model.config, "max_position_embeddings", None)
    if made_for and block_tokens > made_for:
        yield (
            f"blocks of {block_tokens:,} tokens are longer than the {made_for:,} positions the "
            "base was made for: a text that fills one is read beyond them"
        )


def trainable_model(
    base: Path, settings: TrainingSettings, *, num_new_rows: int, seed: int, dtype: torch.dtype
) -> CausalLM:
    """The model as it is before the first step: what it says, the base says.

    Args:
        base: The model that is trained.
        settings: Ranks, attention.
        num_new_rows: How many rows at the end of the vocabulary are new; may be 0.
        seed: Seeds the LoRA factors.
        dtype: Of the frozen weights, and what all is computed in.

    Raises:
        RecipeError: The settings name only what the base has not.
    """
    model = load_model(base, dtype=torch.float32 if settings.whole else dtype)
    torch.manual_seed(seed)
    if settings.whole:
        train_everything(model, dtype)
    if "lora" in settings.train:
        add_lora(model, settings.lora, bits=settings.quantize_base)
    if "new_rows" in settings.train and num_new_rows:
        add_new_rows(model, num_new_rows)
    if tables := [name for word, name in TABLES.items() if word in settings.train]:
        train_tables(model, base, tables)
    if not any(one.requires_grad for one in model.parameters()):
        raise RecipeError(
            "nothing is trained: the base has no new rows", "give {train} or {new_rows}"
        )
    if settings.neftune_alpha:
        add_noise(model.model.embed_tokens, settings.neftune_alpha)
    use_attention(model, settings.attention)
    if settings.gradient_checkpointing:
        model.activation_checkpointing_enable({"use_reentrant": False})
    if settings.compile:
        compile_layers(model)
    return model


def _groups(
    model: CausalLM, settings: TrainingSettings
) -> tuple[list[nn.Parameter], list[nn.Parameter], list[nn.Parameter]]:
    """Factors, those that learn faster, and rows."""
    if settings.whole:
        return list(model.parameters()), [], []
    factors, rows = trainable_groups(model)
    if settings.lora.b_rate_ratio == 1:
        return factors, [], rows
    return *parted_factors(model), rows


def _fingerprints(base: Path) -> dict[str, str]:
    return {
        "hanpaca.base.fingerprint": model_fingerprint(base),
        "hanpaca.tokenizer.fingerprint": tokenizer_fingerprint(base),
    }


def _progress(step: Step, sample: str) -> Progress:
    note = f"loss {step.loss:.2f}, {step.tokens_per_second:.0f} tokens/s"
    return Progress(step.step, step.num_steps, "steps", note, step.seconds_left, sample)


def training_dtype(settings: TrainingSettings, folder: Path) -> torch.dtype:
    """What the recipe says, or what is faster here; a resumed training keeps what it began with."""
    if settings.dtype != "auto":
        return cast(torch.dtype, getattr(torch, settings.dtype))
    kept = folder / CHECKPOINTS / "dtype"
    if not kept.exists():
        kept.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(kept, str(faster_dtype()).removeprefix("torch."))
    return cast(torch.dtype, getattr(torch, kept.read_text(encoding="utf-8")))


def _optimization(settings: TrainingSettings, seed: int) -> Optimization:
    return Optimization(
        learning_rate=settings.learning_rate,
        row_learning_rate=settings.row_learning_rate,
        faster_ratio=settings.lora.b_rate_ratio,
        batch_blocks=settings.batch_blocks,
        accumulation_steps=settings.accumulation_steps,
        schedule=settings.schedule,
        warmup_fraction=settings.warmup_fraction,
        decay_fraction=settings.decay_fraction,
        min_rate_fraction=settings.min_rate_fraction,
        weight_decay=settings.weight_decay,
        trackers=settings.trackers,
        checkpoint_steps=settings.checkpoint_steps,
        seed=seed,
    )


def _ask(model: CausalLM, base: Path, probe: ProbeTexts, samples: list[str]) -> Mapping[str, Any]:
    model.train(False)
    tokenizer = load_tokenizer(base)
    answers: dict[str, Any] = {}
    start = start_token(tokenizer)
    for name, heldout in ((HELDOUT, probe.heldout), (REPLAY_HELDOUT, probe.replay_heldout)):
        if not heldout:
            continue
        texts = [text[: PROBED_CHARACTERS[name]] for text in heldout]
        nats = negative_log_likelihoods(
            model, [[start, *tokenizer.encode(text, add_special_tokens=False)] for text in texts]
        )
        answers[name] = sum(nats) / math.log(2) / sum(map(len, texts))
        answers[TEXT_BITS[name]] = [round(one / math.log(2), 2) for one in nats]
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
