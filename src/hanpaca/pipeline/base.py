"""20-base: the base model with a row for every new piece; every old row bit for bit as it was."""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from hanpaca.errors import ArtifactError
from hanpaca.model.checkpoint import opened, read_headers
from hanpaca.model.load import load_model, load_tokenizer, start_token
from hanpaca.model.rows import (
    first_piece_rows,
    grow_model,
    log_rest_given_first,
    mean_hidden_state,
    mean_rows,
)
from hanpaca.pipeline import data, stages, tokenizer
from hanpaca.pipeline.job import Job
from hanpaca.pipeline.jsonl import read_jsonl, read_texts

NAME = stages.BASE
_COUNTED_TEXTS = 5_000
_AVERAGED_TEXTS = 100
_EMBEDDING, _HEAD = "model.embed_tokens.weight", "lm_head.weight"
_RECOMPUTED = ".rotary_emb.inv_freq"
"""Constants in the files of old conversions, which are computed from `config.json` today."""


def work(job: Job, folder: Path) -> Mapping[str, Any]:
    """Initialise the new rows and write the grown model with its tokenizer."""
    spellings = [
        row["spelling"] for row in read_jsonl(job.stage(tokenizer.NAME) / tokenizer.SPELLINGS)
    ]
    model = load_model(job.base)
    old = load_tokenizer(job.base)
    tied = bool(model.config.tie_word_embeddings)
    input_rows = mean_rows(model.model.embed_tokens.weight.detach(), spellings)
    output_rows = None
    if spellings and (not tied or job.recipe.rows.untie):
        output_rows = _output_rows(job, spellings)
    grow_model(model, folder, num_old=len(old), input_rows=input_rows, output_rows=output_rows)
    tokenizer.copy_tokenizer(job.stage(tokenizer.NAME), folder)
    _check_old_rows(job.base, folder, len(old))
    return {"num_old_rows": len(old), "num_new_rows": len(spellings), "tied": output_rows is None}


def num_new_rows(job: Job) -> int:
    """How many rows the extension added."""
    return sum(1 for _ in read_jsonl(job.stage(tokenizer.NAME) / tokenizer.SPELLINGS))


def _output_rows(job: Job, spellings: list[list[int]]) -> torch.Tensor:
    model = load_model(job.base)
    head = model.lm_head.weight.detach()
    rows = job.recipe.rows
    if rows.method == "mean":
        return mean_rows(head, spellings)
    old = load_tokenizer(job.base)
    new = load_tokenizer(job.stage(tokenizer.NAME))
    texts = read_texts(job.stage(data.NAME) / data.TEXT)[:_COUNTED_TEXTS]
    base_counts = Counter(i for ids in old(texts, add_special_tokens=False).input_ids for i in ids)
    counts = Counter(i for ids in new(texts, add_special_tokens=False).input_ids for i in ids)
    start = start_token(old)
    sample = old(texts[:_AVERAGED_TEXTS], add_special_tokens=False).input_ids
    return first_piece_rows(
        head,
        spellings,
        log_rest=log_rest_given_first(
            spellings, [counts[len(old) + number] for number in range(len(spellings))], base_counts
        ),
        mean_hidden_d=mean_hidden_state(model, [[start, *ids] for ids in sample]),
        nats=rows.first_piece_nats,
    )


def _check_old_rows(base: Path, grown: Path, num_old: int) -> None:
    """Every weight of the base must be in the grown model, bit for bit."""
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
