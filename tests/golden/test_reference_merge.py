"""The merge of LLaMA and Chinese pieces, against the hashes its authors published (SHA256.md)."""

import hashlib
from pathlib import Path

import pytest
from typer.testing import CliRunner

from hanpaca.cli import app
from hanpaca.tokenizer.sentencepiece_bpe import read_sentencepiece

PUBLISHED = {
    (): (49_953, "e2676d4ca29ca1750f6ff203328d73b189321dc5776ceede037cbd36541d70c0"),
    ("--pad",): (49_954, "2d967e855b1213a439df6c8ce2791f869c84b4f3b6cfacf22b86440b8192a2f8"),
}
SENTENCE = (
    "人工智能是计算机科学、心理学、哲学等学科融合的交叉学科。"  # of the paper, arXiv 2304.08177
)


@pytest.mark.parametrize("options", PUBLISHED)
def test_the_merged_file_is_the_published_one(
    shared_data: Path, tmp_path: Path, options: tuple[str, ...]
) -> None:
    tokenizers = shared_data / "tokenizers"
    files = [tokenizers / "llama/tokenizer.model", tokenizers / "chinese_sp.model"]
    output = tmp_path / "new" / "merged.model"
    call = ["tokenizer", "merge-sp", *map(str, files), "-o", str(output), *options]
    result = CliRunner().invoke(app, call)
    assert result.exit_code == 0, result.output
    num_pieces, sha256 = PUBLISHED[options]
    assert hashlib.sha256(output.read_bytes()).hexdigest() == sha256
    assert f"{num_pieces} pieces" in result.output
    assert [path.name for path in output.parent.iterdir()] == ["merged.model"]
    # Table 1 of the paper: 35 tokens become 16.
    before, after = (read_sentencepiece(file) for file in (files[0], output))
    assert [len(one.encode([SENTENCE])[0]) for one in (before, after)] == [35, 16]
