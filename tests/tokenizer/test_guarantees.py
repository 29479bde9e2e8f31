"""The checks themselves: each must find a fault that was made on purpose."""

import json
from pathlib import Path
from typing import Any

import pytest

from hanpaca.tokenizer.byte_bpe import ByteBPE, byte_bpe_of_spec, piece_of_bytes, read_byte_bpe
from hanpaca.tokenizer.extension.guarantees import (
    changed_texts,
    dead_pieces,
    is_coarsening,
    misread_texts,
    recut_texts,
)


def with_merges(base: ByteBPE, merges: list[tuple[str, str]], *, first: bool = False) -> ByteBPE:
    spec: dict[str, Any] = json.loads(json.dumps(base.spec))
    vocab = spec["model"]["vocab"]
    for left, right in merges:
        vocab.setdefault(left + right, len(vocab))
    old = spec["model"]["merges"]
    spec["model"]["merges"] = [*merges, *old] if first else [*old, *merges]
    return byte_bpe_of_spec(spec, path=base.path)


@pytest.fixture(scope="module")
def base(pico_base: Path) -> ByteBPE:
    return read_byte_bpe(pico_base)


def test_a_piece_without_the_merges_of_its_parts_is_dead(base: ByteBPE) -> None:
    left, middle, right = list(piece_of_bytes("白".encode()))
    new = with_merges(base, [(left, middle), (left + middle, right)])
    assert dead_pieces(new, [left + middle, left + middle + right]) == []
    worse = with_merges(base, [(middle, right), (left, middle + right), (left, middle)])
    assert dead_pieces(worse, [left + middle + right]) == []
    worst = with_merges(base, [(left, middle), (middle, right), (left, middle + right)])
    assert dead_pieces(worst, [left + middle, left + middle + right]) == [left + middle + right]


def test_a_dead_half_character_is_found(base: ByteBPE) -> None:
    a, b, c = list(piece_of_bytes("𠀀".encode()))[:3]
    worse = with_merges(base, [(a, b), (b, c), (a, b + c)])
    assert dead_pieces(worse, [a + b + c]) == [a + b + c]


def test_a_piece_that_no_pre_token_holds_is_dead(base: ByteBPE) -> None:
    new = with_merges(base, [("1", "2")])  # the base cuts digits apart
    assert dead_pieces(new, ["12"]) == ["12"]


def test_changed_english_is_found(base: ByteBPE) -> None:
    new = with_merges(base, [("q", "x")])
    assert changed_texts(base, new, ["fox", "qx", "白"]) == ["qx"]


@pytest.mark.parametrize(
    ("fine", "coarse", "expected"),
    [
        (["a", "b", "c"], ["ab", "c"], True),
        (["a", "b", "c"], ["a", "b", "c"], True),
        (["ab", "c"], ["a", "bc"], False),
        (["ab"], ["a", "b"], False),
        (["a", "b"], ["ac"], False),
        (["a", "b"], ["a"], False),
        ([], [], True),
    ],
)
def test_a_coarsening_has_no_new_cut(fine: list[str], coarse: list[str], expected: bool) -> None:
    assert (
        is_coarsening([one.encode() for one in fine], [one.encode() for one in coarse]) is expected
    )


def test_a_merge_before_the_bases_own_moves_cuts(base: ByteBPE) -> None:
    left, right = next(pair for pair in base.merges if "".join(pair).isalpha() and pair[0] != "Ġ")
    text = left + right + "Q"
    assert base.split(text) == [left + right, "Q"]
    late, early = (with_merges(base, [(right, "Q")], first=first) for first in (False, True))
    assert early.split(text) == [left, right + "Q"]
    assert recut_texts(base, late, [text]) == []
    assert recut_texts(base, early, [text, "no such word"]) == [text]


def test_a_decoder_that_loses_text_is_found(base: ByteBPE) -> None:
    spec = base.spec | {"decoder": {"type": "Sequence", "decoders": [
        base.spec["decoder"], {"type": "Strip", "content": "x", "start": 1, "stop": 0},
    ]}}  # fmt: skip
    new = byte_bpe_of_spec(spec, path=base.path)
    assert misread_texts(base, new, ["fox", "xylem"]) == ["xylem"]
