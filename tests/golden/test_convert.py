"""LLaMA's tokenizer as tokenizer.json, against sentencepiece on every line of real text."""

import json
import shutil
import subprocess
import sysconfig
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import pytest
import sentencepiece
from transformers import AutoTokenizer

from hanpaca.tokenizer.conversion.tokenizer_json import convert_sentencepiece

_BATCH_LINES = 20_000


def lines_of(archive: Path, field: str | None = None) -> Iterator[str]:
    if shutil.which("zstd") is None:
        pytest.skip("zstd is not installed")
    call = ["zstd", "-dcq", str(archive)]
    with subprocess.Popen(call, stdout=subprocess.PIPE, encoding="utf-8") as process:
        assert process.stdout is not None
        for line in process.stdout:
            text = json.loads(line)[field] if field else line
            yield from text.split("\n")


def code_lines() -> Iterator[str]:
    for file in sorted(Path(sysconfig.get_path("stdlib")).glob("*.py")):
        yield from file.read_text(encoding="utf-8", errors="replace").split("\n")


def num_differing(shared_data: Path, folder: Path, lines: Iterator[str]) -> tuple[int, int]:
    model = shared_data / "tokenizers/llama/tokenizer.model"
    convert_sentencepiece(model, folder)
    oracle = sentencepiece.SentencePieceProcessor(model_file=str(model))
    loaded = AutoTokenizer.from_pretrained(folder)
    differing = total = 0
    while batch := list(islice(lines, _BATCH_LINES)):
        ours = loaded(batch, add_special_tokens=False)["input_ids"]
        differing += sum(a != b for a, b in zip(ours, oracle.encode(batch), strict=True))
        total += len(batch)
    return differing, total


@pytest.mark.slow
def test_english_and_code_keep_the_ids_of_sentencepiece(shared_data: Path, tmp_path: Path) -> None:
    english = lines_of(shared_data / "corpus/en.txt.zst")
    assert num_differing(shared_data, tmp_path, islice(english, 3000))[0] == 0
    assert num_differing(shared_data, tmp_path, islice(code_lines(), 20_000)) == (0, 20_000)


@pytest.mark.slow
def test_the_whole_corpus_keeps_the_ids_of_sentencepiece(shared_data: Path, tmp_path: Path) -> None:
    chinese = lines_of(shared_data / "corpus/zh.jsonl.zst", "text")
    differing, total = num_differing(shared_data, tmp_path, chinese)
    assert differing == 0
    assert total > 500_000
    assert num_differing(shared_data, tmp_path, code_lines())[0] == 0
