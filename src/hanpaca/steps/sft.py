"""Instruction tuning: LoRA learns to answer; the loss is on the answers only."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerFast

from hanpaca.data.conversations import Conversation, as_row
from hanpaca.data.general import general_version
from hanpaca.data.pack import Blocks, content_hash, mix
from hanpaca.data.sources import Source, as_source
from hanpaca.data.templates import Writer, choose_template
from hanpaca.errors import DataError
from hanpaca.files import CHECKPOINTS, describe_file, resumable
from hanpaca.model.load import load_tokenizer
from hanpaca.progress import Progress, Tell, silent
from hanpaca.settings import SftSettings
from hanpaca.steps.model_file import model_file
from hanpaca.steps.pretrain import check_replay, num_blocks, replay_blocks, spare_replay
from hanpaca.steps.self_replay import self_replay
from hanpaca.together import together
from hanpaca.tokenizer.conversion.fast import with_fast_tokenizer
from hanpaca.training.adapter import ProbeTexts, train_adapter
from hanpaca.training.begun import num_new_rows, training_key
from hanpaca.training.blocks import conversation_tokens

TEMPLATE = "chat_template.jinja"
"""Kept beside the adapter: a merged model must be asked as it was taught."""


@dataclass(frozen=True)
class SftTexts:
    """What is learned, what is replayed, and what is probed."""

    conversations: Sequence[Conversation]
    replay: Source
    heldout: Sequence[str]
    question: str
    """What the model in training is asked now and then; None greets it."""
    places: Sequence[str] = ()
    """Where each conversation comes from, `file:row`, for messages."""
    skip_bad_rows: bool = False
    """Leave out and count what the template refuses."""
    self_replay_model: Path | None = None
    """Answers our general questions, where the settings ask for it; None is the base."""
    replay_heldout: Sequence[str] = ()
    """Of the old language, to measure on."""


@together
def sft(  # noqa: PLR0913  # each is a choice of its own
    base: Path | str,
    conversations: Iterable[Conversation],
    output: Path | str,
    settings: SftSettings,
    *,
    places: Sequence[str] = (),
    skip_bad_rows: bool = False,
    replay: Iterable[str] = (),
    heldout: Iterable[str] = (),
    replay_heldout: Iterable[str] = (),
    question: str | None = None,
    self_replay_model: Path | str | None = None,
    new_rows: int | None = None,
    seed: int = 0,
    tell: Tell = silent,
) -> dict[str, Any]:
    """Tune on conversations, with the loss on answers only, and write an adapter.

    An interrupted training is gone on from where the same base, conversations, settings and seed
    are given again, by content; where any is another, it is left alone and nothing is begun.

    Args:
        base: Folder of the model that the adapter will belong to.
        conversations: To learn from; see `hanpaca.data.conversations`.
        output: Folder to write; must not exist.
        settings: How much is learned, and how; `settings.template` is kept beside the adapter.
        places: Where each conversation comes from, for messages: `file:row`.
        skip_bad_rows: Leave out and count conversations that the template refuses.
        replay: Documents of the old language; `settings.replay_fraction` of the training is theirs.
        heldout: Documents to measure bits per character on, now and then.
        replay_heldout: The same of the old language, which are not in `replay`.
        question: What the model is asked now and then; None takes the first that is learned.
        self_replay_model: Answers the questions of `settings.self_replay_conversations`: a model
            from before it learned the new language, in any form. None is `base`.
        new_rows: As for `pretrain`.
        seed: Of every random choice.
        tell: Called after each step.

    Returns:
        Metrics: `num_steps`, `num_tokens`, `loss` (nats a token, of the last step), …

    Raises:
        DataError: There is no conversation.
        RecipeError: The template or the length of blocks does not suit.
        ArtifactError: The base cannot be read, or `output` exists.
        HanpacaError: The loss became infinite or no number.

    Examples:
        >>> from hanpaca.data.conversations import Message
        >>> talk = (Message("user", "写一首诗。"), Message("assistant", "白日依山尽，黄河入海流。"))
        >>> settings = SftSettings(num_tokens=512, block_tokens=128)
        >>> metrics = sft(base, [talk], folder / "adapter", settings)
        >>> metrics["num_steps"]
        2
    """
    base = with_fast_tokenizer(Path(base), lambda note: tell(Progress(0, note=note)))
    load_tokenizer(base)  # says what is wrong before everything is hashed
    learned = list(conversations)
    if not learned:
        raise DataError("there is no conversation to learn from")
    question = question or learned[0][0].content
    old = as_source(replay)
    check_replay(old, settings, tell)
    answers, made_of_it = _self_replay_model(Path(self_replay_model or base), settings, tell)
    probed, old_probed = list(heldout), list(replay_heldout)
    material = SftTexts(learned, old, probed, question, places, skip_bad_rows, answers, old_probed)
    rows = num_new_rows(base) if new_rows is None else new_rows
    made_of = [seed, rows, question, *made_of_it]
    key = training_key("sft", base, _given(material), settings=settings, made_of=made_of)
    with resumable(Path(output), key, leftovers=[CHECKPOINTS]) as folder:
        return sft_in(
            folder, base, material, settings=settings, new_rows=rows, seed=seed, tell=tell
        )


def _given(texts: SftTexts) -> dict[str, list[object]]:
    given: dict[str, list[object]] = {
        "learned": [as_row(one) for one in texts.conversations],
        "replay": [texts.replay.digest()],
        "heldout": list(texts.heldout),
    }
    if texts.replay_heldout:  # a later one: what was begun before goes on
        given["replay_heldout"] = list(texts.replay_heldout)
    return given


def sft_in(
    folder: Path,
    base: Path,
    texts: SftTexts,
    *,
    settings: SftSettings,
    new_rows: int,
    seed: int,
    tell: Tell = silent,
) -> dict[str, Any]:
    """Do the work of `sft` in a folder that somebody keeps for it, such as a run's stage."""
    tokenizer = load_tokenizer(base)
    tokenizer.chat_template = chat_template(tokenizer, settings)
    answers, num_made = conversation_tokens(
        tokenizer,
        texts.conversations,
        block_tokens=settings.block_tokens,
        num_tokens=settings.num_tokens,
        places=texts.places,
        skip_bad_rows=texts.skip_bad_rows,
        seed=seed,
        tell=tell,
    )
    own: list[Conversation] = []
    if settings.self_replay_conversations:
        model = texts.self_replay_model or base
        own = self_replay(model, folder, settings, seed=seed, tell=tell)
    replay, num_replayed = replay_blocks(tokenizer, texts.replay, settings, seed=seed, tell=tell)
    rest = 1 - (settings.replay_fraction if replay is not None else 0)
    blocks = mix(
        _weighed(answers.blocks(), tokenizer, own, settings, rest=rest, seed=seed),
        replay,
        num_blocks=num_blocks(settings),
        share=settings.replay_fraction,
        seed=seed,
    )
    writer = Writer.of(tokenizer)
    prompt = writer.render([{"role": "user", "content": texts.question}], True)
    metrics = train_adapter(
        base,
        blocks,
        folder=folder,
        settings=settings,
        seed=seed,
        num_new_rows=new_rows,
        probe=ProbeTexts(texts.heldout, writer.encode(prompt)[0], texts.replay_heldout),
        tell=tell,
        spare=spare_replay(replay, settings, seed=seed),
    )
    (folder / TEMPLATE).write_text(str(tokenizer.chat_template), encoding="utf-8")
    return {
        **metrics,
        **{f"num_{name.replace(' ', '_')}": number for name, number in answers.counts.items()},
        **({"num_self_replay_conversations": len(own)} if own else {}),
        "blocks_sha256": content_hash(blocks),
        "num_tokenized": num_made + num_replayed,
    }


def _self_replay_model(
    model: Path, settings: SftSettings, tell: Tell
) -> tuple[Path | None, list[str]]:
    """The file that answers, and what of it decides the training; nothing where none is asked."""
    if not settings.self_replay_conversations:
        return None, []
    file = model_file(model, exact=True, tell=tell)
    return file, [describe_file(file, name=file.name).sha256, general_version()]


def _weighed(
    learned: Blocks,
    tokenizer: PreTrainedTokenizerFast,
    own: Sequence[Conversation],
    settings: SftSettings,
    *,
    rest: float,
    seed: int,
) -> list[tuple[Blocks, float]]:
    """What is learned and the base's own answers, as shares of what text leaves to them."""
    if not own:
        return [(learned, 1.0)]
    found, _ = conversation_tokens(
        tokenizer,
        own,
        block_tokens=settings.block_tokens,
        num_tokens=settings.num_tokens,
        seed=seed,
    )
    share = settings.self_replay_fraction / rest
    return [(learned, 1 - share), (found.blocks(), share)]


def chat_template(tokenizer: PreTrainedTokenizerFast, settings: SftSettings) -> str:
    """The Jinja template conversations are written with.

    Raises:
        RecipeError: The base model has none of its own, or nothing would end an answer.
    """
    return choose_template(tokenizer, settings.template)
