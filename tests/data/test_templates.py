"""Conversations as ids and labels: what is learned, after which ids."""

from pathlib import Path

import pytest
from transformers import AutoTokenizer

from hanpaca.data.conversations import Message
from hanpaca.data.named_templates import ALPACA, CHATML
from hanpaca.data.pack import IGNORED
from hanpaca.data.templates import Messages, Writer, encode_conversation
from hanpaca.errors import ArtifactError, DataError
from hanpaca.model.load import load_tokenizer

TALK = (
    Message("system", "Be brief."),
    Message("user", "What is 1+1?"),
    Message("assistant", "Two."),
    Message("user", "And 2+2?"),
    Message("assistant", "Four."),
)


def written(folder: Path, template: str) -> Writer:
    loaded = load_tokenizer(folder)
    loaded.chat_template = template
    return Writer.of(loaded)


@pytest.mark.parametrize("template", [CHATML, ALPACA])
def test_exactly_the_answers_and_their_ends_are_learned(pico_base: Path, template: str) -> None:
    tokenizer = AutoTokenizer.from_pretrained(pico_base)
    writer = written(pico_base, template)
    sequences = encode_conversation(TALK, writer)
    assert all(len(ids) == len(labels) for ids, labels in sequences)
    learned = [label for _, labels in sequences for label in labels if label != IGNORED]
    assert tokenizer.decode(learned) == "Two.<|im_end|>Four.<|im_end|>"
    whole = writer.render([{"role": m.role, "content": m.content} for m in TALK], False)
    assert tokenizer.decode(sequences[-1][0]) == whole
    assert all(
        label in (IGNORED, token)
        for ids, labels in sequences
        for token, label in zip(ids, labels, strict=True)
    )


def test_chatml_in_bytes_has_the_ids_of_its_parts(pico_base: Path) -> None:
    """No text merges with the marks or line breaks between turns: nothing has to begin anew."""
    tokenizer = load_tokenizer(pico_base)
    parts = [f"<|im_start|>{turn.role}\n{turn.content}<|im_end|>\n" for turn in TALK]
    wanted = [one for part in parts for one in tokenizer.encode(part, add_special_tokens=False)]
    [(ids, _)] = encode_conversation(TALK, written(pico_base, CHATML))
    assert ids == wanted


def test_an_answer_marked_so_stands_before_the_next_but_is_not_learned(pico_base: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(pico_base)
    quiet = (*TALK[:2], Message("assistant", "Two.", learned=False), *TALK[3:])
    [(ids, labels)] = encode_conversation(quiet, written(pico_base, CHATML))
    assert ids == encode_conversation(TALK, written(pico_base, CHATML))[0][0]
    assert tokenizer.decode([one for one in labels if one != IGNORED]) == "Four.<|im_end|>"
    alone = (TALK[1], Message("assistant", "Two.", learned=False))
    assert encode_conversation(alone, written(pico_base, CHATML)) == []


def test_a_template_that_rewrites_the_past_is_refused() -> None:
    writer = Writer(
        lambda messages, prompt: f"{len(messages)}{prompt}",
        lambda text: (list(map(ord, text)), list(range(len(text)))),
    )
    with pytest.raises(ArtifactError, match="rewrites earlier turns"):
        encode_conversation(TALK, writer)


def test_a_template_that_shortens_earlier_answers_teaches_each_after_its_own_prompt() -> None:
    """As templates that leave out earlier thoughts do."""

    def render(messages: Messages, prompt: bool) -> str:
        *earlier, last = messages
        kept = [one["content"][: 1 if one["role"] == "assistant" else None] for one in earlier]
        return "|".join([*kept, last["content"]]) + "|"

    sequences = encode_conversation(
        TALK, Writer(render, lambda text: (list(map(ord, text)), list(range(len(text)))))
    )
    learned = ["".join(chr(one) for one in labels if one != IGNORED) for _, labels in sequences]
    assert learned == ["Two.|", "Four.|"]
    assert "".join(map(chr, sequences[1][0])).startswith("Be brief.|What is 1+1?|T|And")


@pytest.mark.parametrize(
    "fault", ["{{ raise_exception('no system role') }}", "{{ messages[9].x }}"]
)
def test_what_a_template_raises_is_one_line(pico_base: Path, fault: str) -> None:
    with pytest.raises(DataError, match="the chat template refuses this conversation: ") as error:
        encode_conversation(TALK, written(pico_base, fault))
    assert "\n" not in str(error.value)
