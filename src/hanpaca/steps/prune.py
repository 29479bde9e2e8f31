"""A model without the entries of its vocabulary that protected text never needs."""

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from hanpaca.checkpoints.dtypes import DTYPES
from hanpaca.errors import ArtifactError
from hanpaca.files import read_json, whole
from hanpaca.manifests import PRUNED, model_files, write_result_manifest
from hanpaca.progress import Progress, Tell, silent
from hanpaca.steps.grow import check_kept_rows, embedding_of
from hanpaca.tokenizer.added import check_no_more_tokens, named_tokens, role_tokens
from hanpaca.tokenizer.chat_templates import read_chat_templates, written_by
from hanpaca.tokenizer.conversion.fast import with_fast_tokenizer
from hanpaca.tokenizer.extension.extend import write_tokenizer
from hanpaca.tokenizer.folder import read_config
from hanpaca.tokenizer.open import Extendable, open_tokenizer
from hanpaca.tokenizer.prune import Pruned, prune_tokenizer
from hanpaca.tokenizer.template_limits import check_ends
from hanpaca.training.begun import num_new_rows

_VERSION = 1
_CONFIG, _GENERATION, _ADAPTER = "config.json", "generation_config.json", "adapter_config.json"
_ID = "_token_id"
_SUPPRESSED = ("suppress_tokens", "begin_suppress_tokens")
"""Lists of ids in `generation_config.json`."""
_SEQUENCES = ("bad_words_ids", "force_words_ids", "sequence_bias")
"""Ids there in other shapes."""


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
    unseen_growth: float | None
    """Share of tokens that text like the protected takes more where it is not protected, as
    measured on a tenth of it; None where there is too little."""
    rows_dropped: int
    """Rows that the model's embedding has no more, unused padding too; 0 for a tokenizer alone."""
    num_new_rows: int
    """Of those that `grow` added to the base, the rows that are still there, the last ones."""


def prune(
    base: Path | str,
    protect: Iterable[str],
    output: Path | str,
    *,
    num_pieces: int | None = None,
    tell: Tell = silent,
) -> PrunedModel:
    """Write a smaller model that cuts protected texts as the base does, and weighs them alike.

    What its chat templates write is protected too, and every token that its files name. The ids of
    what remains close up, so adapters that have rows of the old vocabulary do not fit. As some
    competitors are gone, a protected text has the probability it had or a little more.

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
        RecipeError: `num_pieces` is less than one.
        DataError: There is no text, or so many entries cannot be taken out.
        ArtifactError: The base cannot be read or made smaller safely, or `output` exists.
        ResourceError: A package is missing, or it cannot be written there.
    """
    begun = datetime.now(UTC)
    base, tokenizer = _opened(Path(base), tell)
    keep, written = _named_tokens(base, tokenizer), _written_by_templates(base)
    with whole(Path(output)) as folder:
        tell(Progress(0, note="looking for entries that no text needs"))
        digest = hashlib.sha256()
        texts = _hashed(protect, digest)
        found = prune_tokenizer(tokenizer, texts, num_pieces=num_pieces, keep=keep, also=written)
        folder.mkdir()
        num_rows = 0
        if (base / _CONFIG).is_file():
            tell(Progress(0, note="writing the model"))
            num_rows = _write_model(base, found, folder)
        write_tokenizer(found.tokenizer, base, folder)
        metrics = _told(base, tokenizer, found, num_rows)
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


def _told(base: Path, tokenizer: Extendable, pruned: Pruned, num_rows: int) -> PrunedModel:
    first_new = len(tokenizer.ids) - num_new_rows(base)
    return PrunedModel(
        num_before=len(tokenizer.ids),
        num_after=len(pruned.kept_ids),
        num_unused=pruned.num_unused,
        dropped=pruned.dropped,
        unseen_growth=pruned.unseen_growth,
        rows_dropped=max(num_rows - len(pruned.kept_ids), 0),
        num_new_rows=sum(number >= first_new for number in pruned.kept_ids),
    )


def _opened(base: Path, tell: Tell) -> tuple[Path, Extendable]:
    if not base.is_dir():
        raise ArtifactError(f"{base}: no such folder; give the folder of a model or a tokenizer")
    if (base / _ADAPTER).is_file():
        raise ArtifactError(f"{base}: an adapter; give the folder of its base")
    base = with_fast_tokenizer(base, lambda note: tell(Progress(0, note=note)))
    tokenizer = open_tokenizer(base)
    check_no_more_tokens(tokenizer, "its row would be lost")
    if (base / _CONFIG).is_file():
        embedding_of(base)
    else:
        tell(Progress(0, note=f"{base}: no {_CONFIG}, so the tokenizer alone is made smaller"))
    return base, tokenizer


def _named_tokens(base: Path, tokenizer: Extendable) -> set[str]:
    """Entries that the files of a folder name, by their text or by their id."""
    names = {number: piece for piece, number in tokenizer.ids.items()}
    found = named_tokens(base)
    for file in (base / _CONFIG, base / _GENERATION):
        for key, value in (read_json(file) if file.is_file() else {}).items():
            if key.endswith(_ID):
                for number in value if isinstance(value, list) else [value]:
                    if isinstance(number, int) and number >= 0 and number not in names:
                        raise ArtifactError(
                            f"{file}: {key} is {number}, and the tokenizer has no such entry: mend "
                            "it first"
                        )
                    found |= {names[number]} if number in names else set()
    return found


def _written_by_templates(base: Path) -> list[str]:
    """What the chat templates of a folder put around what is said."""
    templates = read_chat_templates(base, read_config(base)).values()
    check_ends(templates, str(base))
    names = {"bos": "", "eos": "", **role_tokens(base)}
    return [text for template in templates for text in written_by(template, names)]


def _hashed(texts: Iterable[str], digest: "hashlib._Hash") -> Iterator[str]:
    for text in texts:
        digest.update(text.encode(errors="surrogatepass") + b"\0")
        yield text


def _write_model(base: Path, pruned: Pruned, folder: Path) -> int:
    """Write the model's weights and configuration; how many rows its table had."""
    from hanpaca.model.load import load_model
    from hanpaca.model.new_rows import keep_rows

    stored = embedding_of(base)
    if pruned.kept_ids[-1] >= stored.shape[0]:
        raise ArtifactError(
            f"{base}: the tokenizer has an entry of id {pruned.kept_ids[-1]}, the embedding only "
            f"{stored.shape[0]} rows; use the tokenizer the model was trained with"
        )
    model = load_model(base, dtype=DTYPES[stored.dtype])
    now = {number: place for place, number in enumerate(pruned.kept_ids)}
    for name, config in ((_CONFIG, model.config), (_GENERATION, model.generation_config)):
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
        if key in _SUPPRESSED and value:
            found[key] = [now[number] for number in value if number in now]
        elif key in _SEQUENCES and value:
            raise ArtifactError(f"{file}: {key} names tokens by their ids, which move: take it out")
        elif key.endswith(_ID) and value is not None:
            ids = value if isinstance(value, list) else [value]
            moved = [now.get(number, number) for number in ids]
            found[key] = moved if isinstance(value, list) else moved[0]
    return found
