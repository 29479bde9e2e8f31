"""Near duplicates by signatures, held against the Jaccard similarity of the texts themselves."""

import random
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hanpaca.data.cleaning.characters import codes_of, normalised
from hanpaca.data.cleaning.duplicates import NONE, exact_duplicates, near_duplicates
from hanpaca.data.cleaning.minhash import NUM_VALUES, Banding, shingle_hashes, signatures_of

ALPHABETS = (
    "abcdefgh ",
    "白日依山尽黄河入海流欲穷千里目更上一层楼床前明月光疑是地霜举头望低思故乡",
)


def jaccard(one: str, other: str) -> float:
    shingles = [{text[i : i + 5] for i in range(max(1, len(text) - 4))} for text in (one, other)]
    return len(shingles[0] & shingles[1]) / len(shingles[0] | shingles[1])


def changed(text: str, num_changes: int, random_: random.Random) -> str:
    letters = list(text)
    for _ in range(num_changes):
        letters[random_.randrange(len(letters))] = random_.choice("一二三四五六七八九十")
    return "".join(letters)


def pairs(num: int, seed: int) -> list[tuple[str, str]]:
    """Texts of 30 to 600 characters and what is left of them after some changes."""
    random_ = random.Random(seed)
    found = []
    for number in range(num):
        alphabet = ALPHABETS[number % 2] + "".join(map(chr, range(0x5000, 0x5400)))
        text = "".join(random_.choices(alphabet, k=random_.randrange(30, 600)))
        found.append((text, changed(text, random_.randrange(1, 2 + len(text) // 40), random_)))
    return found


def test_signatures_agree_as_often_as_texts_are_similar() -> None:
    errors = []
    for one, other in pairs(400, seed=1):
        first, second = signatures_of([codes_of(one), codes_of(other)])
        chance = 1 / 256
        similar = (np.mean(first == second) - chance) / (1 - chance)
        true = jaccard(one, other)
        errors.append((similar - true) / max(0.01, (true * (1 - true) / NUM_VALUES) ** 0.5))
    assert abs(np.mean(errors)) < 0.2
    assert 0.75 < np.std(errors) < 1.15


def test_a_signature_does_not_depend_on_the_texts_beside_it() -> None:
    texts = [codes_of(one) for one, _ in pairs(60, seed=2)]
    texts.append(codes_of("长" * 70_000 + "短" * 9))  # more than is hashed at a time
    together = signatures_of(texts)
    alone = np.concatenate([signatures_of([text]) for text in texts])
    assert np.array_equal(together, alone)


def test_texts_shorter_than_a_shingle_are_equal_only_to_themselves() -> None:
    signatures = signatures_of([codes_of(text) for text in ("山", "山", "水", "山水", "")])
    assert len({bytes(one) for one in signatures}) == 4


@pytest.mark.slow
@pytest.mark.parametrize("threshold", [0.5, 0.7, 0.8, 0.9])
def test_pairs_are_found_as_often_as_is_said(threshold: float) -> None:
    banding = Banding.of(threshold)
    expected, found, variance = 0.0, 0, 0.0
    for one, other in pairs(600, seed=3):
        signatures = signatures_of([codes_of(one), codes_of(other)])
        chance = banding.found_probability(jaccard(one, other))
        expected += chance
        variance += chance * (1 - chance)
        found += int(near_duplicates(signatures, banding)[1] != NONE)
    assert abs(found - expected) < 4 * variance**0.5 + 2


@pytest.mark.parametrize("threshold", [0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 1.0])
def test_few_pairs_well_above_the_threshold_are_missed_and_few_below_are_taken(
    threshold: float,
) -> None:
    banding = Banding.of(threshold)
    assert banding.num_bands * banding.num_rows == NUM_VALUES
    assert banding.found_probability(min(1.0, threshold + 0.1)) > 0.98
    assert banding.found_probability(threshold - 0.1) < 0.03
    assert banding.found_probability(1.0) == pytest.approx(1.0)


@settings(max_examples=40)
@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 6)), max_size=40), st.integers(0, 99))
def test_all_that_go_have_their_like_among_those_that_stay(
    drawn: list[tuple[int, int]], seed: int
) -> None:
    random_ = random.Random(seed)
    bases = [one for one, _ in pairs(6, seed=seed)]
    texts = [changed(bases[base], changes, random_) for base, changes in drawn]
    signatures = signatures_of([codes_of(text) for text in texts])
    banding = Banding.of(0.8)
    found = near_duplicates(signatures.reshape(-1, NUM_VALUES), banding)
    for number, original in enumerate(found.tolist()):
        if original != NONE:
            assert original < number
            assert found[original] == NONE
    kept = np.flatnonzero(found == NONE)
    for one, other in combinations(kept.tolist(), 2):
        agreeing = int((signatures[one] == signatures[other]).sum())
        if agreeing >= banding.num_agreeing:  # they share no band, which is rare
            bands = signatures[[one, other]].reshape(2, banding.num_bands, banding.num_rows)
            assert not (bands[0] == bands[1]).all(axis=1).any()
    again = near_duplicates(signatures[kept].reshape(-1, NUM_VALUES), banding)
    assert (again == NONE).all()


def test_many_rows_of_one_kind_take_no_longer_than_others() -> None:
    """One group of 20,000: each is compared with those that stay, not with all before it."""
    text = "本接口返回参数结构体，包含请求的唯一标识与错误信息。" * 4
    signatures = np.repeat(signatures_of([codes_of(text)]), 20_000, axis=0)
    found = near_duplicates(signatures, Banding.of(0.8))
    assert (found[1:] == 0).all()


def test_exact_duplicates_name_the_first() -> None:
    assert exact_duplicates(np.array([], np.uint64)).tolist() == []
    assert exact_duplicates(np.array([3, 3, 2, 3, 2], np.uint64)).tolist() == [-1, 0, -1, 0, 2]


def test_texts_are_compared_without_case_width_and_white_space() -> None:
    assert normalised("　ＬＬａＭＡ　模型：\n好\t ") == "llama 模型: 好"
    assert normalised("Straße") == normalised("STRASSE")
    assert normalised(normalised("ﬁ　Ａ")) == normalised("ﬁ　Ａ")


def test_shingles_of_equal_characters_have_equal_hashes_and_others_not() -> None:
    hashes = shingle_hashes(codes_of("甲乙丙丁戊甲乙丙丁戊己"))
    assert hashes[0] == hashes[5]
    assert len(set(hashes.tolist())) == 6
