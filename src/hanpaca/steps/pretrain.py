"""Pretraining goes on: LoRA and new rows learn a language from text, with replay of the old one."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import chain, islice
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerFast

from hanpaca.data.pack import Blocks, content_hash, mix
from hanpaca.data.sources import Source, Texts, as_source
from hanpaca.errors import DataError, RecipeError
from hanpaca.files import CHECKPOINTS, resumable
from hanpaca.model.load import load_tokenizer, start_token
from hanpaca.progress import Progress, Tell, silent
from hanpaca.settings import NextTokenSettings, PretrainSettings
from hanpaca.together import together
from hanpaca.tokenizer.conversion.fast import with_fast_tokenizer
from hanpaca.training.adapter import ProbeTexts, train_adapter
from hanpaca.training.begun import num_new_rows, training_key
from hanpaca.training.blocks import Cutting, text_tokens
from hanpaca.training.monitor import MOST_REPLAY

_ONE_IN = 20
_PROMPT_CHARACTERS = 5


@dataclass(frozen=True)
class PretrainTexts:
    """What is learned, what is replayed, and what is probed."""

    learned: Source
    replay: Source
    heldout: Sequence[str]
    replay_heldout: Sequence[str] = ()
    """Of the old language, to measure on."""

    def given(self) -> dict[str, list[str]]:
        """Content of all, as a training is known by."""
        read = {"learned": self.learned, "replay": self.replay}
        given = {name: [source.digest()] for name, source in read.items()}
        given["heldout"] = list(self.heldout)
        if self.replay_heldout:  # a later one: what was begun before goes on
            given["replay_heldout"] = list(self.replay_heldout)
        return given


@together
def pretrain(  # noqa: PLR0913  # each is a choice of its own
    base: Path | str,
    texts: Iterable[str],
    output: Path | str,
    settings: PretrainSettings,
    *,
    replay: Iterable[str] = (),
    heldout: Iterable[str] | None = None,
    replay_heldout: Iterable[str] = (),
    new_rows: int | None = None,
    seed: int = 0,
    tell: Tell = silent,
) -> dict[str, Any]:
    """Continue pretraining on text and write an adapter; what was interrupted goes on.

    An interrupted training is gone on from where the same base, texts, settings and seed are given
    again, by content; where any is another, it is left alone and nothing is begun.

    Args:
        base: Folder of the model that the adapter will belong to.
        texts: Documents to learn from, in order; `Texts` of files are streamed, others are held.
        output: Folder to write; must not exist.
        settings: How much is learned, and how; with `weights`, `texts` are `Texts`.
        replay: Documents of the old language; `settings.replay_fraction` of the training is theirs.
        heldout: To measure on; None holds out the first of `texts`: one in twenty, at most
            `settings.probed_texts`.
        replay_heldout: Documents of the old language to measure on, which are not in `replay`.
        new_rows: Rows at the end of the vocabulary that are trained too. None takes those that
            `grow` says it added, and none where the base is not its work.
        seed: Of every random choice.
        tell: Called after each step.

    Returns:
        Metrics: `num_steps`, `num_tokens`, `loss` (nats a token, of the last step), …

    Raises:
        DataError: There are fewer than two documents, and one must be held out.
        RecipeError: There is not one weight above 0 for each path.
        ArtifactError: The base cannot be read, or `output` exists.
        HanpacaError: The loss became infinite or no number.

    Examples:
        >>> settings = PretrainSettings(num_tokens=512, block_tokens=64)
        >>> metrics = pretrain(base, texts, folder / "adapter", settings)
        >>> metrics["num_steps"]
        4
    """
    base = with_fast_tokenizer(Path(base), lambda note: tell(Progress(0, note=note)))
    load_tokenizer(base)  # says what is wrong before everything is hashed
    material = _held_out(as_source(texts), as_source(replay), heldout, settings.probed_texts, tell)
    material = replace(material, replay_heldout=list(replay_heldout))
    _weighed(material, settings)
    check_replay(material.replay, settings, tell)
    rows = num_new_rows(base) if new_rows is None else new_rows
    key = training_key("pretrain", base, material.given(), settings=settings, made_of=[seed, rows])
    with resumable(Path(output), key, leftovers=[CHECKPOINTS]) as folder:
        return pretrain_in(
            folder, base, material, settings=settings, new_rows=rows, seed=seed, tell=tell
        )


def pretrain_in(
    folder: Path,
    base: Path,
    texts: PretrainTexts,
    *,
    settings: PretrainSettings,
    new_rows: int,
    seed: int,
    tell: Tell = silent,
) -> dict[str, Any]:
    """Do the work of `pretrain` in a folder that somebody keeps for it, such as a run's stage."""
    tokenizer = load_tokenizer(base)
    replay, num_replayed = replay_blocks(tokenizer, texts.replay, settings, seed=seed, tell=tell)
    sources, num_made = _learned_blocks(tokenizer, texts, settings, replay, seed=seed, tell=tell)
    blocks = mix(
        sources,
        replay,
        num_blocks=num_blocks(settings),
        share=settings.replay_fraction,
        seed=seed,
    )
    prompt = next(chain(texts.heldout, texts.learned))[:_PROMPT_CHARACTERS]
    opening = tokenizer.encode(prompt, add_special_tokens=False)
    metrics = train_adapter(
        base,
        blocks,
        folder=folder,
        settings=settings,
        seed=seed,
        num_new_rows=new_rows,
        probe=ProbeTexts(texts.heldout, [start_token(tokenizer), *opening], texts.replay_heldout),
        tell=tell,
        spare=spare_replay(replay, settings, seed=seed),
    )
    return {
        **metrics,
        "blocks_sha256": content_hash(blocks),
        "num_tokenized": num_made + num_replayed,
    }


def _learned_blocks(
    tokenizer: PreTrainedTokenizerFast,
    texts: PretrainTexts,
    settings: PretrainSettings,
    replay: Blocks | None,
    *,
    seed: int,
    tell: Tell,
) -> tuple[list[tuple[Blocks, float]], int]:
    """Blocks of each source with its weight, and how many documents were encoded now."""
    cutting = Cutting(settings.block_tokens, settings.documents, settings.overlap_tokens)
    share = 1 - settings.replay_fraction if replay is not None else 1.0
    needed = num_blocks(settings) * settings.block_tokens * share
    weighed = _weighed(texts, settings)
    total = sum(weight for _, weight in weighed)
    made = [
        text_tokens(
            tokenizer,
            source,
            cutting,
            num_tokens=round(needed * weight / total),
            seed=seed,
            tell=tell,
        )
        for source, weight in weighed
    ]
    found = [
        (tokens.blocks(), weight) for (tokens, _), (_, weight) in zip(made, weighed, strict=True)
    ]
    return found, sum(number for _, number in made)


def _weighed(texts: PretrainTexts, settings: PretrainSettings) -> list[tuple[Source, float]]:
    """Each source with its weight."""
    weights = settings.weights
    if not weights:
        return [(texts.learned, 1.0)]
    sources = texts.learned.apart() if isinstance(texts.learned, Texts) else []
    if len(sources) != len(weights):
        raise RecipeError(
            f"weights: {len(weights)} for {len(sources)} files or folders of text",
            "give one for each {text}",
        )
    return list(zip(sources, weights, strict=True))


def replay_blocks(
    tokenizer: PreTrainedTokenizerFast,
    texts: Source,
    settings: NextTokenSettings,
    *,
    seed: int = 0,
    tell: Tell = silent,
) -> tuple[Blocks | None, int]:
    """Blocks of the old language, if any are wanted, and how many documents were encoded now."""
    if settings.replay_fraction == 0 or next(iter(texts), None) is None:
        return None, 0
    share = settings.replay_fraction
    if settings.on_replay_rise == "raise_replay":
        share = max(share, MOST_REPLAY)
    needed = round(num_blocks(settings) * share) * settings.block_tokens
    cutting = Cutting(settings.block_tokens)
    tokens, num_made = text_tokens(
        tokenizer, texts, cutting, num_tokens=needed, seed=seed, tell=tell
    )
    return tokens.blocks(), num_made


def spare_replay(replay: Blocks | None, settings: NextTokenSettings, *, seed: int) -> Blocks | None:
    """As many blocks of the old language as a training has, where it may come to need more.

    Raises:
        RecipeError: There is none.
    """
    if settings.on_replay_rise != "raise_replay":
        return None
    if replay is None:
        raise RecipeError("there is no replay text whose share could be raised", "give {replay}")
    # An order of its own: a block that takes a learned one's place is not its neighbour's copy.
    return mix([(replay, 1.0)], None, num_blocks=num_blocks(settings), share=0, seed=seed + 1)


def num_blocks(settings: NextTokenSettings) -> int:
    """How many blocks make up the tokens asked for."""
    return settings.num_tokens // settings.block_tokens


def check_replay(replay: Source, settings: NextTokenSettings, tell: Tell) -> None:
    """Say where a share of old text is asked for and there is none."""
    if settings.replay_fraction > 0 and next(iter(replay), None) is None:
        tell(
            Progress(
                0,
                note=f"there is no replay text: all is learned, and nothing of the old language is "
                f"kept in mind, though the replay fraction is {settings.replay_fraction:g}",
            )
        )


def _held_out(
    texts: Source, replay: Source, heldout: Iterable[str] | None, most: int, tell: Tell
) -> PretrainTexts:
    if heldout is not None:
        return PretrainTexts(texts, replay, list(heldout))
    first = list(islice(texts, most * _ONE_IN))
    if len(first) < 2:
        raise DataError(f"at least two documents are needed, one to measure on; got {len(first)}")
    number = max(1, min(most, len(first) // _ONE_IN))
    of = f"of {len(first)}" if len(first) < most * _ONE_IN else "of all"
    tell(Progress(0, note=f"{number} {of} documents are held out to measure on"))
    return PretrainTexts(texts.after(number), replay, first[:number])
