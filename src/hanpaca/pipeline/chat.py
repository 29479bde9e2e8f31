"""60-chat: the instruction adapter folded into the pretrained model, with its chat template."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hanpaca.model.load import load_tokenizer
from hanpaca.pipeline import merged, sft, stages
from hanpaca.pipeline.job import Job

NAME = stages.CHAT


def work(job: Job, folder: Path) -> Mapping[str, Any]:
    """Merge the model of 40-merged with the adapter of 50-sft."""
    model = job.stage(merged.NAME)
    metrics = merged.merge_into(job, NAME, model, job.stage(sft.NAME), folder)
    template = sft.chat_template(load_tokenizer(model), job.recipe.sft)
    (folder / sft.TEMPLATE).write_text(template, encoding="utf-8")
    return metrics
