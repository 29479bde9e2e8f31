"""Merging models: order, score, no piece twice; what is refused leaves no file."""

from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from hanpaca.cli import app
from hanpaca.errors import ArtifactError
from hanpaca.tokenizer.conversion.published import PAD, merge_sentencepiece
from hanpaca.tokenizer.sentencepiece_bpe import parse_model


@pytest.fixture(scope="module")
def base(pico_sentencepiece: Path) -> Path:
    return pico_sentencepiece / "tokenizer.model"


@pytest.fixture(scope="module")
def unigram(
    sentencepiece_trainer: Callable[..., bytes], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    lines = ["白日依山尽，黄河入海流。", "people create theories"] * 5
    path = tmp_path_factory.mktemp("unigram") / "unigram.model"
    data = sentencepiece_trainer(lines, model_type="unigram", byte_fallback=False, vocab_size=28)
    path.write_bytes(data)
    return path


def test_missing_pieces_follow_with_score_0(base: Path, unigram: Path) -> None:
    old, more = (parse_model(file.read_bytes(), path=file) for file in (base, unigram))
    data, num_pieces = merge_sentencepiece(base, unigram)
    merged = parse_model(data, path=base).pieces
    assert list(merged)[: len(old.pieces)] == list(old.pieces)
    known = {piece.piece for piece in old.pieces}
    new = [piece.piece for piece in more.pieces if piece.piece not in known]
    assert [piece.piece for piece in merged[len(old.pieces) :]] == new
    assert "白" in new
    assert {piece.score for piece in merged[len(old.pieces) :]} == {0.0}
    assert num_pieces == len(merged) == len(known) + len(new)
    padded = parse_model(merge_sentencepiece(base, unigram, pad=True)[0], path=base).pieces
    assert padded[num_pieces].piece == PAD


def test_a_second_padding_piece_is_refused(base: Path, tmp_path: Path) -> None:
    padded = tmp_path / "padded.model"
    padded.write_bytes(merge_sentencepiece(base, base, pad=True)[0])
    for pair in ((base, padded), (padded, base)):
        with pytest.raises(ArtifactError, match=r"padded\.model: has \[PAD\] already"):
            merge_sentencepiece(*pair, pad=True)


def test_what_is_wrong_is_said_in_one_line_and_nothing_is_written(
    base: Path, unigram: Path, tmp_path: Path
) -> None:
    damaged = tmp_path / "damaged.model"
    damaged.write_bytes(base.read_bytes()[:-7])
    output = tmp_path / "out.model"
    for first, second, message in (
        (unigram, base, "it is a Unigram model; only BPE can be used"),
        (damaged, base, "damaged or no SentencePiece model"),
        (base, damaged, "damaged or no SentencePiece model"),
        (base, tmp_path / "none.model", "no such file"),
    ):
        result = CliRunner().invoke(
            app, ["tokenizer", "merge-sp", str(first), str(second), "-o", str(output)]
        )
        assert isinstance(result.exception, ArtifactError)
        assert message in str(result.exception)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["damaged.model"]


def test_an_existing_file_is_not_replaced(base: Path, tmp_path: Path) -> None:
    (tmp_path / "out.model").write_text("mine")
    call = ["tokenizer", "merge-sp", str(base), str(base), "-o", str(tmp_path / "out.model")]
    result = CliRunner().invoke(app, call)
    assert isinstance(result.exception, ArtifactError)
    assert (tmp_path / "out.model").read_text() == "mine"
