import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hanpaca.data.pack import BlockColumn, Ints, content_hash, document_sequence, mix, pack
from hanpaca.errors import DataError

PAD = 9_999


def rows(column: BlockColumn) -> Ints:
    return np.stack([column[row] for row in range(len(column))])


SEQUENCES = st.lists(st.lists(st.integers(0, 99), min_size=1, max_size=40), min_size=1, max_size=60)


@given(texts=SEQUENCES, block_tokens=st.integers(4, 24))
def test_every_token_is_packed_once_and_in_order(texts: list[list[int]], block_tokens: int) -> None:
    sequences = [(ids, list(ids)) for ids in texts]
    blocks = pack(sequences, block_tokens=block_tokens, pad_id=PAD)
    assert blocks.input_ids.shape == blocks.labels.shape == blocks.position_ids.shape
    found = []
    for ids, positions in zip(rows(blocks.input_ids), rows(blocks.position_ids), strict=True):
        starts = [*np.flatnonzero(positions == 0), block_tokens]
        for begin, end in itertools.pairwise(starts):
            assert list(positions[begin:end]) == list(range(end - begin))
            if ids[begin] != PAD:
                found.append(list(map(int, ids[begin:end])))
    parts = [
        ids[start : start + block_tokens]
        for ids in texts
        for start in range(0, len(ids), block_tokens)
    ]
    assert sorted(found) == sorted(parts)


@given(texts=SEQUENCES)
def test_nothing_is_learned_across_a_border(texts: list[list[int]]) -> None:
    blocks = pack([(ids, list(ids)) for ids in texts], block_tokens=16, pad_id=PAD)
    input_ids, labels = rows(blocks.input_ids), rows(blocks.labels)
    assert (labels[rows(blocks.position_ids) == 0] == -100).all()
    assert (labels[input_ids == PAD] == -100).all()
    inner = (rows(blocks.position_ids) > 0) & (input_ids != PAD)
    assert (labels[inner] == input_ids[inner]).all()


def test_blocks_are_well_filled() -> None:
    chance = np.random.default_rng(0)
    sequences = [([1] * n, [1] * n) for n in chance.integers(5, 60, size=2_000)]
    blocks = pack(sequences, block_tokens=256, pad_id=PAD)
    assert (rows(blocks.input_ids) == PAD).mean() < 0.01


def test_a_document_learns_all_but_its_start() -> None:
    assert document_sequence([5, 6], start_id=1, end_id=2) == ([1, 5, 6, 2], [-100, 5, 6, 2])


def test_the_share_of_replay_is_kept_and_short_sources_go_round() -> None:
    new = pack([([1] * 8, [1] * 8)] * 3, block_tokens=8, pad_id=PAD)
    old = pack([([2] * 8, [2] * 8)] * 2, block_tokens=8, pad_id=PAD)
    mixed = mix([(new, 1)], old, num_blocks=40, share=0.25, seed=1)
    kinds = rows(mixed.input_ids)[:, 0]
    assert (kinds == 2).sum() == 10
    assert (kinds == 1).sum() == 30
    assert content_hash(mixed) == content_hash(
        mix([(new, 1)], old, num_blocks=40, share=0.25, seed=1)
    )
    assert content_hash(mixed) != content_hash(
        mix([(new, 1)], old, num_blocks=40, share=0.25, seed=2)
    )
    assert len(mix([(new, 1)], None, num_blocks=5, share=0.25, seed=1)) == 5


def test_sources_are_mixed_by_their_weights() -> None:
    sources = [
        (pack([([kind] * 8, [kind] * 8)] * 5, block_tokens=8, pad_id=PAD), weight)
        for kind, weight in ((1, 3.0), (2, 1.0))
    ]
    old = pack([([3] * 8, [3] * 8)], block_tokens=8, pad_id=PAD)
    kinds = rows(mix(sources, old, num_blocks=50, share=0.2, seed=1).input_ids)[:, 0]
    assert [(kinds == kind).sum() for kind in (1, 2, 3)] == [30, 10, 10]
    assert len(set(kinds[:10].tolist())) > 1


def test_nothing_to_pack_is_said() -> None:
    with pytest.raises(DataError, match="nothing to train on"):
        pack([], block_tokens=8, pad_id=0)
