"""10-tokenizer: new pieces for the base's vocabulary, and the proof that nothing else changed."""

import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from hanpaca.errors import ArtifactError
from hanpaca.pipeline import data, stages
from hanpaca.pipeline.job import Job
from hanpaca.pipeline.jsonl import read_texts, write_jsonl
from hanpaca.tokenizer import (
    Wishes,
    audit_extension,
    extend_tokenizer,
    write_extension,
)

NAME = stages.TOKENIZER
SPELLINGS = "spellings.jsonl"
AUDIT = "audit.json"


_FILES = (
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
)


def work(job: Job, folder: Path) -> Mapping[str, Any]:
    """Extend the tokenizer on the text that is learned from; audit it on what is held out."""
    settings = job.recipe.tokenizer
    source = job.stage(data.NAME)
    spellings: tuple[tuple[int, ...], ...] = ()
    if settings.num_pieces == 0:
        copy_tokenizer(job.base, folder)
    else:
        extension = extend_tokenizer(
            job.base,
            read_texts(source / data.TEXT),
            num_pieces=settings.num_pieces,
            scripts=settings.scripts,
            wishes=Wishes(punctuation="none"),
        )
        write_extension(extension, job.base, folder)
        spellings = extension.spellings
    write_jsonl(folder / SPELLINGS, ({"spelling": spelling} for spelling in spellings))
    audit = audit_extension(
        job.base,
        folder,
        texts=read_texts(source / data.TEXT_HELDOUT),
        protected=read_texts(source / data.REPLAY_HELDOUT),
        scripts=settings.scripts,
    )
    text = json.dumps(asdict(audit), ensure_ascii=False, indent=2)
    (folder / AUDIT).write_text(text, encoding="utf-8")
    if audit.num_changed_protected or audit.dead_pieces:
        raise ArtifactError(
            f"{folder / AUDIT}: the extension has dead pieces or changes text it must not change"
        )
    return {
        "num_pieces": audit.num_pieces_after,
        "tokens_per_character_before": round(audit.target_tokens_per_character_before, 4),
        "tokens_per_character_after": round(audit.target_tokens_per_character_after, 4),
        "num_dead_pieces": len(audit.dead_pieces),
        "num_changed_protected": audit.num_changed_protected,
    }


def copy_tokenizer(source: Path, target: Path) -> None:
    """Copy the files that make up a tokenizer."""
    for name in _FILES:
        if (source / name).exists():
            shutil.copyfile(source / name, target / name)
