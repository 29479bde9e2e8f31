"""Cleaning with datatrove, two workers on this machine; skipped where it is not installed."""

import gzip
import json
import random
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).parents[2] / "examples/datatrove/clean.py"


@pytest.mark.slow
def test_two_workers_keep_one_of_near_duplicates_and_go_on_where_they_were(tmp_path: Path) -> None:
    pytest.importorskip("datatrove")
    chance = random.Random(0)
    texts = ["".join(chr(chance.randint(0x4E00, 0x9F00)) for _ in range(300)) for _ in range(40)]
    near = [text[:150] + "改" + text[151:] for text in texts[:10]]
    bad = ["短", "An English document of more than fifty characters, without Han. " * 3]
    rows = [*texts, *near, *bad]
    (tmp_path / "raw").mkdir()
    for part in (0, 1):
        lines = "".join(json.dumps({"text": text}) + "\n" for text in rows[part::2])
        (tmp_path / f"raw/{part}.jsonl").write_text(lines, encoding="utf-8")
    command = [sys.executable, str(EXAMPLE), str(tmp_path / "raw"), str(tmp_path / "clean")]
    for _ in range(2):  # the second time all is done
        subprocess.run([*command, "--tasks", "2", "--workers", "2"], check=True, timeout=240)
    kept = [
        json.loads(line)["text"]
        for file in sorted((tmp_path / "clean/text").iterdir())
        for line in gzip.decompress(file.read_bytes()).decode().splitlines()
    ]
    assert len(kept) == len(texts)
    assert sum(text in kept for text in texts[10:]) == 30
    for one, other in zip(texts[:10], near, strict=True):
        assert (one in kept) != (other in kept)
