"""Say what is in files of text or instructions."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypedDict, Unpack

from hanpaca.data.cleaning.characters import normalised
from hanpaca.data.cleaning.evaluation import evaluation_texts
from hanpaca.data.cleaning.judging import CountTokens
from hanpaca.data.cleaning.leaks import Grams
from hanpaca.data.cleaning.report import DataReport, Evaluation, report_of
from hanpaca.data.cleaning.rows import find_sources
from hanpaca.data.cleaning.settings import CleanSettings
from hanpaca.data.cleaning.survey import Survey, survey
from hanpaca.progress import Tell, silent
from hanpaca.tokenizer.open import open_tokenizer


class DataReading(TypedDict, total=False):
    """How files are read, and what they are held against."""

    evaluation: Sequence[Path | str]
    """Evaluation files; rows that hold their texts are leaks."""
    encoding: str
    """Of all files, by its Python name; "auto", as usual, finds it out for each."""
    text_field: str
    """Field of a `.jsonl` line, or column of a `.parquet` file, that holds the text."""


def check_data(
    paths: Sequence[Path | str],
    *,
    settings: CleanSettings | None = None,
    tokenizer: Path | str | None = None,
    block_tokens: int | None = None,
    tell: Tell = silent,
    **reading: Unpack[DataReading],
) -> DataReport:
    """Count rows, lengths, scripts, duplicates, leaks and what cannot be read; write nothing.

    >>> found = check_data([TEXT])
    >>> found.num_rows, found.dropped, found.scripts[0].name
    (3, {'exact duplicate': 1}, 'Han')

    Args:
        paths: Files of text (.txt, .md, .jsonl, .parquet) or conversations (.json, .jsonl), packed
            or not, or folders of them; texts alone, or conversations alone.
        settings: The rules that cleaning would follow; the usual ones where none are given.
        tokenizer: Folder or file of one, to count tokens with; of a conversation the turns count,
            without what a chat template puts between them.
        block_tokens: Size of a training sequence, to count the rows that would be cut.
        tell: Called with signs of life.
        reading: See `DataReading`.

    Raises:
        DataError: A path is missing or holds nothing readable.
        RecipeError: No path is given, one is given twice, texts and conversations are mixed, or a
            script is unknown.
        ArtifactError: The tokenizer cannot be read.
        ResourceError: A file needs a package that is not installed.
    """
    counted = _counter(Path(tokenizer)) if tokenizer else None
    found, evaluation = judge(paths, settings, count_tokens=counted, tell=tell, **reading)
    return report_of(found, block_tokens=block_tokens, evaluation=evaluation)


def judge(
    paths: Sequence[Path | str],
    settings: CleanSettings | None,
    *,
    count_tokens: CountTokens | None = None,
    tell: Tell = silent,
    **reading: Unpack[DataReading],
) -> tuple[Survey, Evaluation | None]:
    """Read all rows once; see `check_data` for the arguments and errors."""
    settings = settings or CleanSettings()
    text_field = reading.get("text_field", "text")
    sources = find_sources(
        [Path(path) for path in paths],
        encoding=reading.get("encoding", "auto"),
        text_field=text_field,
    )
    grams, evaluation = None, None
    if held_out := [Path(path) for path in reading.get("evaluation", ())]:
        texts = map(normalised, evaluation_texts(held_out))
        grams = Grams.of(texts, num_units=settings.leak_units)
        evaluation = Evaluation(grams.num_texts, grams.num_short)
    found = survey(
        sources,
        settings,
        text_field=text_field,
        grams=grams,
        count_tokens=count_tokens,
        tell=tell,
    )
    return found, evaluation


def _counter(tokenizer: Path) -> Callable[[Sequence[str]], Sequence[int]]:
    vocabulary = open_tokenizer(tokenizer)
    return lambda texts: [len(ids) for ids in vocabulary.encode(texts)]
