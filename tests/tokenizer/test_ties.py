"""Pieces of equal score: what a merge list can say of them, and what it cannot."""

from itertools import permutations, product
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hanpaca.tokenizer.conversion.ties import NO_TIES, components, find_ties, merge_list_encoder
from hanpaca.tokenizer.sentencepiece_bpe import SentencePieceBPE, sentencepiece_of_proto

pb = pytest.importorskip("sentencepiece.sentencepiece_model_pb2")


def model_of(scores: dict[str, float]) -> SentencePieceBPE:
    """A SentencePiece BPE model of byte tokens, the letters a to d, and given pieces."""
    proto: Any = pb.ModelProto()
    proto.trainer_spec.model_type = 2
    proto.trainer_spec.byte_fallback = True
    proto.normalizer_spec.name = "identity"
    proto.normalizer_spec.remove_extra_whitespaces = False
    for piece, kind in (("<unk>", 2), ("<s>", 3), ("</s>", 3)):
        proto.pieces.add(piece=piece, type=kind)
    for byte in range(256):
        proto.pieces.add(piece=f"<0x{byte:02X}>", type=6)
    for number, letter in enumerate("▁abcd"):
        proto.pieces.add(piece=letter, score=-1000.0 - number)
    for piece, score in scores.items():
        proto.pieces.add(piece=piece, score=score)
    return sentencepiece_of_proto(proto, path=Path("test.model"))


def differing(tokenizer: SentencePieceBPE, length: int = 6) -> list[str]:
    """All texts of some letters on which the merge list says other than sentencepiece."""
    other = merge_list_encoder(tokenizer)
    texts = ["".join(letters) for n in range(1, length) for letters in product("abc", repeat=n)]
    ready = [tokenizer.processor.normalize(text) for text in texts]
    pairs = zip(texts, tokenizer.encode(texts), other.encode_batch(ready), strict=True)
    return [text for text, ours, theirs in pairs if ours != theirs.ids]


def test_pieces_of_different_score_are_no_ties() -> None:
    tokenizer = model_of({"ab": -1, "bc": -2, "ca": -3})
    assert find_ties(tokenizer) == NO_TIES
    assert differing(tokenizer) == []


def test_ties_in_a_chain_can_be_put_in_order() -> None:
    """In "abc" the pair (a, b) stands left of (b, c): the list must begin with it."""
    tokenizer = model_of({"bc": 0, "ab": 0})
    assert (find_ties(tokenizer).num_tied, find_ties(tokenizer).num_unorderable) == (2, 0)
    assert differing(tokenizer) == []


def test_ties_in_a_circle_cannot() -> None:
    tokenizer = model_of({"ab": 0, "ba": 0, "ac": 0})
    ties = find_ties(tokenizer)
    assert (ties.num_tied, ties.num_unorderable, ties.unorderable) == (3, 2, ("ab", "ba"))
    assert differing(tokenizer)[0] in ("aba", "bab")


PIECES = ["".join(letters) for n in (2, 3, 4) for letters in product("abc", repeat=n)]


def trained(scores: dict[str, int]) -> dict[str, float]:
    """Lower each score to the lowest of the pieces inside, as training would have given it."""
    return {
        piece: min(score for part, score in scores.items() if part in piece) for piece in scores
    }


@settings(deadline=None)
@given(scores=st.dictionaries(st.sampled_from(PIECES), st.integers(-2, 0), max_size=8))
def test_without_circles_the_merge_list_is_exact(scores: dict[str, int]) -> None:
    tokenizer = model_of(trained(scores))
    if not find_ties(tokenizer).num_unorderable:
        assert differing(tokenizer) == []


EDGES = st.lists(st.tuples(st.sampled_from("abcdef"), st.sampled_from("abcdef")), max_size=10)


@given(edges=EDGES)
def test_components_agree_with_reachability(edges: list[tuple[str, str]]) -> None:
    number = components(edges)
    nodes = {node for edge in edges for node in edge}
    assert number.keys() == nodes
    reach = {(x, x) for x in nodes} | set(edges)
    for _ in nodes:
        reach |= {(x, z) for x, y in reach for y2, z in edges if y == y2}
    for x, y in permutations(nodes, 2):
        assert (number[x] == number[y]) == ((x, y) in reach and (y, x) in reach)
        if (x, y) in reach:
            assert number[x] <= number[y]
