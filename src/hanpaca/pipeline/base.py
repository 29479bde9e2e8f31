"""20-base: the base model with a row for every new piece; every old row bit for bit as it was."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from hanpaca.errors import ArtifactError
from hanpaca.model.checkpoint import opened, read_headers
from hanpaca.model.load import load_model, load_tokenizer
from hanpaca.model.rows import Spelling, grow_model
from hanpaca.pipeline import data, stages, tokenizer
from hanpaca.pipeline.job import Job
from hanpaca.pipeline.jsonl import read_jsonl, read_texts
from hanpaca.pipeline.rows import Growth, start_rows
from hanpaca.recipe import RowsSection

NAME = stages.BASE
_EMBEDDING, _HEAD = "model.embed_tokens.weight", "lm_head.weight"
_RECOMPUTED = ".rotary_emb.inv_freq"
"""Constants in the files of old conversions, which are computed from `config.json` today."""


def work(job: Job, folder: Path) -> Mapping[str, Any]:
    """Initialise the new rows and write the grown model with its tokenizer."""
    extended = job.stage(tokenizer.NAME)
    return grow_base(
        job.base,
        extended,
        [row["spelling"] for row in read_jsonl(extended / tokenizer.SPELLINGS)],
        read_texts(job.stage(data.NAME) / data.TEXT),
        settings=job.recipe.rows,
        seed=job.recipe.seed,
        folder=folder,
    )


def grow_base(
    base: Path,
    extended: Path,
    spellings: Sequence[Spelling],
    texts: Sequence[str],
    *,
    settings: RowsSection,
    seed: int,
    folder: Path,
) -> dict[str, Any]:
    """Write a base with a row for each new piece of its extended tokenizer, and prove the rest.

    Args:
        base: The base model's folder.
        extended: The folder of its extended tokenizer.
        spellings: Base tokens of each new piece.
        texts: Of the new language, for starts that look at text.
        settings: How the rows start.
        seed: Of random starts.
        folder: Gets model and tokenizer.

    Raises:
        ArtifactError: The base cannot be read, or the result is not the base and new rows.
    """
    old, new = load_tokenizer(base), load_tokenizer(extended)
    stored = read_headers(base)[_EMBEDDING]
    _check_sizes(
        extended,
        num_rows=stored.shape[0],
        num_old=len(old),
        num_new=len(new),
        num_added=len(spellings),
    )
    model = load_model(base, dtype=stored.dtype)
    growth = Growth(model, old, new, spellings, texts, seed)
    input_rows, output_rows = start_rows(growth, settings)
    grow_model(model, folder, num_old=len(old), input_rows=input_rows, output_rows=output_rows)
    tokenizer.copy_tokenizer(extended, folder)
    check_old_rows(base, folder, len(old))
    return {
        "num_old_rows": len(old),
        "num_new_rows": len(spellings),
        "tied": growth.tied and output_rows is None,
    }


def num_new_rows(job: Job) -> int:
    """How many rows the extension added."""
    return sum(1 for _ in read_jsonl(job.stage(tokenizer.NAME) / tokenizer.SPELLINGS))


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


def check_old_rows(base: Path, grown: Path, num_old: int) -> None:
    """Prove that every weight of the base is in the grown model, bit for bit.

    Raises:
        ArtifactError: Names the tensor that is not.
    """
    before, after = read_headers(base), read_headers(grown)
    with opened(before) as old_tensor, opened(after) as new_tensor:
        for name in before:
            if name.endswith(_RECOMPUTED):
                continue
            # A tied head may lie in the base's files a second time.
            kept = _EMBEDDING if name == _HEAD and name not in after else name
            old, new = old_tensor(name), new_tensor(kept)
            if name in (_EMBEDDING, _HEAD):
                old, new = old[:num_old], new[:num_old]
            if not torch.equal(old.view(torch.uint8), new.to(old.dtype).view(torch.uint8)):
                raise ArtifactError(f"{grown}: {name} is no longer what it was in {base}")
