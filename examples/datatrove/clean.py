"""Clean 100 GB of text on many cores or machines with datatrove, for `hanpaca pretrain`.

    pip install datatrove==0.10.1 regex orjson
    python clean.py raw/ clean/ --tasks 64 --workers 16
    hanpaca pretrain --text clean/text ...

`raw/` holds `.jsonl` (`.gz`, `.zst`) files with a `text` each. Documents that are too short or in
another script go; of near duplicates one stays (MinHash over 5-grams of characters: Chinese is
written without spaces, and datatrove's own words of it need packages beside). Each step is split
into tasks; a task that is done is not done again, so after an interruption run the same command.
`--executor slurm --partition cpu` gives the steps to Slurm, one waiting for the other;
`--executor ray` to the Ray cluster that this machine belongs to.
"""

import argparse
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from datatrove.pipeline.base import PipelineStep
from datatrove.pipeline.dedup import MinhashDedupSignature
from datatrove.pipeline.dedup.minhash import (
    MinhashConfig,
    MinhashDedupBuckets,
    MinhashDedupCluster,
    MinhashDedupFilter,
)
from datatrove.pipeline.filters import LambdaFilter
from datatrove.pipeline.readers import JsonlReader
from datatrove.pipeline.writers.jsonl import JsonlWriter
from datatrove.utils.hashing import HashConfig
from datatrove.utils.text import TextNormConfig
from datatrove.utils.word_tokenizers import WordTokenizer

# Signs, digits and accents count: Chinese without its punctuation would seem more alike than it is.
MINHASH = MinhashConfig(
    n_grams=5,
    num_buckets=14,
    hashes_per_bucket=9,
    hash_config=HashConfig(precision=64, hash_fc="sha1"),
    norm_config=TextNormConfig(
        remove_punctuation=False, norm_numbers=False, norm_unicode_diacritics=False
    ),
)
"""Finds 87 % of the pairs of a Jaccard similarity of .8: 1 - (1 - .8 ** 9) ** 14."""
MIN_CHARACTERS = 50
MIN_HAN = 0.5
_HAN = re.compile(r"[\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]")

Executor = Callable[..., Any]


class Characters(WordTokenizer):  # type: ignore[misc]  # datatrove has no types
    """Every character is a word, so that n-grams are of characters."""

    def word_tokenize(self, text: str) -> list[str]:
        """All but white space."""
        return [character for character in text if not character.isspace()]

    def sent_tokenize(self, text: str) -> list[str]:
        """A document is one."""
        return [text]

    def span_tokenize(self, text: str) -> list[tuple[int, int]]:
        """A document is one."""
        return [(0, len(text))]


def is_good(document: Any) -> bool:  # noqa: ANN401  # datatrove has no types
    """Long enough, and half of its letters are Han."""
    letters = sum(character.isalpha() for character in document.text)
    han = len(_HAN.findall(document.text))
    return len(document.text) >= MIN_CHARACTERS and han >= MIN_HAN * letters


def steps(raw: str, output: str, tasks: int) -> list[tuple[str, list[PipelineStep], int]]:
    """Name, pipeline and number of tasks of each step, each of which needs the one before."""
    filtered, work = f"{output}/filtered", f"{output}/minhash"
    return [
        (
            "filter",
            [JsonlReader(raw), LambdaFilter(is_good), JsonlWriter(filtered)],
            tasks,
        ),
        (
            "signatures",
            [
                JsonlReader(filtered),
                MinhashDedupSignature(f"{work}/signatures", config=MINHASH, language=Characters()),
            ],
            tasks,
        ),
        (
            "buckets",
            [MinhashDedupBuckets(f"{work}/signatures", f"{work}/buckets", config=MINHASH)],
            MINHASH.num_buckets,
        ),
        (
            "clusters",
            [MinhashDedupCluster(f"{work}/buckets", f"{work}/remove", config=MINHASH)],
            1,
        ),
        (
            "keep",
            [
                JsonlReader(filtered),
                MinhashDedupFilter(f"{work}/remove"),
                JsonlWriter(f"{output}/text"),
            ],
            tasks,
        ),
    ]


def executor_of(given: argparse.Namespace) -> Executor:
    """How a step is run: here, by Slurm, or by Ray."""

    def local(name: str, pipeline: Sequence[PipelineStep], tasks: int, before: Any) -> Any:  # noqa: ANN401
        from datatrove.executor import LocalPipelineExecutor

        return LocalPipelineExecutor(
            pipeline=pipeline,
            tasks=tasks,
            workers=given.workers,
            logging_dir=f"{given.output}/logs/{name}",
            depends=before,
        )

    def slurm(name: str, pipeline: Sequence[PipelineStep], tasks: int, before: Any) -> Any:  # noqa: ANN401
        from datatrove.executor import SlurmPipelineExecutor

        return SlurmPipelineExecutor(
            pipeline=pipeline,
            tasks=tasks,
            workers=given.workers,
            time=given.time,
            partition=given.partition,
            job_name=f"clean-{name}",
            logging_dir=f"{given.output}/logs/{name}",
            depends=before,
        )

    def ray(name: str, pipeline: Sequence[PipelineStep], tasks: int, before: Any) -> Any:  # noqa: ANN401
        from datatrove.executor.ray import RayPipelineExecutor

        return RayPipelineExecutor(
            pipeline=pipeline,
            tasks=tasks,
            workers=given.workers,
            logging_dir=f"{given.output}/logs/{name}",
            depends=before,
        )

    return {"local": local, "slurm": slurm, "ray": ray}[given.executor]


def main() -> None:
    """Run the last step, and with it those before."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("raw", help="folder of .jsonl files")
    parser.add_argument("output", help="folder to write")
    parser.add_argument("--tasks", type=int, default=8, help="parts of the data")
    parser.add_argument("--workers", type=int, default=2, help="tasks at a time")
    parser.add_argument("--executor", choices=("local", "slurm", "ray"), default="local")
    parser.add_argument("--partition", default="cpu", help="of Slurm")
    parser.add_argument("--time", default="24:00:00", help="limit of a Slurm task")
    given = parser.parse_args()
    Path(given.output).mkdir(parents=True, exist_ok=True)
    executor, before = executor_of(given), None
    for name, pipeline, tasks in steps(given.raw, given.output, given.tasks):
        before = executor(name, pipeline, tasks, before)
    if before is not None:
        before.run()


if __name__ == "__main__":
    main()
