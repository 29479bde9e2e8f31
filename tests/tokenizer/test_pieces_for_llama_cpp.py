"""Pieces that llama.cpp could not hold, and files that are no tokenizers: named in one line."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from gguf.constants import TokenType
from tokenizers import Tokenizer
from transformers import AutoTokenizer

from hanpaca.errors import ArtifactError
from hanpaca.tokenizer.conversion.gguf import read_vocabulary
from hanpaca.tokenizer.conversion.gguf_fields import vocabulary_of
from hanpaca.tokenizer.conversion.vocabularies import folder_vocabulary
from tests.support.tokenizers import make_pico_tokenizer

ROWS = 410
FLAGS = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    make_pico_tokenizer(tmp_path)
    return tmp_path


def load(file: Path) -> Any:
    return json.loads(file.read_text(encoding="utf-8"))


def with_added(folder: Path, *tokens: tuple[int, str]) -> Path:
    spec = load(folder / "tokenizer.json")
    spec["added_tokens"] += [
        {"id": number, "content": text, "special": True, **FLAGS} for number, text in tokens
    ]
    (folder / "tokenizer.json").write_text(json.dumps(spec))
    return folder


@pytest.mark.parametrize("text", ["a\0b", "\0", "<s>\0"])
def test_a_piece_with_a_nul_is_named(text: str, folder: Path) -> None:
    size = len(load(folder / "tokenizer.json")["model"]["vocab"])
    with pytest.raises(ArtifactError, match=rf"token {size} is .*x00.*NUL character"):
        read_vocabulary(with_added(folder, (size, text)), ROWS)


def test_one_text_with_two_ids_gets_that_of_tokenizers(folder: Path) -> None:
    """An entry, and twice the same added token, with ids that are said otherwise."""
    vocab = load(folder / "tokenizer.json")["model"]["vocab"]
    size, entry = len(vocab), next(text for text in vocab if len(text) == 2)
    with_added(folder, (409, entry), (402, "<x>"), (407, "<x>"), (405, "<y>"))
    theirs = Tokenizer.from_file(str(folder / "tokenizer.json")).get_vocab()
    ours = read_vocabulary(folder, ROWS)
    used = [n for n in range(ROWS) if ours.token_types[n] != TokenType.UNUSED]
    assert {ours.tokens[number]: number for number in used} == theirs
    assert (theirs["<x>"], theirs["<y>"]) == (size, size + 1)
    assert any("4 added tokens" in note and repr(entry) in note for note in ours.differences)


def test_an_id_that_two_pieces_would_get_is_refused(folder: Path) -> None:
    spec = load(folder / "tokenizer.json")
    spec["model"]["vocab"]["far"] = len(spec["model"]["vocab"]) + 1
    (folder / "tokenizer.json").write_text(json.dumps(spec))
    with pytest.raises(ArtifactError, match="an id of its own"):
        read_vocabulary(with_added(folder, (405, "<x>")), ROWS)


def test_a_name_of_an_empty_row_is_no_pieces(folder: Path) -> None:
    size = len(load(folder / "tokenizer.json")["model"]["vocab"])
    vocabulary = read_vocabulary(with_added(folder, (size, "[PAD405]")), ROWS)
    assert vocabulary.tokens[405] == "[[PAD405]]"
    assert len(set(vocabulary.tokens)) == ROWS


def test_two_rows_of_pieces_with_one_text_are_refused(
    pico_sentencepiece: Path, tmp_path: Path
) -> None:
    shutil.copy(pico_sentencepiece / "tokenizer.model", tmp_path)
    (tmp_path / "added_tokens.json").write_text(json.dumps({"<s>": 405}))
    with pytest.raises(ArtifactError, match="tokens 1 and 405 are both '<s>'"):
        folder_vocabulary(tmp_path, ROWS)


def test_a_model_without_a_type_is_what_tokenizers_takes_it_for(folder: Path) -> None:
    expected = read_vocabulary(folder, ROWS)
    spec = load(folder / "tokenizer.json")
    del spec["model"]["type"]
    (folder / "tokenizer.json").write_text(json.dumps(spec))
    assert Tokenizer.from_file(str(folder / "tokenizer.json")).get_vocab_size() > 0
    assert folder_vocabulary(folder, ROWS) == expected
    del spec["model"]["merges"]
    (folder / "tokenizer.json").write_text(json.dumps(spec))
    with pytest.raises(ArtifactError, match="only byte-level BPE"):
        folder_vocabulary(folder, ROWS)


def deep(file: Path) -> None:
    file.write_text("[" * 100_000)


def huge(file: Path) -> None:
    file.unlink(missing_ok=True)
    with file.open("wb") as stream:
        stream.truncate(100_000_000_000)


def pipe(file: Path) -> None:
    file.unlink(missing_ok=True)
    os.mkfifo(file)


@pytest.mark.parametrize("damage", [huge, pipe, deep])
@pytest.mark.parametrize(
    "name",
    [
        "tokenizer.json",
        "tokenizer_config.json",
        "special_tokens_map.json",
        "generation_config.json",
        "config.json",
        "chat_template.jinja",
        "chat_template.json",
        "additional_chat_templates/x.jinja",
        "added_tokens.json",
        "tokenizer.model",
    ],
)
def test_a_file_that_is_none_is_named_in_one_line(
    name: str, damage: Callable[[Path], None], folder: Path, pico_sentencepiece: Path
) -> None:
    if name == "added_tokens.json":
        shutil.copy(pico_sentencepiece / "tokenizer.model", folder)
        (folder / "tokenizer.json").unlink()
    if damage is deep and not name.endswith(".json"):
        pytest.skip("brackets are a template")
    (folder / name).parent.mkdir(exist_ok=True)
    if name in ("chat_template.json", "tokenizer.model"):
        config = load(folder / "tokenizer_config.json")
        del config["chat_template"]
        (folder / "tokenizer_config.json").write_text(json.dumps(config))
        if name == "tokenizer.model":
            (folder / "tokenizer.json").unlink()
    damage(folder / name)
    with pytest.raises(ArtifactError, match=name) as caught:
        folder_vocabulary(folder, ROWS)
    assert "\n" not in str(caught.value)


def test_a_file_of_before_may_2024_is_told_what_it_lacks() -> None:
    with pytest.raises(ValueError, match=r"lacks 'tokenizer.ggml.pre'.*before May 2024.*newer"):
        vocabulary_of({"tokenizer.ggml.model": "gpt2"})


def test_transformers_has_the_ids_of_the_file(folder: Path) -> None:
    with_added(folder, (409, "the"), (402, "<x>"))
    tokenizer, ours = AutoTokenizer.from_pretrained(folder), read_vocabulary(folder, ROWS)
    assert tokenizer.convert_tokens_to_ids("<x>") == ours.tokens.index("<x>")
