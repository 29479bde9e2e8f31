import json
from pathlib import Path

import pytest
from transformers import AutoTokenizer

from hanpaca.data.conversations import (
    ALPACA,
    CHATML,
    Message,
    encode_conversation,
    read_conversations,
)
from hanpaca.errors import ArtifactError, DataError

TALK = (
    Message("system", "Be brief."),
    Message("user", "What is 1+1?"),
    Message("assistant", "Two."),
    Message("user", "And 2+2?"),
    Message("assistant", "Four."),
)


def write(path: Path, tree: object) -> Path:
    path.write_text(json.dumps(tree, ensure_ascii=False), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("row", "asked", "answered"),
    [
        ({"instruction": "译", "input": "hi", "output": "你好"}, "译\nhi", "你好"),
        ({"instruction": "译", "input": "", "output": "你好"}, "译", "你好"),
        (
            {"conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]},
            "q",
            "a",
        ),
        (
            {
                "messages": [
                    {"role": "user", "content": "q"},
                    {"role": "assistant", "content": "a"},
                ]
            },
            "q",
            "a",
        ),
    ],
)
def test_the_usual_formats_are_read(
    tmp_path: Path, row: dict[str, object], asked: str, answered: str
) -> None:
    file = write(tmp_path / "a.json", [row])
    [(conversation, source)] = read_conversations([file])
    assert conversation == (Message("user", asked), Message("assistant", answered))
    assert source == f"{file}:1"


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"instruction": "x", "output": ""}, "a.json:1: field 'output' is empty"),
        ({"messages": [{"role": "bot", "content": "x"}]}, "role 'bot' is unknown"),
        ({"messages": [{"role": "user", "content": "x"}]}, "no answer"),
        ({"messages": "x"}, "a list of objects"),
        ({"prompt": "x"}, "found prompt; expected instruction"),
        (3, "an object is needed, not int"),
    ],
)
def test_a_malformed_row_is_named(tmp_path: Path, row: object, message: str) -> None:
    with pytest.raises(DataError, match=message):
        list(read_conversations([write(tmp_path / "a.json", [row])]))


def test_broken_files_are_named(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"instruction": "x", "output": "y"}\n{oops\n')
    with pytest.raises(DataError, match=r"a\.jsonl:2: not JSON"):
        list(read_conversations([tmp_path / "a.jsonl"]))
    with pytest.raises(DataError, match="a list of conversations is needed, not dict"):
        list(read_conversations([write(tmp_path / "b.json", {})]))


@pytest.mark.parametrize("template", [CHATML, ALPACA])
def test_exactly_the_answers_and_their_ends_are_learned(pico_base: Path, template: str) -> None:
    tokenizer = AutoTokenizer.from_pretrained(pico_base)
    tokenizer.chat_template = template

    def render(messages: list[dict[str, str]], prompt: bool) -> str:
        text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=prompt)
        return str(text)

    def encode(text: str) -> list[int]:
        return list(tokenizer.encode(text, add_special_tokens=False))

    ids, labels = encode_conversation(TALK, render=render, encode=encode)
    assert len(ids) == len(labels)
    learned = tokenizer.decode([label for label in labels if label != -100])
    assert learned == "Two.<|im_end|>Four.<|im_end|>"
    whole = render([{"role": m.role, "content": m.content} for m in TALK], False)
    assert tokenizer.decode(ids) == whole
    assert all(label in (-100, token) for token, label in zip(ids, labels, strict=True))


def test_a_template_that_rewrites_the_past_is_refused() -> None:
    with pytest.raises(ArtifactError, match="rewrites earlier turns"):
        encode_conversation(
            TALK,
            render=lambda messages, prompt: f"{len(messages)}{prompt}",
            encode=list,  # type: ignore[arg-type]
        )
