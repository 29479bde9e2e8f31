"""SentencePiece folders on their way into GGUF and back, whole and damaged."""

import json
import shutil
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest
import sentencepiece
from gguf.constants import TokenType

from hanpaca.errors import ArtifactError
from hanpaca.tokenizer.conversion.tokenizer_json import convert_sentencepiece
from hanpaca.tokenizer.conversion.vocabularies import folder_vocabulary, write_vocabulary
from hanpaca.tokenizer.sentencepiece_bpe import read_sentencepiece

ROWS = 410


@pytest.fixture(scope="module")
def whole(pico_sentencepiece: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole") / "t"
    convert_sentencepiece(pico_sentencepiece, folder)
    return folder


@pytest.fixture
def folder(whole: Path, tmp_path: Path) -> Path:
    """A tokenizer that may be damaged."""
    return Path(shutil.copytree(whole, tmp_path / "t"))


def change(file: Path, **changes: Any) -> None:
    tree = json.loads(file.read_text()) if file.exists() else {}
    file.write_text(json.dumps({**tree, **changes}))


def test_pieces_keep_score_and_type_and_rows_without_one_are_unused(folder: Path) -> None:
    vocabulary = folder_vocabulary(folder, ROWS)
    oracle = sentencepiece.SentencePieceProcessor(model_file=str(folder / "tokenizer.model"))
    assert (vocabulary.model, vocabulary.pre, vocabulary.merges) == ("llama", "default", [])
    for number in range(len(oracle)):
        assert vocabulary.tokens[number] == oracle.id_to_piece(number)
        assert vocabulary.scores[number] == oracle.get_score(number)
    kinds = [TokenType(kind) for kind in vocabulary.token_types]
    assert kinds[:3] == [TokenType.UNKNOWN, TokenType.CONTROL, TokenType.CONTROL]
    assert kinds[3:259] == [TokenType.BYTE] * 256
    assert set(kinds[259:400]) == {TokenType.NORMAL}
    assert kinds[400:] == [TokenType.UNUSED] * 10
    assert vocabulary.tokens[400] == "[PAD400]"
    assert vocabulary.special == {"unk": 0, "bos": 1, "eos": 2}
    assert (vocabulary.add_bos, vocabulary.add_eos, vocabulary.space_prefix) == (True, False, True)
    assert vocabulary.differences == ()


def test_a_model_alone_is_enough(pico_sentencepiece: Path, folder: Path) -> None:
    assert folder_vocabulary(pico_sentencepiece, ROWS) == folder_vocabulary(folder, ROWS)


@pytest.mark.slow
@pytest.mark.parametrize("place", ["added_tokens.json", "tokenizer_config.json", "tokenizer.json"])
def test_added_tokens_are_found_where_folders_keep_them(place: str, folder: Path) -> None:
    token = {"id": 403, "content": "<|user|>", "special": place != "added_tokens.json"}
    token |= dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    if place == "added_tokens.json":
        change(folder / place, **{"<|user|>": 403})
    elif place == "tokenizer_config.json":
        change(folder / place, added_tokens_decoder={"403": token})
    else:
        tokens = json.loads((folder / place).read_text())["added_tokens"]
        change(folder / place, added_tokens=[*tokens, token])
    vocabulary = folder_vocabulary(folder, ROWS)
    assert vocabulary.tokens[402:405] == ["[PAD402]", "<|user|>", "[PAD404]"]
    assert vocabulary.scores[403] == -1000
    kind = TokenType.CONTROL if token["special"] else TokenType.USER_DEFINED
    assert vocabulary.token_types[403] == kind
    write_vocabulary(vocabulary, folder, folder)
    assert folder_vocabulary(folder, ROWS) == vocabulary


@pytest.mark.slow
def test_settings_beside_the_model_count(folder: Path) -> None:
    change(folder / "tokenizer_config.json", add_bos_token=False, add_eos_token=True)
    change(folder / "tokenizer_config.json", pad_token="</s>", chat_template="{{ 中 }}")
    vocabulary = folder_vocabulary(folder, ROWS)
    # What tokenizer.json puts around a text counts, as in transformers 5; EOS would end prompts.
    assert (vocabulary.add_bos, vocabulary.add_eos) == (True, False)
    assert vocabulary.special == {"unk": 0, "bos": 1, "eos": 2, "pad": 2}
    assert vocabulary.chat_template == "{{ 中 }}"
    write_vocabulary(vocabulary, folder, folder)
    assert folder_vocabulary(folder, ROWS) == vocabulary


def test_what_does_not_belong_together_is_refused(folder: Path, pico_base: Path) -> None:
    with pytest.raises(ArtifactError, match="a piece with id 399, the model only 399 rows"):
        folder_vocabulary(folder, 399)
    spec = json.loads((folder / "tokenizer.json").read_text())
    vocab = {**spec["model"]["vocab"], "the": 5}
    change(folder / "tokenizer.json", model={**spec["model"], "vocab": vocab})
    with pytest.raises(ArtifactError, match=r"not those of tokenizer\.model"):
        folder_vocabulary(folder, ROWS)
    change(folder / "added_tokens.json", **{"<x>": 300})
    (folder / "tokenizer.json").unlink()
    with pytest.raises(ArtifactError, match="token 300 is '<x>' in the tokenizer's files, but"):
        folder_vocabulary(folder, ROWS)


@pytest.mark.parametrize("value", ["x", -1, None, [1]])
def test_damaged_added_tokens_are_refused(value: object, folder: Path) -> None:
    change(folder / "added_tokens.json", **{"<x>": value})
    with pytest.raises(ArtifactError, match="damaged added tokens"):
        folder_vocabulary(folder, ROWS)


def test_a_missing_model_is_named(folder: Path, tmp_path: Path) -> None:
    (folder / "tokenizer.model").unlink()
    with pytest.raises(ArtifactError, match=r"no tokenizer\.model, which tokenizer\.json"):
        folder_vocabulary(folder, ROWS)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ArtifactError, match=r"no tokenizer\.model and no tokenizer\.json"):
        folder_vocabulary(tmp_path / "empty", ROWS)


def test_bytes_beside_a_model_of_another_kind_are_the_tokenizer(
    pico_base: Path, folder: Path
) -> None:
    """As in Llama 3's folders, whose `tokenizer.model` is no SentencePiece model."""
    shutil.copyfile(pico_base / "tokenizer.json", folder / "tokenizer.json")
    assert folder_vocabulary(folder, ROWS).model == "gpt2"


def test_equal_scores_are_told_and_come_back_without_a_merge_list(folder: Path) -> None:
    proto = read_sentencepiece(folder).proto
    known = {piece.piece for piece in proto.pieces}
    for one, other in permutations("thearsin", 2):
        if one + other not in known:
            proto.pieces.add(piece=one + other, score=0.0)
    (folder / "tokenizer.model").write_bytes(proto.SerializeToString())
    (folder / "tokenizer.json").unlink()
    convert_sentencepiece(folder, folder.parent / "inexact", inexact=True)
    vocabulary = folder_vocabulary(folder.parent / "inexact", 500)
    assert any("share a score, which no" in told for told in vocabulary.differences)
    (folder.parent / "back").mkdir()
    write_vocabulary(vocabulary, folder.parent / "back", folder)
    assert not (folder.parent / "back" / "tokenizer.json").exists()
    back = read_sentencepiece(folder.parent / "back").proto.pieces
    assert [(p.piece, p.score, p.type) for p in back] == [
        (p.piece, p.score, p.type) for p in proto.pieces
    ]


def test_another_order_of_merges_is_told(folder: Path) -> None:
    spec = json.loads((folder / "tokenizer.json").read_text())
    merges = spec["model"]["merges"]
    change(folder / "tokenizer.json", model={**spec["model"], "merges": merges[::-1]})
    (told,) = folder_vocabulary(folder, ROWS).differences
    assert "get other ids from tokenizer.json" in told


@pytest.mark.parametrize("merges", [[["q", "qqq"]], "x", [1]])
def test_a_damaged_list_of_merges_is_refused(merges: object, folder: Path) -> None:
    spec = json.loads((folder / "tokenizer.json").read_text())
    change(folder / "tokenizer.json", model={**spec["model"], "merges": merges})
    with pytest.raises(ArtifactError, match=r"tokenizer\.json: damaged"):
        folder_vocabulary(folder, ROWS)
