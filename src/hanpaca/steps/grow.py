"""A base model gets a row for every new piece of its vocabulary; every old row stays as it was."""

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from hanpaca.checkpoints.dtypes import DTYPES
from hanpaca.checkpoints.meta import EMBEDDING, HEAD
from hanpaca.checkpoints.model import read_tensors
from hanpaca.checkpoints.rows import open_rows
from hanpaca.checkpoints.tensors import Stored, matrix_shape
from hanpaca.data.builtin.packages import dictionary_file
from hanpaca.data.translations import read_translations
from hanpaca.errors import ArtifactError, DataError
from hanpaca.files import Artifact, describe_file, whole
from hanpaca.manifests import GROWN, model_files, write_result_manifest
from hanpaca.model.load import load_model, load_tokenizer
from hanpaca.model.new_rows import Spelling, grow_model
from hanpaca.model.start_rows import Growth, start_rows
from hanpaca.model.twins import piece_texts
from hanpaca.progress import Progress, Tell, silent
from hanpaca.settings import TIED_TWINS, RowsSettings
from hanpaca.tokenizer.conversion.fast import with_fast_tokenizer
from hanpaca.tokenizer.folder import copy_tokenizer
from hanpaca.tokenizer.open import open_tokenizer
from hanpaca.tokenizer.vocabulary import new_spellings

_VERSION = 1


def grow(
    base: Path | str,
    tokenizer: Path | str,
    texts: Iterable[str],
    output: Path | str,
    *,
    settings: RowsSettings | None = None,
    replay: Iterable[str] = (),
    seed: int = 0,
    tell: Tell = silent,
) -> dict[str, Any]:
    """Write a base with a row for each new piece of its extended tokenizer, and prove the rest.

    Args:
        base: Folder of the base model.
        tokenizer: Folder of its extended tokenizer.
        texts: Documents of the new language, for starts that look at text.
        output: Folder to write; must not exist. Its manifest says how many rows are new.
        settings: How the rows start; a dictionary is found from the folder that you are in.
        replay: Documents of the old language, which twins are kept out of.
        seed: Of random starts.
        tell: Called when something takes time.

    Returns:
        `num_old_rows`, `num_new_rows`, whether the head is `tied`, and with a dictionary the
        pieces that it has as they are, `num_translated`.

    Raises:
        DataError: There is no text, none of the old language for twins, or no dictionary to read.
        ResourceError: A builtin dictionary's package is missing.
        ArtifactError: The base cannot be read, the tokenizer does not extend it; `output` exists.

    >>> grow(base, extended, texts, folder / "grown")
    {'num_old_rows': 394, 'num_new_rows': 12, 'tied': True}
    """
    begun = datetime.now(UTC)
    settings = settings or RowsSettings()
    base = with_fast_tokenizer(Path(base), lambda note: tell(Progress(0, note=note)))
    spellings = extension_of(base, tokenizer := Path(tokenizer))
    documents = list(texts)
    if not documents:
        raise DataError("there is no text of the new language to start from")
    with whole(Path(output)) as folder:
        folder.mkdir()
        given, old = (folder, base, tokenizer, spellings, documents), list(replay)
        metrics = grow_in(*given, settings=settings, old_texts=old, seed=seed)
        config = {**settings.model_dump(mode="json"), "seed": seed}
        read = [*model_files(base), *model_files(tokenizer), *_dictionary(settings)]
        write_result_manifest(
            folder, GROWN, config, read, version=_VERSION, metrics=metrics, begun=begun
        )
    if metrics["tied"] and settings.twins:
        tell(Progress(0, note=f"{TIED_TWINS} (untie)"))
    return metrics


def grow_in(
    folder: Path,
    base: Path,
    extended: Path,
    spellings: Sequence[Spelling],
    texts: Sequence[str],
    *,
    settings: RowsSettings,
    old_texts: Sequence[str] = (),
    seed: int,
) -> dict[str, Any]:
    """Do the work of `grow` in a folder that somebody keeps for it, such as a run's stage.

    Args:
        folder: Gets model and tokenizer.
        base: The base model's folder.
        extended: The folder of its extended tokenizer.
        spellings: Base tokens of each new piece; there may be none.
        texts: Of the new language, for starts that look at text.
        settings: How the rows start.
        old_texts: Of the old language, which twins are kept out of.
        seed: Of random starts.

    Raises:
        DataError: There is no text of the old language for twins; or the dictionary cannot be read,
            or has none of the pieces.
        ArtifactError: The base cannot be read, or the result is not the base and new rows.
    """
    old, new = load_tokenizer(base), load_tokenizer(extended)
    stored = embedding_of(base)
    _check_sizes(
        extended,
        num_rows=stored.shape[0],
        num_old=len(old),
        num_new=len(new),
        num_added=len(spellings),
    )
    model = load_model(base, dtype=DTYPES[stored.dtype])
    named = settings.dictionary if spellings else None
    translations = read_translations(dictionary_file(named)) if named else {}
    growth = Growth(model, old, new, spellings, texts, seed, old_texts, translations)
    input_rows, output_rows = start_rows(growth, settings)
    grow_model(model, folder, num_old=len(old), input_rows=input_rows, output_rows=output_rows)
    copy_tokenizer(extended, folder)
    check_kept_rows(base, folder, range(len(old)))
    known = [one for one in piece_texts(new, len(old)) if translations.get(one)] if named else []
    return {
        "num_old_rows": len(old),
        "num_new_rows": len(spellings),
        "tied": growth.tied and output_rows is None,
        **({"num_translated": len(known)} if named else {}),
    }


def extension_of(base: Path, extended: Path) -> list[list[int]]:
    """Base tokens of each piece that an extended tokenizer has after the base's.

    Raises:
        ArtifactError: It has none, or does not begin with the base's entries.
    """
    spellings = new_spellings(open_tokenizer(base), open_tokenizer(extended))
    if not spellings:
        raise ArtifactError(f"{extended}: has no piece that {base} has not")
    return spellings


def _dictionary(settings: RowsSettings) -> list[Artifact]:
    if settings.dictionary is None:
        return []
    file = dictionary_file(settings.dictionary)
    return [describe_file(file, name=file.name)]


def _check_sizes(
    extended: Path, *, num_rows: int, num_old: int, num_new: int, num_added: int
) -> None:
    """Each new piece's id must be the number of its row."""
    if num_old > num_rows:
        raise ArtifactError(
            f"{extended}: the base's tokenizer has {num_old} entries, its embedding {num_rows} "
            "rows: a token was added without a row; use the tokenizer the model was trained with"
        )
    if num_new != num_old + num_added:
        raise ArtifactError(
            f"{extended}: {num_new} entries are not the base's {num_old} and {num_added} new "
            "pieces after them; extend the base's tokenizer again"
        )


def embedding_of(base: Path) -> Stored:
    """The table of a model's vocabulary.

    Raises:
        ArtifactError: There are no weights, or it has no such table.
    """
    tensors = read_tensors(base)
    if EMBEDDING not in tensors:
        raise ArtifactError(f"{base}: no weight {EMBEDDING}: it is not a Llama-style model")
    return tensors[EMBEDDING]


def check_kept_rows(base: Path, made: Path, kept_ids: Sequence[int]) -> None:
    """Prove that a model has every weight of the base, bit for bit, and these rows of its tables.

    Args:
        base: Folder of the base.
        made: Folder of the model.
        kept_ids: Rows of the base's tables that are its first, growing.

    Raises:
        ArtifactError: Names the tensor that is not.
    """
    with open_rows(read_tensors(base)) as before, open_rows(read_tensors(made)) as after:
        for name, old in before.items():
            # A tied head may lie in the base's files a second time.
            new = after[EMBEDDING if name == HEAD and name not in after else name]
            tables = name in (EMBEDDING, HEAD)
            num_rows = matrix_shape(old.shape)[0]
            rows = kept_ids if tables else range(num_rows)
            for start in range(0, num_rows, old.block_rows):
                stop = min(start + old.block_rows, num_rows)
                first, end = bisect_left(rows, start), bisect_left(rows, stop)
                chosen = torch.tensor(rows[first:end], dtype=torch.long) - start
                pair = old.read(start, stop)[chosen], new.read(first, end)
                if not torch.equal(*(one.view(torch.int32) for one in pair)):
                    raise ArtifactError(f"{made}: {name} is no longer what it was in {base}")
