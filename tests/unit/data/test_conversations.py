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


SEPARATORS = "行\u2028段\u2029页\u0085尾\x0b\x0c\x1c\x1e"


@pytest.mark.parametrize("suffix", [".json", ".jsonl"])
def test_unicode_line_ends_inside_a_text_end_no_line(suffix: str, tmp_path: Path) -> None:
    """JSON leaves U+2028 and U+0085 as they are; web text is full of them."""
    row = {"instruction": SEPARATORS, "output": f"答{SEPARATORS}"}
    tree = [row, row] if suffix == ".json" else row
    file = write(tmp_path / f"a{suffix}", tree)
    if suffix == ".jsonl":
        file.write_text(file.read_text(encoding="utf-8") + "\r\n" + json.dumps(row))
    talks = [talk for talk, _ in read_conversations([file])]
    assert len(talks) == 2
    assert {talk[0].content for talk in talks} == {SEPARATORS}
    assert {talk[1].content for talk in talks} == {f"答{SEPARATORS}"}


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.json", b"", "not JSON"),
        ("a.json", b"{}", "a list of conversations is needed, not dict"),
        ("a.json", b"[" * 100_000, "nested too deeply"),
        ("a.jsonl", b"{}\n" + b"[" * 100_000, "a.jsonl:1: found nothing"),
        ("a.jsonl", b"\n\n[1]", "a.jsonl:1: an object is needed, not list"),
        ("a.jsonl", b"\n{", "a.jsonl:2: not JSON"),
        ("a.json", "[{}]".encode("utf-16"), "cannot be read as UTF-8"),
        ("a.json", '[{"output": "你"}]'.encode("gb18030"), "cannot be read as UTF-8"),
        ("a.json", b'[{"output": 5, "instruction": "a"}]', "a.json:1: field 'output'"),
        ("a.json", b'[{"output": "a"}]', "field 'instruction' is empty or not text"),
        ("a.json", b'[{"messages": 5}]', "a list of objects with 'role' and 'content'"),
        ("a.json", b'[{"messages": [5]}]', "a list of objects with 'role' and 'content'"),
        ("a.json", b'[{"messages": [{"role": ["user"], "content": "a"}]}]', "is unknown; known"),
        ("a.json", b'[{"messages": [{"role": "user", "content": "a"}]}]', "there is no answer"),
        ("a.json", b'[{"messages": []}]', "there is no answer"),
    ],
)
def test_a_damaged_file_is_named_with_its_row(
    name: str, content: bytes, message: str, tmp_path: Path
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message) as error:
        list(read_conversations([tmp_path / name]))
    assert "\n" not in str(error.value)
