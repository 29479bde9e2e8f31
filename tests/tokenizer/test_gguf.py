"""Tokenizer folders on their way into GGUF and back, whole and damaged."""

import copy
import dataclasses
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from gguf.constants import TokenType
from transformers import AutoTokenizer

from hanpaca.errors import ArtifactError
from hanpaca.tokenizer.conversion.gguf import read_vocabulary, write_tokenizer
from hanpaca.tokenizer.conversion.pretokenizers import (
    PRE_TOKENIZERS,
    WHOLE_WORDS,
    recognise_pre_tokenizer,
)

ROWS = 400
REPLACEMENTS: tuple[object, ...] = (None, 5, -1, "x", "a b c", [], {}, [1], True, 2**40, 1.5)
Place = tuple[str | int, ...]


@pytest.fixture
def folder(pico_base: Path, tmp_path: Path) -> Path:
    """A tokenizer that may be damaged."""
    target = tmp_path / "tokenizer"
    target.mkdir()
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        if (pico_base / name).exists():
            shutil.copyfile(pico_base / name, target / name)
    return target


def load(file: Path) -> Any:
    return json.loads(file.read_text(encoding="utf-8"))


def change(folder: Path, name: str, **changes: object) -> Path:
    (folder / name).write_text(json.dumps({**load(folder / name), **changes}))
    return folder


def places(tree: object, at: Place = ()) -> Iterator[Place]:
    """Where something can be damaged: every node, of long lists the first ones."""
    yield at
    if isinstance(tree, dict):
        for key in list(tree)[:8]:
            yield from places(tree[key], (*at, key))
    elif isinstance(tree, list):
        for number in range(len(tree))[:2]:
            yield from places(tree[number], (*at, number))


def with_value(tree: Any, at: Place, value: object) -> Any:
    if not at:
        return value
    tree = copy.deepcopy(tree)
    inner = tree
    for key in at[:-1]:
        inner = inner[key]
    inner[at[-1]] = value
    return tree


@pytest.mark.slow
@pytest.mark.parametrize("name", ["tokenizer.json", "tokenizer_config.json"])
def test_no_wrong_value_anywhere_does_more_than_be_refused(name: str, folder: Path) -> None:
    whole = load(folder / name)
    refused = 0
    for at in places(whole):
        for value in REPLACEMENTS:
            (folder / name).write_text(json.dumps(with_value(whole, at, value)))
            try:
                vocabulary = read_vocabulary(folder, ROWS)
            except ArtifactError:
                refused += 1
            else:
                assert len(vocabulary.tokens) == len(vocabulary.token_types) == ROWS
                assert all(0 <= one < ROWS for one in vocabulary.special.values())
                assert all(isinstance(merge, str) for merge in vocabulary.merges)
    assert refused >= 10


@pytest.mark.parametrize("name", ["tokenizer.json", "tokenizer_config.json"])
@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe{}", b"[" * 100_000])
def test_what_is_no_json_is_named(name: str, content: bytes, folder: Path) -> None:
    (folder / name).write_bytes(content)
    with pytest.raises(ArtifactError, match=name.replace(".", r"\.")):
        read_vocabulary(folder, ROWS)


def test_a_missing_tokenizer_is_named_and_missing_settings_are_none(folder: Path) -> None:
    (folder / "tokenizer_config.json").unlink()
    assert read_vocabulary(folder, ROWS).special == {}
    (folder / "tokenizer.json").unlink()
    with pytest.raises(ArtifactError, match=r"tokenizer\.json: cannot be read"):
        read_vocabulary(folder, ROWS)


@pytest.mark.parametrize("ids", [{"a": 3, "b": 3}, {"a": -1}, {"a": "3"}, {"a": True}])
def test_ids_that_are_not_one_a_piece_are_refused(ids: dict[str, object], folder: Path) -> None:
    """An id of -1 named the last row."""
    spec = load(folder / "tokenizer.json")
    vocab = {**spec["model"]["vocab"], **ids}
    change(folder, "tokenizer.json", model={**spec["model"], "vocab": vocab})
    with pytest.raises(ArtifactError, match="an id of its own"):
        read_vocabulary(folder, ROWS)


@pytest.mark.parametrize("model", [{"byte_fallback": True}, {"type": "Unigram"}])
def test_other_kinds_of_tokenizer_are_refused(model: dict[str, Any], folder: Path) -> None:
    spec = load(folder / "tokenizer.json")
    change(folder, "tokenizer.json", model={**spec["model"], **model})
    with pytest.raises(ArtifactError, match="only byte-level BPE"):
        read_vocabulary(folder, ROWS)


@pytest.mark.parametrize("pre", PRE_TOKENIZERS)
def test_a_splitting_rule_is_recognised_by_what_it_does(pre: str, tmp_path: Path) -> None:
    tree = copy.deepcopy(PRE_TOKENIZERS[pre])
    for part in tree.get("pretokenizers", [tree]):
        part.pop("trim_offsets", None)
        part.pop("invert", None)
    whole = pre in WHOLE_WORDS
    assert recognise_pre_tokenizer(tree, tmp_path, ignore_merges=whole) == pre


@pytest.mark.parametrize(
    "tree", [None, {"type": "Metaspace"}, {"type": "ByteLevel", "add_prefix_space": True}]
)
def test_an_unknown_splitting_rule_is_refused(tree: object, folder: Path) -> None:
    change(folder, "tokenizer.json", pre_tokenizer=tree)
    with pytest.raises(ArtifactError, match="no known counterpart of this pre_tokenizer"):
        read_vocabulary(folder, ROWS)


BOS_FIRST = {
    "type": "TemplateProcessing",
    "single": [{"SpecialToken": {"id": "<|im_start|>", "type_id": 0}}, {"Sequence": {"id": "A"}}],
}
PLAIN = {"type": "ByteLevel", "trim_offsets": False}


@pytest.mark.parametrize(
    ("post", "setting", "expected"),
    [
        (None, None, False),
        (None, True, True),
        (BOS_FIRST, None, True),
        (BOS_FIRST, False, True),  # transformers 5 does not look at the setting
        ({"type": "Sequence", "processors": [PLAIN, BOS_FIRST]}, None, True),
        (PLAIN, None, False),
    ],
)
def test_a_start_token_is_added_where_the_tokenizer_adds_one(
    post: object, setting: bool | None, expected: bool, folder: Path
) -> None:
    change(folder, "tokenizer.json", post_processor=post)
    change(folder, "tokenizer_config.json", add_bos_token=setting)
    assert read_vocabulary(folder, ROWS).add_bos is expected


def test_special_tokens_and_template_are_found_where_folders_keep_them(folder: Path) -> None:
    change(folder, "tokenizer_config.json", bos_token={"content": "<|im_start|>"}, pad_token=None)
    (folder / "chat_template.jinja").write_text("{{ 中 }}", encoding="utf-8")
    vocabulary = read_vocabulary(folder, ROWS)
    assert vocabulary.special == {"bos": 1, "eos": 2, "unk": 0}
    assert vocabulary.chat_template == "{{ 中 }}"
    (folder / "chat_template.jinja").write_bytes(b"\xff\xfe")
    with pytest.raises(ArtifactError, match=r"chat_template\.jinja: not UTF-8"):
        read_vocabulary(folder, ROWS)


def test_added_tokens_keep_their_kind(folder: Path) -> None:
    spec = load(folder / "tokenizer.json")
    own = {**spec["added_tokens"][0], "id": 394, "content": "<own>", "special": False}
    change(folder, "tokenizer.json", added_tokens=[*spec["added_tokens"], own])
    vocabulary = read_vocabulary(folder, ROWS)
    kinds = [TokenType(kind) for kind in vocabulary.token_types]
    assert kinds[:3] == [TokenType.CONTROL] * 3
    assert kinds[3] == TokenType.NORMAL
    assert kinds[394] == TokenType.USER_DEFINED
    assert kinds[395:] == [TokenType.UNUSED] * 5


def test_a_written_tokenizer_encodes_as_the_one_that_was_read(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    vocabulary = read_vocabulary(folder, ROWS)
    write_tokenizer(vocabulary, out)
    assert read_vocabulary(out, ROWS) == vocabulary
    old, new = (AutoTokenizer.from_pretrained(one) for one in (folder, out))
    for text in ("The dog,\n 1984", "白日依山尽", "a<|im_end|>b", ""):
        assert new.encode(text) == old.encode(text)


def test_a_rule_only_llama_cpp_knows_is_refused(folder: Path, tmp_path: Path) -> None:
    vocabulary = read_vocabulary(folder, ROWS)
    vocabulary = dataclasses.replace(vocabulary, pre="deepseek-llm")
    with pytest.raises(ArtifactError, match="'deepseek-llm' is not known"):
        write_tokenizer(vocabulary, tmp_path)
    assert not list(tmp_path.glob("*.json"))
