"""Reading tokenizer.json: what is accepted, what is refused, and in which words."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hanpaca.errors import ArtifactError
from hanpaca.tokenizer.byte_bpe import (
    BYTE_TO_CHARACTER,
    bytes_of_piece,
    piece_of_bytes,
    read_byte_bpe,
)

Change = Callable[[dict[str, Any]], Any]


def changed_base(base: Path, folder: Path, change: Change) -> Path:
    spec = json.loads((base / "tokenizer.json").read_text(encoding="utf-8"))
    change(spec)
    folder.mkdir(exist_ok=True)
    (folder / "tokenizer.json").write_text(json.dumps(spec), encoding="utf-8")
    return folder


def test_the_byte_alphabet_is_that_of_the_tokenizers_library() -> None:
    from tokenizers import pre_tokenizers

    assert set(BYTE_TO_CHARACTER.values()) == set(pre_tokenizers.ByteLevel.alphabet())
    step = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    text = "".join(map(chr, range(0x2000))) + "白日依山尽😀"
    assert step.pre_tokenize_str(text)[0][0] == piece_of_bytes(text.encode())


def test_pieces_and_bytes_are_two_spellings_of_one_thing() -> None:
    data = bytes(range(256))
    assert bytes_of_piece(piece_of_bytes(data)) == data
    assert piece_of_bytes(" 白".encode()) == "ĠçĻ½"


def test_both_ways_to_write_merges_are_read(pico_base: Path, tmp_path: Path) -> None:
    def as_text(spec: dict[str, Any]) -> None:
        spec["model"]["merges"] = [" ".join(pair) for pair in spec["model"]["merges"]]

    old = read_byte_bpe(changed_base(pico_base, tmp_path, as_text))
    new = read_byte_bpe(pico_base)
    assert old.merges == new.merges
    assert len(new.merges) > 50


def test_the_next_id_counts_special_tokens_too(pico_base: Path, tmp_path: Path) -> None:
    def add(spec: dict[str, Any]) -> None:
        token = {"content": "<|tool|>", "id": len(spec["model"]["vocab"]), "special": True}
        flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
        spec["added_tokens"].append(token | flags)

    before = read_byte_bpe(pico_base)
    after = read_byte_bpe(changed_base(pico_base, tmp_path, add))
    assert after.next_id == before.next_id + 1 == len(after.ids)


def test_truncation_and_padding_of_the_file_do_not_apply(pico_base: Path, tmp_path: Path) -> None:
    def truncate(spec: dict[str, Any]) -> None:
        spec["truncation"] = {
            "max_length": 3, "strategy": "LongestFirst", "stride": 0, "direction": "Right"
        }  # fmt: skip

    base = read_byte_bpe(changed_base(pico_base, tmp_path, truncate))
    assert len(base.backend.encode("many more words than three").ids) > 3


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"tokenizer\.json: no such file"):
        read_byte_bpe(tmp_path)


@pytest.mark.parametrize(
    "content", ['{"model": {"type": "BPE", "voc', "[]", "{}", "\udcff", "[" * 99_999]
)
def test_a_damaged_file_is_named(tmp_path: Path, content: str) -> None:
    data = content.encode("utf-8", "surrogateescape")
    (tmp_path / "tokenizer.json").write_bytes(data)
    with pytest.raises(ArtifactError, match=r"tokenizer\.json: (damaged|a JSON object)"):
        read_byte_bpe(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s["model"].update(type="Unigram"), "it is a Unigram tokenizer"),
        (lambda s: s["model"].update(type="WordPiece"), "it is a WordPiece tokenizer"),
        (lambda s: s["model"].update(byte_fallback=True), "SentencePiece-style"),
        (lambda s: s["model"].update(dropout=0.1), r"model\.dropout is 0\.1"),
        (lambda s: s["model"].update(end_of_word_suffix="</w>"), "'</w>'"),
        (lambda s: s.update(pre_tokenizer=None), "no ByteLevel step"),
        (lambda s: s.update(pre_tokenizer={"type": "Whitespace"}), "no ByteLevel step"),
        (lambda s: s["pre_tokenizer"].update(pretokenizers=None), "no ByteLevel step"),
        (
            lambda s: s["pre_tokenizer"]["pretokenizers"][1].update(add_prefix_space=True),
            "add_prefix_space",
        ),
    ],
)
def test_what_is_not_byte_level_bpe_is_refused(
    pico_base: Path, tmp_path: Path, change: Change, message: str
) -> None:
    folder = changed_base(pico_base, tmp_path, change)
    with pytest.raises(ArtifactError, match=message) as caught:
        read_byte_bpe(folder)
    assert str(folder / "tokenizer.json") in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("merge", ["a", "a b c", ["a"], ["a", 1], ["zz", "qq"], None])
def test_a_damaged_merge_is_named_by_its_number(
    pico_base: Path, tmp_path: Path, merge: object
) -> None:
    folder = changed_base(pico_base, tmp_path, lambda s: s["model"]["merges"].insert(2, merge))
    with pytest.raises(ArtifactError, match=r"merges\[2\]"):
        read_byte_bpe(folder)


def test_two_entries_of_one_id_are_damage(pico_base: Path, tmp_path: Path) -> None:
    def share(spec: dict[str, Any]) -> None:
        spec["model"]["vocab"]["b"] = spec["model"]["vocab"]["a"]

    folder = changed_base(pico_base, tmp_path, share)
    with pytest.raises(ArtifactError, match=r"id \d+ stands for several entries"):
        read_byte_bpe(folder)


def test_the_model_alone_cuts_bytes_as_the_whole_tokenizer_does(pico_base: Path) -> None:
    base = read_byte_bpe(pico_base)
    assert base.split("Ġquick") == base.backend.encode(" quick").tokens
