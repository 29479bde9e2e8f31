"""Stretches of text, priors and forbidden pieces."""

import math
from collections.abc import Callable
from pathlib import Path

import pytest

from hanpaca.tokenizer.byte_bpe import ByteBPE, byte_bpe_of_spec, read_byte_bpe
from hanpaca.tokenizer.extension.evidence import (
    PRIOR_WEIGHT,
    count_runs,
    forbidden_pieces,
    prior_runs,
    prior_sample,
    read_prior,
)
from hanpaca.tokenizer.extension.scripts import target_script
from hanpaca.tokenizer.sentencepiece_bpe import parse_model

HAN = target_script(["Han"])


@pytest.fixture(scope="module")
def base(pico_base: Path) -> ByteBPE:
    return read_byte_bpe(pico_base)


def test_stretches_are_counted_and_the_first_texts_kept(base: ByteBPE) -> None:
    texts = ["白日，白日 x", "no", "黄河"]
    runs, sample = count_runs(base, iter(texts), HAN)
    assert runs == {"白日": 2, "黄河": 1}
    assert sample == texts
    assert sum(map(len, count_runs(base, ["白" * 150_000] * 2, HAN)[1])) == 200_000


def test_an_added_token_ends_a_stretch(base: ByteBPE) -> None:
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized", "special"), False)
    token = {"content": "黄河", "id": base.next_id} | flags
    spec = base.spec | {"added_tokens": [*base.spec["added_tokens"], token]}
    changed = byte_bpe_of_spec(spec, path=base.path)
    assert count_runs(changed, ["入黄河流"], HAN)[0] == {"入": 1, "流": 1}
    assert prior_runs(changed, {"入黄河": -1.0, "白日": -2.0}, HAN).keys() == {"白日"}


def test_a_prior_weighs_by_probability(base: ByteBPE) -> None:
    prior = {"白日": math.log(0.3), "▁白日": math.log(0.1), "黄河": math.log(0.1), "x": 0.0}
    runs = prior_runs(base, prior, HAN)
    assert runs == {"白日": PRIOR_WEIGHT * 4 // 5, "黄河": PRIOR_WEIGHT // 5}
    assert prior_runs(base, {"白日": -1.0, "黄河": -40.0}, HAN)["黄河"] == 2
    far_below = {"白日": -9000.0, "黄河": -9000.0, "x": 0.0}  # whose exponential is 0
    assert set(prior_runs(base, far_below, HAN).values()) == {PRIOR_WEIGHT // 2}


def test_a_sample_of_a_prior_holds_every_piece(base: ByteBPE) -> None:
    runs = prior_runs(base, {chr(0x4E00 + i): -1.0 for i in range(45)}, HAN)
    lines = prior_sample(runs)
    assert ("".join(lines), len(lines)) == ("".join(runs), 3)


def test_a_unigram_model_gives_its_scores_and_a_bpe_model_ranks(
    sentencepiece_trainer: Callable[..., bytes], pico_sentencepiece: Path, tmp_path: Path
) -> None:
    path = tmp_path / "unigram.model"
    lines = ["白日依山尽，黄河入海流。", "people create theories"] * 5
    path.write_bytes(sentencepiece_trainer(lines, model_type="unigram", vocab_size=285))
    scores = {p.piece: p.score for p in parse_model(path.read_bytes(), path=path).pieces}
    prior = read_prior(path)
    assert all(scores[piece] == score for piece, score in prior.items())
    assert "白" in prior
    assert "<s>" not in prior
    ranked = list(read_prior(pico_sentencepiece / "tokenizer.model").values())
    assert ranked == sorted(ranked, reverse=True)
    assert all(score < 0 for score in ranked)


def test_neighbours_are_what_would_be_made_first() -> None:
    assert forbidden_pieces([[b"th", b"e", b" c"], [b"x"], []]) == {b"the", b"e c"}
