"""Instruction tuning by itself: which template, which blocks, which labels."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from transformers import PreTrainedTokenizerFast

from hanpaca.data.conversations import Conversation, Message
from hanpaca.data.named_templates import ALPACA, CHATML
from hanpaca.data.pack import Blocks, Ints
from hanpaca.data.sources import GivenTexts
from hanpaca.errors import DataError, RecipeError
from hanpaca.model.load import load_tokenizer
from hanpaca.settings import SftSettings
from hanpaca.steps.pretrain import num_blocks, replay_blocks
from hanpaca.steps.sft import chat_template
from hanpaca.tokenizer.conversion.tokenizer_json import convert_sentencepiece
from hanpaca.training.blocks import Cutting, conversation_tokens, text_tokens

TALKS = [
    (Message("user", f"question {number}"), Message("assistant", f"answer {number} 山"))
    for number in range(40)
]


@pytest.fixture(scope="module")
def tokenizer(pico_base: Path) -> PreTrainedTokenizerFast:
    return load_tokenizer(pico_base)


def section(**changes: object) -> SftSettings:
    return SftSettings.model_validate({"num_tokens": 512, "block_tokens": 64, **changes})


def test_the_template_is_the_bases_own_unless_another_is_named(pico_base: Path) -> None:
    tokenizer = load_tokenizer(pico_base)
    own = tokenizer.chat_template
    assert chat_template(tokenizer, section()) == own
    assert chat_template(tokenizer, section(template="chatml")) == CHATML
    assert chat_template(tokenizer, section(template="alpaca")) == ALPACA
    tokenizer.chat_template = None
    assert chat_template(tokenizer, section(template="chatml")) == CHATML
    with pytest.raises(
        RecipeError, match=r"no chat template of its own: set template= to alpaca or chatml"
    ):
        chat_template(tokenizer, section())


def test_of_several_templates_the_default_is_taken(pico_base: Path) -> None:
    """As transformers does with a list in tokenizer_config.json."""
    tokenizer = load_tokenizer(pico_base)
    tokenizer.chat_template = {"default": CHATML, "tool_use": "x"}
    assert chat_template(tokenizer, section()) == CHATML
    tokenizer.chat_template = {"rag": CHATML, "tool_use": "x"}
    with pytest.raises(RecipeError, match="named rag, tool_use, but none named default"):
        chat_template(tokenizer, section())


def test_a_template_whose_answers_cannot_end_is_refused(
    pico_base: Path, pico_sentencepiece: Path, tmp_path: Path
) -> None:
    convert_sentencepiece(pico_sentencepiece, tmp_path / "t")
    pieces = load_tokenizer(tmp_path / "t")
    with pytest.raises(RecipeError, match=r"chatml: .*'<\|im_end\|>', .* template= to alpaca$"):
        chat_template(pieces, section(template="chatml"))
    assert chat_template(pieces, section(template="alpaca")) == ALPACA
    endless = load_tokenizer(pico_base)
    endless.chat_template = "{% for m in messages %}{{ m['content'] }}\n{% endfor %}"
    with pytest.raises(RecipeError, match=r"base: it ends an answer with ''.* chatml or alpaca"):
        chat_template(endless, section())
    endless.chat_template = "{{ raise_exception('never') }}"
    with pytest.raises(RecipeError, match="refuses even a question with its answer: never"):
        chat_template(endless, section())


class Arrays(NamedTuple):
    input_ids: Ints
    labels: Ints
    position_ids: Ints


def in_memory(blocks: Blocks) -> Arrays:
    columns = (blocks.input_ids, blocks.labels, blocks.position_ids)
    return Arrays(*(np.stack([column[n] for n in range(len(column))]) for column in columns))


def pack_texts(
    tokenizer: PreTrainedTokenizerFast, texts: Sequence[str], settings: SftSettings
) -> Arrays:
    tokens, _ = text_tokens(tokenizer, GivenTexts(texts), Cutting(settings.block_tokens))
    return in_memory(tokens.blocks())


def pack_conversations(
    tokenizer: PreTrainedTokenizerFast,
    talks: Sequence[Conversation],
    settings: SftSettings,
    places: Sequence[str] = (),
) -> Arrays:
    tokens, _ = conversation_tokens(
        tokenizer,
        talks,
        block_tokens=settings.block_tokens,
        num_tokens=settings.num_tokens,
        places=places,
    )
    return in_memory(tokens.blocks())


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


def test_nothing_to_learn_is_said(tokenizer: PreTrainedTokenizerFast) -> None:
    with pytest.raises(DataError, match="nothing to train on"):
        pack_conversations(tokenizer, [], section())


def test_replay_is_packed_only_where_it_is_wanted(tokenizer: PreTrainedTokenizerFast) -> None:
    texts = ["The quick brown fox.", "It was the best of times."]
    source = GivenTexts(texts)
    assert replay_blocks(tokenizer, source, section(replay_fraction=0.0)) == (None, 0)
    assert replay_blocks(tokenizer, GivenTexts([]), section(replay_fraction=0.5)) == (None, 0)
    found, number = replay_blocks(tokenizer, source, section(replay_fraction=0.5))
    assert number == 2
    assert found is not None
    expected = pack_texts(tokenizer, texts, section())
    assert (in_memory(found).input_ids == expected.input_ids).all()


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


def test_a_conversation_that_the_template_refuses_is_named_by_file_and_row(
    tokenizer: PreTrainedTokenizerFast,
) -> None:
    """A template in the manner of Mistral: roles alternate, no system turn."""
    tokenizer.chat_template = (
        "{% for m in messages %}{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}"
        "{{ raise_exception('roles must alternate') }}{% endif %}{{ m['content'] }}{% endfor %}"
    )
    twice = (Message("user", "a"), Message("user", "b"), Message("assistant", "c"))
    system = (Message("system", "a"), *TALKS[0])
    for odd in (twice, system):
        with pytest.raises(DataError, match=r"a\.json:2: the chat template .*must alternate"):
            pack_conversations(
                tokenizer, [TALKS[0], odd], section(), places=["a.json:1", "a.json:2"]
            )
