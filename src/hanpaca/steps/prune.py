"""A model without the entries of its vocabulary that protected text never needs."""

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from hanpaca.checkpoints.dtypes import DTYPES
from hanpaca.checkpoints.model import read_tensors
from hanpaca.errors import ArtifactError
from hanpaca.files import whole
from hanpaca.manifests import PRUNED, model_files, write_result_manifest
from hanpaca.progress import Progress, Tell, silent
from hanpaca.steps.grow import EMBEDDING, check_kept_rows
from hanpaca.tokenizer.conversion.fast import with_fast_tokenizer
from hanpaca.tokenizer.extension.extend import write_tokenizer
from hanpaca.tokenizer.open import open_tokenizer
from hanpaca.tokenizer.prune import Pruned, prune_tokenizer

_VERSION = 1


@dataclass(frozen=True)
class PrunedModel:
    """What became of a vocabulary."""

    num_before: int
    """Entries of the base's tokenizer."""
    num_after: int
    """And of the smaller one."""
    num_unused: int
    """Entries that could have been taken out."""
    dropped: tuple[str, ...]
    """Those that are gone, as text, the last learned first."""
    unseen_growth: float
    """Share of tokens that text like the protected takes more that was not protected, as measured
    on one text in ten."""
    rows_dropped: int
    """Rows that the model's embedding has no more, unused padding too; 0 for a tokenizer alone."""


def prune(
    base: Path | str,
    protect: Iterable[str],
    output: Path | str,
    *,
    num_pieces: int | None = None,
    tell: Tell = silent,
) -> PrunedModel:
    """Write a smaller model that cuts protected texts as the base does, and weighs them alike.

    The ids of what remains close up, so adapters that have rows of the old vocabulary do not fit.
    As some competitors are gone, a protected text has the probability it had or a little more.

    >>> found = prune(BASE, ["The dog sees the cat."] * 20, OUTPUT, num_pieces=9)
    >>> found.num_before - found.num_after
    9

    Args:
        base: Folder of a model, or of a tokenizer alone.
        protect: Documents that must keep their tokens, of every language that counts.
        output: Folder to write; must not exist. Its manifest says what is gone.
        num_pieces: Entries to take out, the last learned first; None for all that can be.
        tell: Called when something takes time.

    Raises:
        DataError: There is no text, or so many entries cannot be taken out.
        ArtifactError: The base cannot be read or made smaller safely, or `output` exists.
        ResourceError: A package is missing, or it cannot be written there.
    """
    begun = datetime.now(UTC)
    base = with_fast_tokenizer(Path(base), lambda note: tell(Progress(0, note=note)))
    with whole(Path(output)) as folder:
        tokenizer = open_tokenizer(base)
        tell(Progress(0, note="looking for entries that no text needs"))
        digest = hashlib.sha256()
        found = prune_tokenizer(tokenizer, _hashed(protect, digest), num_pieces=num_pieces)
        folder.mkdir()
        num_rows = 0
        if (base / "config.json").is_file():
            tell(Progress(0, note="writing the model"))
            num_rows = _write_model(base, found, folder)
        write_tokenizer(found.tokenizer, base, folder)
        metrics = PrunedModel(
            num_before=len(tokenizer.ids),
            num_after=len(found.kept_ids),
            num_unused=found.num_unused,
            dropped=found.dropped,
            unseen_growth=round(found.unseen_growth, 6),
            rows_dropped=max(num_rows - len(found.kept_ids), 0),
        )
        write_result_manifest(
            folder,
            PRUNED,
            {"num_pieces": num_pieces, "protected_sha256": digest.hexdigest()},
            model_files(base),
            version=_VERSION,
            metrics=asdict(metrics),
            begun=begun,
        )
    return metrics


def _hashed(texts: Iterable[str], digest: "hashlib._Hash") -> Iterator[str]:
    for text in texts:
        digest.update(text.encode(errors="surrogatepass") + b"\0")
        yield text


def _write_model(base: Path, pruned: Pruned, folder: Path) -> int:
    """Write the model's weights and configuration; how many rows its table had."""
    from hanpaca.model.load import load_model
    from hanpaca.model.new_rows import keep_rows

    stored = read_tensors(base)[EMBEDDING]
    if pruned.kept_ids[-1] >= stored.shape[0]:
        raise ArtifactError(
            f"{base}: the tokenizer has an entry of id {pruned.kept_ids[-1]}, the embedding only "
            f"{stored.shape[0]} rows; use the tokenizer the model was trained with"
        )
    model = load_model(base, dtype=DTYPES[stored.dtype])
    now = {number: place for place, number in enumerate(pruned.kept_ids)}
    for name, config in (
        ("config.json", model.config),
        ("generation_config.json", model.generation_config),
    ):
        for key, value in _renumbered(vars(config), now, base / name).items():
            setattr(config, key, value)
    keep_rows(model, pruned.kept_ids)
    model.save_pretrained(folder)
    check_kept_rows(base, folder, pruned.kept_ids)
    return int(stored.shape[0])


def _renumbered(config: Mapping[str, Any], now: Mapping[int, int], file: Path) -> dict[str, Any]:
    """The settings that name tokens by their ids, with the ids that these have now."""
    found: dict[str, Any] = {}
    for key, value in config.items():
        if not key.endswith("_token_id") or value is None:
            continue
        ids = value if isinstance(value, list) else [value]
        lacking = [number for number in ids if number >= 0 and number not in now]
        if lacking:
            raise ArtifactError(
                f"{file}: {key} is {lacking[0]}, and the tokenizer has no such entry: mend it first"
            )
        moved = [now.get(number, number) for number in ids]
        found[key] = moved if isinstance(value, list) else moved[0]
    return found
