"""LLaMA bases with [PAD] or ChatML tokens beside `tokenizer.model` are extended behind them."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import sentencepiece
from transformers import AutoTokenizer

from hanpaca.errors import ArtifactError
from hanpaca.tokenizer.added import named_tokens, role_tokens
from hanpaca.tokenizer.extension.extend import Extension, extend_tokenizer, write_extension
from hanpaca.tokenizer.open import open_tokenizer
from hanpaca.tokenizer.vocabulary import new_spellings

CHINESE = ["白日依山尽，黄河入海流。", "欲穷千里目，更上一层楼。"] * 3
TEXTS = ["The lazy dog.", "白日 and the dog", "  two  spaces", "1984年"]
CHATML = {"<|im_end|>": 400, "<|im_start|>": 401}
DECODER = {
    "400": {"content": "<|im_end|>", "special": True},
    "401": {"content": "<|im_start|>", "special": False},
}


def base_with(source: Path, folder: Path, **files: Any) -> Path:
    folder.mkdir()
    shutil.copyfile(source / "tokenizer.model", folder / "tokenizer.model")
    for name, tree in files.items():
        (folder / f"{name}.json").write_text(json.dumps(tree), encoding="utf-8")
    return folder


def extended(base: Path, folder: Path) -> Extension:
    extension = extend_tokenizer(base, CHINESE, num_pieces=9)
    write_extension(extension, base, folder)
    return extension


@pytest.mark.parametrize(
    ("files", "tokens"),
    [
        ({"added_tokens": {"[PAD]": 400}}, {"[PAD]": 400}),
        ({"added_tokens": {"[PAD]": 400, "<unk>": 0, "<s>": 1}}, {"[PAD]": 400}),
        ({"added_tokens": CHATML}, CHATML),
        ({"tokenizer_config": {"added_tokens_decoder": DECODER}}, CHATML),
        ({"added_tokens": CHATML, "tokenizer_config": {"added_tokens_decoder": DECODER}}, CHATML),
        ({"added_tokens": {"[PAD]": 400}, "special_tokens_map": {"pad_token": "[PAD]"}},
         {"[PAD]": 400}),
    ],
)  # fmt: skip
def test_new_pieces_come_after_them_in_every_file(
    pico_sentencepiece: Path, tmp_path: Path, files: dict[str, Any], tokens: dict[str, int]
) -> None:
    base, folder = base_with(pico_sentencepiece, tmp_path / "base", **files), tmp_path / "new"
    extension = extended(base, folder)
    assert extension.first_id == 400 + len(tokens)
    processor = sentencepiece.SentencePieceProcessor(model_file=str(folder / "tokenizer.model"))
    fast = AutoTokenizer.from_pretrained(folder)
    new = range(extension.first_id, extension.first_id + 9)
    assert [processor.id_to_piece(number) for number in new] == list(extension.pieces)
    assert fast.convert_tokens_to_ids(list(extension.pieces)) == list(new)
    for token, number in tokens.items():
        assert processor.piece_to_id(token) == number
        assert fast.encode(token, add_special_tokens=False) == [number]
    for text in TEXTS:
        ids = processor.encode(text)
        assert fast.encode(text, add_special_tokens=False) == ids
        assert open_tokenizer(folder).encode([text]) == [ids]
    assert len(fast) == processor.get_piece_size() == 409 + len(tokens)


def test_only_new_pieces_get_new_rows(pico_sentencepiece: Path, tmp_path: Path) -> None:
    base = base_with(pico_sentencepiece, tmp_path / "base", added_tokens=CHATML)
    extension = extended(base, tmp_path / "new")
    spellings = new_spellings(open_tokenizer(base), open_tokenizer(tmp_path / "new"))
    assert [tuple(one) for one in spellings] == list(extension.spellings)
    again = extended(tmp_path / "new", tmp_path / "again")
    assert again.first_id == 411


def test_special_tokens_stay_special_and_others_do_not(
    pico_sentencepiece: Path, tmp_path: Path
) -> None:
    config = {"added_tokens_decoder": DECODER}
    base = base_with(pico_sentencepiece, tmp_path / "base", tokenizer_config=config)
    extended(base, tmp_path / "new")
    fast = AutoTokenizer.from_pretrained(tmp_path / "new")
    shown = {skip: str(fast.decode([400, 401], skip_special_tokens=skip)) for skip in (True, False)}
    assert shown[False].split() == list(CHATML)
    assert shown[True].split() == ["<|im_start|>"]


def test_a_gguf_file_gets_the_same_ids(pico_sentencepiece: Path, tmp_path: Path) -> None:
    from hanpaca.tokenizer.conversion.vocabularies import folder_vocabulary

    base = base_with(pico_sentencepiece, tmp_path / "base", added_tokens=CHATML)
    extension = extended(base, tmp_path / "new")
    written = folder_vocabulary(tmp_path / "new", 411)
    pieces = list(extension.tokenizer.ids)
    assert written.tokens == pieces
    assert written.tokens[400:402] == list(CHATML)


def test_a_text_that_spells_a_control_token_is_no_fault(pico_sentencepiece: Path) -> None:
    texts = [*CHINESE, "<s>白日依山尽</s>"]
    assert len(extend_tokenizer(pico_sentencepiece, texts, num_pieces=9).pieces) == 9


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"added_tokens": {"[PAD]": 402}}, "would collide"),
        ({"added_tokens": {"[PAD]": 7}}, "would collide"),
        ({"added_tokens": {"[PAD]": "x"}}, "damaged"),
        ({"added_tokens": {"[PAD]": -1}}, "damaged"),
        ({"tokenizer_config": {"added_tokens_decoder": {"400": "x"}}}, "damaged"),
        ({"tokenizer_config": {"added_tokens_decoder": [1]}}, "damaged"),
        ({"tokenizer_config": {"added_tokens_decoder": {"400": {"special": True}}}}, "damaged"),
    ],
)
def test_lists_that_make_no_sense_are_refused_in_one_line(
    pico_sentencepiece: Path, tmp_path: Path, files: dict[str, Any], message: str
) -> None:
    base = base_with(pico_sentencepiece, tmp_path / "base", **files)
    with pytest.raises(ArtifactError, match=message) as error:
        extend_tokenizer(base, CHINESE, num_pieces=9)
    assert "\n" not in str(error.value)


def test_a_token_counts_as_named_wherever_it_is_named(tmp_path: Path) -> None:
    config = {"pad_token": "<unk>", "extra_special_tokens": {"image_token": "<image>"}}
    special = {"pad_token": {"content": "[PAD]"}, "additional_special_tokens": ["<a>"]}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
    (tmp_path / "special_tokens_map.json").write_text(json.dumps(special), encoding="utf-8")
    assert named_tokens(tmp_path) == {"<unk>", "[PAD]", "<a>", "<image>"}
    assert role_tokens(tmp_path) == {"pad": "[PAD]"}
