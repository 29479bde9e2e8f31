"""Whether to extend a vocabulary, and by how much: gain in speed against the price of more rows.

The model of speed: decoding one text at a time is bound by reading the weights, so a token takes
time in proportion to the weights that it reads (Pope et al., "Efficiently Scaling Transformer
Inference", arXiv 2211.05102, section 2), and

    speed(N) / speed(0) = tokens_per_character(0) / tokens_per_character(N)
                          * step_reads(0) / step_reads(N)

in characters per second, where step_reads is the body and the head with N more rows. It assumes a
short context (the cache of keys and values is not counted, though it shrinks with the tokens and
so speaks for extending), batch 1, all weights in one type, and text like the text measured on.
"""

from dataclasses import dataclass

from hanpaca.tokenizer.advice.curve import CurvePoint, LengthCurve
from hanpaca.tokenizer.advice.speed import ParameterCounts

WORTHWHILE_SPEED = 1.5
"""Least factor for which extending is advised. New rows have to be learned again from text, and
below tens of billions of tokens the model is rather worse for it (Zhao et al., arXiv 2401.01055),
so a smaller gain does not pay. A tokenizer that knows the script already stays below."""
_ENOUGH_OF_THE_GAIN = 0.9
_LEVEL = (
    "With less than half a million characters LoRA without new pieces predicted it better, with "
    "two million the new pieces did (SmolLM2-135M, 2,000 pieces)."
)
"""The arms of the recipe `evening` met after 800 steps of 512 tokens in a run of 1,200, and after
1,200 in one of 4,000, which ends .18 bits a character ahead (benchmarks/evening.py)."""


@dataclass(frozen=True)
class Option:
    """One number of pieces, and what it would mean for this model."""

    point: CurvePoint
    """What was measured."""
    added_parameters: int
    """By the new rows."""
    added_share: float
    """The same, of all parameters of the base."""
    head_share: float
    """The head's share of what decoding one token reads."""
    speed: float
    """Predicted decoding speed in characters per second, of which the base has 1."""
    break_even_characters: int | None
    """Generated characters after which the time saved is as long as the training of the new rows
    took; None for the base, where it is slower, or where the speeds of the machines are not
    known."""


@dataclass(frozen=True)
class Advice:
    """What to do."""

    num_pieces: int
    """Pieces to add; 0 where extending is not advised."""
    sentence: str
    """The same in words, with the reason."""
    options: tuple[Option, ...]
    """All that was compared, the base first."""
    num_held_out_characters: int
    """That were measured on."""


@dataclass(frozen=True)
class MeasuredSpeeds:
    """Of the base model on the user's machines, in tokens per second."""

    training: float
    decoding: float


def weigh(
    curve: LengthCurve, counts: ParameterCounts, speeds: MeasuredSpeeds | None = None
) -> Advice:
    """Weigh each number of pieces, and recommend one or none.

    The rule: take the fastest; if it is not `WORTHWHILE_SPEED` times as fast as the base, do not
    extend; else take the smallest that has nine tenths of its gain, because each row has to be
    learned.

    Args:
        curve: What was measured.
        counts: Sizes of the base model.
        speeds: Where known, they give the break-even in generated characters.
    """
    options = [_option(point, curve.points[0], counts, speeds) for point in curve.points]
    best = max(options, key=lambda option: option.speed)
    chosen = options[0]
    if best.speed >= WORTHWHILE_SPEED:
        enough = 1 + _ENOUGH_OF_THE_GAIN * (best.speed - 1)
        chosen = next(option for option in options if option.speed >= enough)
        sentence = _yes(chosen, options[0], best)
    else:
        sentence = _no(options[0], best)
    return Advice(chosen.point.num_pieces, sentence, tuple(options), curve.num_held_out_characters)


def break_even(
    point: CurvePoint, base: CurvePoint, *, speed: float, speeds: MeasuredSpeeds
) -> int | None:
    """Return the generated characters whose saved time is as long as training the rows took.

    Training takes `training_characters * tokens_per_character / training speed` seconds. The base
    takes `tokens_per_character / decoding speed` seconds for a character, the extended model
    `1 / speed` of that.

    Args:
        point: The extension.
        base: The base's own point.
        speed: Of decoding with the extension, in the base's.
        speeds: In tokens per second.
    """
    if speed <= 1:
        return None
    seconds = point.training_characters * point.text_tokens_per_character / speeds.training
    saved = base.text_tokens_per_character / speeds.decoding * (1 - 1 / speed)
    return round(seconds / saved)


def _option(
    point: CurvePoint, base: CurvePoint, counts: ParameterCounts, speeds: MeasuredSpeeds | None
) -> Option:
    added = counts.added_parameters(point.num_pieces)
    shorter = base.text_tokens_per_character / point.text_tokens_per_character
    speed = shorter * counts.step_reads() / counts.step_reads(point.num_pieces)
    return Option(
        point=point,
        added_parameters=added,
        added_share=added / counts.num_parameters,
        head_share=counts.head_share(point.num_pieces),
        speed=speed,
        break_even_characters=break_even(point, base, speed=speed, speeds=speeds)
        if speeds and point.num_pieces
        else None,
    )


def _yes(chosen: Option, base: Option, best: Option) -> str:
    sentence = (
        f"Extend by {chosen.point.num_pieces:,} pieces: {_tokens(chosen)} tokens a character "
        f"instead of {_tokens(base)}, so about {chosen.speed:.2f} times the characters per second, "
        f"for {chosen.added_parameters / 1e6:.1f} million more parameters "
        f"({chosen.added_share:.1%}). Train them on at least "
        f"{short_number(chosen.point.training_characters)} characters"
    )
    if chosen is best:
        return f"{sentence}. {_LEVEL}"
    return (
        f"{sentence}; {best.point.num_pieces:,} pieces would bring it to only {best.speed:.2f} "
        f"times, and need {short_number(best.point.training_characters)}. {_LEVEL}"
    )


def _no(base: Option, best: Option) -> str:
    if best is base:
        reason = "none of the sizes would make it faster"
    else:
        reason = (
            f"even {best.point.num_pieces:,} pieces would make it only {best.speed:.2f} times as "
            f"fast, and below {WORTHWHILE_SPEED:g} times new rows are not worth their training"
        )
    return (
        f"Do not extend: the tokenizer needs {_tokens(base)} tokens a character already; {reason}."
    )


def _tokens(option: Option) -> str:
    return f"{option.point.text_tokens_per_character:.2f}"


def short_number(number: int) -> str:
    """Write a large number shortly.

    >>> short_number(41_234_567)
    '41 million'
    """
    for size, name in ((10**9, " billion"), (10**6, " million")):
        if number >= size:
            value = number / size
            return f"{value:.0f}{name}" if value >= 10 else f"{value:.1f}{name}"
    return f"{number:,}"
