"""Instruction tuning by itself: which template, which blocks, which labels."""

from pathlib import Path

import pytest
from transformers import PreTrainedTokenizerFast

from hanpaca.data.conversations import ALPACA, CHATML, Conversation, Message
from hanpaca.errors import DataError, RecipeError
from hanpaca.model.load import load_tokenizer
from hanpaca.pipeline.pretrain import num_blocks, pack_texts, replay_blocks
from hanpaca.pipeline.sft import chat_template, pack_conversations
from hanpaca.recipe import SftSection

TALKS = [
    (Message("user", f"question {number}"), Message("assistant", f"answer {number} 山"))
    for number in range(40)
]


@pytest.fixture(scope="module")
def tokenizer(pico_base: Path) -> PreTrainedTokenizerFast:
    return load_tokenizer(pico_base)


def section(**changes: object) -> SftSection:
    return SftSection.model_validate({"num_tokens": 512, "block_tokens": 64, **changes})


def test_the_template_is_the_bases_own_unless_another_is_named(pico_base: Path) -> None:
    tokenizer = load_tokenizer(pico_base)
    own = tokenizer.chat_template
    assert chat_template(tokenizer, section()) == own
    assert chat_template(tokenizer, section(template="chatml")) == CHATML
    assert chat_template(tokenizer, section(template="alpaca")) == ALPACA
    tokenizer.chat_template = None
    assert chat_template(tokenizer, section(template="chatml")) == CHATML
    with pytest.raises(RecipeError, match=r"no chat template of its own; set sft\.template "):
        chat_template(tokenizer, section())


@pytest.mark.parametrize("template", [CHATML, ALPACA])
def test_exactly_the_answers_are_learned(template: str, pico_base: Path) -> None:
    tokenizer = load_tokenizer(pico_base)
    tokenizer.chat_template = template
    blocks = pack_conversations(tokenizer, TALKS[:5], section(num_tokens=4096, block_tokens=256))
    learned = []
    for labels in blocks.labels:
        spans: list[list[int]] = [[]]
        for label in labels:
            if label == -100:
                spans.append([])
            else:
                spans[-1].append(int(label))
        learned += [tokenizer.decode(span) for span in spans if span]
    assert sorted(learned) == [f"answer {number} 山<|im_end|>" for number in range(5)]


def test_no_more_is_packed_than_the_recipe_needs(tokenizer: PreTrainedTokenizerFast) -> None:
    tokenizer.chat_template = CHATML
    few = pack_conversations(tokenizer, TALKS, section(num_tokens=256))
    many = pack_conversations(tokenizer, TALKS, section(num_tokens=100_000))
    assert 256 <= few.input_ids.size < many.input_ids.size
    again = pack_conversations(tokenizer, TALKS, section(num_tokens=256))
    assert (few.input_ids == again.input_ids).all()


def test_a_long_conversation_loses_its_end(tokenizer: PreTrainedTokenizerFast) -> None:
    tokenizer.chat_template = CHATML
    long: Conversation = (Message("user", "q"), Message("assistant", "word " * 500))
    blocks = pack_conversations(tokenizer, [long], section())
    assert blocks.input_ids.shape == (1, 64)
    assert (blocks.position_ids[0] == range(64)).all()
    assert blocks.labels[0, -1] == blocks.input_ids[0, -1]


def test_nothing_to_learn_is_said(tokenizer: PreTrainedTokenizerFast) -> None:
    with pytest.raises(DataError, match="nothing to train on"):
        pack_conversations(tokenizer, [], section())


def test_replay_is_packed_only_where_it_is_wanted(tokenizer: PreTrainedTokenizerFast) -> None:
    texts = ["The quick brown fox.", "It was the best of times."]
    assert replay_blocks(tokenizer, texts, section(replay_fraction=0.0)) is None
    assert replay_blocks(tokenizer, [], section(replay_fraction=0.5)) is None
    found = replay_blocks(tokenizer, texts, section(replay_fraction=0.5))
    assert found is not None
    assert (found.input_ids == pack_texts(tokenizer, texts, section()).input_ids).all()


@pytest.mark.parametrize(("num_tokens", "blocks"), [(512, 8), (575, 8), (576, 9)])
def test_the_number_of_blocks_makes_up_the_tokens(num_tokens: int, blocks: int) -> None:
    assert num_blocks(section(num_tokens=num_tokens)) == blocks


def test_documents_stand_between_start_and_end(tokenizer: PreTrainedTokenizerFast) -> None:
    blocks = pack_texts(tokenizer, ["best of times", "山"], section())
    ids = blocks.input_ids[0].tolist()
    first = [1, *tokenizer.encode("best of times", add_special_tokens=False), 2]
    second = [1, *tokenizer.encode("山", add_special_tokens=False), 2]
    assert ids[: len(first) + len(second)] == first + second
    assert set(ids[len(first) + len(second) :]) == {2}
    assert (blocks.labels[0][len(first) + len(second) :] == -100).all()


def test_a_conversation_without_room_for_an_answer_is_left_out(
    tokenizer: PreTrainedTokenizerFast,
) -> None:
    tokenizer.chat_template = CHATML
    long = (Message("user", "山" * 90), Message("assistant", "x"))
    blocks = pack_conversations(tokenizer, [long, *TALKS[:3]], section())
    assert (blocks.labels != -100).any(axis=1).all()
    only_short = pack_conversations(tokenizer, TALKS[:3], section())
    assert (blocks.input_ids == only_short.input_ids).all()
    with pytest.raises(RecipeError, match=r"sft\.block_tokens: 64 tokens end before any answer"):
        pack_conversations(tokenizer, [long], section())
