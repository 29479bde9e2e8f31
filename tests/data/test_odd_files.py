"""Files and rows that are no text, or of no known shape: named, and memory stays as it is."""

import json
import os
from pathlib import Path

import numpy as np
import pytest

from hanpaca.data.conversations import read_conversations
from hanpaca.data.documents import read_documents
from hanpaca.data.pack import Blocks, mix
from hanpaca.errors import DataError, RecipeError


@pytest.mark.parametrize("name", ["a.txt", "a.jsonl"])
def test_a_sparse_file_is_no_text(tmp_path: Path, name: str) -> None:
    file = tmp_path / name
    with file.open("wb") as stream:
        stream.truncate(100 * 10**9)
    with pytest.raises(DataError, match="NUL bytes without text"):
        list(read_documents([file]))


@pytest.mark.parametrize("name", ["a.json", "a.jsonl"])
def test_a_sparse_file_holds_no_conversations(tmp_path: Path, name: str) -> None:
    file = tmp_path / name
    with file.open("wb") as stream:
        stream.write(b'[{"instruction": "')
        stream.truncate(100 * 10**9)
    with pytest.raises(DataError, match="NUL bytes without text"):
        list(read_conversations([file]))


def test_a_few_nul_bytes_in_a_text_are_no_fault(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("白日\0\0依山尽\n")
    assert [one.text for one in read_documents([tmp_path / "a.txt"])] == ["白日\0\0依山尽"]


@pytest.mark.parametrize("encoding", ["hex", "undefined", "idna", "punycode", "a\0b", ""])
def test_a_codec_that_is_no_encoding_of_files_is_refused(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "a.txt").write_text("text")
    with pytest.raises(DataError, match="is unknown"):
        list(read_documents([tmp_path / "a.txt"], encoding=encoding))


@pytest.mark.parametrize("history", [5, -1, 0.5, True, 10**30, "x", {"a": 1}, [1], [["q"]]])
def test_a_history_of_another_shape_is_named(tmp_path: Path, history: object) -> None:
    row = {"instruction": "q", "output": "a", "history": history}
    (tmp_path / "a.json").write_text(json.dumps([row]))
    with pytest.raises(DataError, match=r"a.json:1: history must be a list of \[question, answer"):
        list(read_conversations([tmp_path / "a.json"]))


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.txt")
    with pytest.raises(DataError, match="not a regular file"):
        list(read_documents([tmp_path / "a.txt"]))


def test_texts_gone_round_more_often_than_anybody_means_are_refused() -> None:
    ids = np.zeros((3, 32), np.int32)
    blocks = Blocks(ids, ids, ids)
    assert len(mix([(blocks, 1)], None, num_blocks=3000, share=0, seed=0)) == 3000
    with pytest.raises(RecipeError, match="num_tokens goes round the texts"):
        mix([(blocks, 1)], None, num_blocks=10**21, share=0, seed=0)
