"""Advise whether to extend a vocabulary, and by how much."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TypedDict, Unpack

from hanpaca.errors import RecipeError
from hanpaca.files import whole
from hanpaca.progress import Tell, silent
from hanpaca.report.advice_page import ADVICE_HEADER, advice_chart, advice_page, advice_rows
from hanpaca.report.shown import notebook_table, plain_table
from hanpaca.report.wording import ENGLISH, checked_language
from hanpaca.tokenizer.advice.curve import measure_curve
from hanpaca.tokenizer.advice.speed import ParameterCounts, counts_of_sizes, read_counts
from hanpaca.tokenizer.advice.weigh import Advice, MeasuredSpeeds, weigh
from hanpaca.tokenizer.open import open_tokenizer


class ModelNumbers(TypedDict, total=False):
    """What is known of the model and the machines."""

    num_parameters: int | None
    """Of the model, where the base folder has no `config.json`; with `hidden_size`."""
    hidden_size: int | None
    tied: bool
    """Embedding and head are one; likewise."""
    train_speed: float | None
    """Tokens per second in training, for the break-even; with `decode_speed`."""
    decode_speed: float | None


@dataclass(frozen=True)
class ShownAdvice(Advice):
    """An advice that can be written as a page; in a notebook it shows as a table."""

    def write_page(self, path: Path | str, *, lang: str = ENGLISH) -> None:
        """Write the page in `lang`; a file of this name is replaced.

        Raises:
            RecipeError: No page is written in `lang`.
            ArtifactError: A folder has this name.
            ResourceError: It cannot be written there.
        """
        lang = checked_language(lang)
        with whole(Path(path), replace=True) as partial:
            partial.write_text(advice_page(self, lang=lang), encoding="utf-8")

    def write_chart(self, path: Path | str, *, lang: str = ENGLISH) -> None:
        """Write the plot alone, as SVG; a file of this name is replaced.

        Raises:
            RecipeError: No page is written in `lang`.
            ArtifactError: A folder has this name.
            ResourceError: It cannot be written there, or matplotlib is missing.
        """
        drawing = advice_chart(self, lang=checked_language(lang), alone=True)
        with whole(Path(path), replace=True) as partial:
            partial.write_text(drawing, encoding="utf-8")

    def __str__(self) -> str:
        return f"{plain_table((ADVICE_HEADER, advice_rows(self)))}\n\n{self.sentence}"

    def _repr_html_(self) -> str:
        return notebook_table([(ADVICE_HEADER, advice_rows(self))], lead=self.sentence)


def advise(
    base: Path | str,
    texts: Iterable[str],
    *,
    num_pieces: int = 20_000,
    scripts: Sequence[str] = (),
    tell: Tell = silent,
    **numbers: Unpack[ModelNumbers],
) -> ShownAdvice:
    """Learn pieces once, measure 250, 500, 1,000 … of them on text held out, and recommend.

    ```python
    found = advise("llama-7b", texts, num_pieces=8000)
    ```

    Args:
        base: Folder of the base: its tokenizer, and `config.json` for its sizes.
        texts: Documents, read once; one in twenty is measured on.
        num_pieces: Largest extension to think of.
        scripts: Unicode script names; none to have them guessed from the texts.
        tell: Called with signs of life.
        numbers: See `ModelNumbers`.

    Raises:
        RecipeError: Numbers that belong together are given singly, or scripts make no sense.
        DataError: The texts have no target text, or too few documents.
        ArtifactError: The base cannot be used.
    """
    base = Path(base)
    if base.is_file():
        open_tokenizer(base)  # tells a GGUF file before sizes are looked for in it
    counts, speeds = _counts(base, numbers), _speeds(numbers)
    curve = measure_curve(base, texts, max_pieces=num_pieces, scripts=scripts, tell=tell)
    found = weigh(curve, counts, speeds)
    return ShownAdvice(**{field.name: getattr(found, field.name) for field in fields(Advice)})


def _counts(base: Path, numbers: ModelNumbers) -> ParameterCounts:
    num_parameters, hidden_size = numbers.get("num_parameters"), numbers.get("hidden_size")
    if num_parameters is None and hidden_size is None:
        return read_counts(base)
    if num_parameters is None or hidden_size is None:
        raise RecipeError(
            "half of the model's size is missing",
            "give {num_parameters} and {hidden_size} together",
        )
    num_rows = len(open_tokenizer(base).ids)
    is_tied = numbers.get("tied", False)
    return counts_of_sizes(num_parameters, hidden_size, num_rows=num_rows, is_tied=is_tied)


def _speeds(numbers: ModelNumbers) -> MeasuredSpeeds | None:
    training, decoding = numbers.get("train_speed"), numbers.get("decode_speed")
    if training is None and decoding is None:
        return None
    if training is None or decoding is None or min(training, decoding) <= 0:
        raise RecipeError(
            "a speed is missing or no speed",
            "give {train_speed} and {decode_speed} together, both above 0",
        )
    return MeasuredSpeeds(training, decoding)
