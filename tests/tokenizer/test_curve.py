"""The curve of tokens by pieces: what is held out, and what the points say."""

import json
import random
from itertools import islice
from pathlib import Path

import pytest

from hanpaca.checkpoints.gguf_model import open_gguf
from hanpaca.data.documents import read_documents
from hanpaca.errors import DataError, RecipeError
from hanpaca.tokenizer.advice.curve import _Split, measure_curve, training_characters
from hanpaca.tokenizer.advice.speed import read_counts
from hanpaca.tokenizer.advice.weigh import weigh
from hanpaca.tokenizer.byte_bpe import read_byte_bpe
from hanpaca.tokenizer.conversion.gguf import write_tokenizer
from hanpaca.tokenizer.conversion.gguf_side import gguf_vocabulary
from hanpaca.tokenizer.extension.extend import extend_tokenizer
from hanpaca.tokenizer.extension.merges import Merge, final_uses

WORDS = ["白日", "依山", "尽", "黄河", "入海", "流", "欲穷", "千里目", "更上", "一层楼", "春眠"]


def documents(number: int) -> list[str]:
    draw = random.Random(number)
    return ["".join(draw.choices(WORDS, k=30)) + "。" for _ in range(number)]


def test_points_are_what_the_extended_tokenizers_do(pico_base: Path) -> None:
    texts = documents(200)
    curve = measure_curve(pico_base, iter(texts), max_pieces=40)
    assert [point.num_pieces for point in curve.points] == [0, 40]
    assert curve.num_entries == len(read_byte_bpe(pico_base).ids)
    assert curve.num_learned_characters + curve.num_held_out_characters == sum(map(len, texts))
    split = _Split(texts)
    learned = list(split.learned())
    assert 0 < len(split.held_out) < 30
    base = read_byte_bpe(pico_base)
    assert curve.points[0].text_tokens_per_character == pytest.approx(
        sum(map(len, base.encode(split.held_out))) / sum(map(len, split.held_out))
    )
    extension = extend_tokenizer(pico_base, learned, num_pieces=40)
    tokenizer = extension.tokenizer
    num_tokens = sum(map(len, tokenizer.encode(split.held_out)))
    assert curve.points[1].text_tokens_per_character == pytest.approx(
        num_tokens / sum(map(len, split.held_out))
    )
    assert curve.points[1].target_tokens_per_character < (
        curve.points[0].target_tokens_per_character
    )


def test_the_order_of_documents_and_copies_of_them_change_nothing_that_is_measured(
    pico_base: Path,
) -> None:
    texts = documents(100)
    one = measure_curve(pico_base, texts, max_pieces=20)
    other = measure_curve(pico_base, texts[::-1], max_pieces=20)
    assert one == other


def test_the_curve_ends_where_the_texts_do(pico_base: Path) -> None:
    curve = measure_curve(pico_base, documents(200), max_pieces=100_000)
    sizes = [point.num_pieces for point in curve.points]
    assert sizes == sorted(set(sizes))
    assert 40 < sizes[-1] < 100_000
    tokens = [point.text_tokens_per_character for point in curve.points]
    assert tokens == sorted(tokens, reverse=True)


def test_training_text_is_counted_for_the_rarest_of_nine_tenths() -> None:
    assert training_characters([50] * 9 + [1], 1000) == 2000
    assert training_characters([200, 100], 1000) == 1000
    assert training_characters([0], 1000) == 100_000
    assert training_characters([], 1000) == 0


def test_final_uses_take_off_what_became_part_of_longer_pieces() -> None:
    merges = [Merge((b"a", b"b"), 10), Merge((b"ab", b"c"), 4), Merge((b"ab", b"ab"), 2)]
    uses = final_uses(merges)
    assert uses[b"ab"] == 10 - 4 - 2 * 2
    assert uses[b"abc"] == 4
    assert uses[b"abab"] == 2


@pytest.mark.parametrize(
    ("texts", "message"),
    [(["白日依山尽"] * 3, "too few documents"), (["only English"] * 50, "no Han characters")],
)
def test_texts_that_cannot_be_measured_are_refused(
    pico_base: Path, texts: list[str], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        measure_curve(pico_base, texts, max_pieces=10, scripts=["Han"])


def test_no_pieces_are_refused(pico_base: Path) -> None:
    with pytest.raises(RecipeError, match="num_pieces is 0"):
        measure_curve(pico_base, documents(50), max_pieces=0)


@pytest.mark.slow
def test_smollm2_is_advised_to_grow(smollm2_gguf: Path, shared_data: Path, tmp_path: Path) -> None:
    pytest.importorskip("zstandard")
    model = open_gguf(smollm2_gguf)
    write_tokenizer(gguf_vocabulary(model), tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(model.config))
    documents = islice(read_documents([shared_data / "corpus/zh.jsonl.zst"]), 0, None, 20)
    curve = measure_curve(tmp_path, (one.text for one in documents), max_pieces=4000)
    tokens = [point.target_tokens_per_character for point in curve.points]
    assert 1.8 < tokens[0] < 2.1  # measured on other Chinese texts: 1.83 to 1.97
    assert 0.75 < tokens[-1] < 0.98
    advice = weigh(curve, read_counts(tmp_path))
    assert advice.num_pieces in (2000, 4000)
    assert advice.options[0].head_share == pytest.approx(0.2105, abs=1e-4)
