"""Extending a SentencePiece base: scores, both files, and bases that cannot be extended."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer
from transformers import AutoTokenizer

from hanpaca.errors import ArtifactError, DataError
from hanpaca.tokenizer.conversion.probe import PROBE
from hanpaca.tokenizer.extension.extend import extend_tokenizer, write_extension
from hanpaca.tokenizer.extension.guarantees import dead_pieces
from hanpaca.tokenizer.sentencepiece_bpe import SentencePieceBPE, read_sentencepiece

CHINESE = [
    "白日依山尽，黄河入海流。",
    "欲穷千里目，更上一层楼。",
    "白日放歌须纵酒，千里江陵一日还。",
]
MIXED = "The 白日 of 1984, 黄河入海！ 안녕  白日依山"


def write_changed(base: Path, folder: Path, change: Callable[[Any], object]) -> Path:
    proto = type(read_sentencepiece(base).proto)()
    proto.CopyFrom(read_sentencepiece(base).proto)
    change(proto)
    folder.mkdir()
    (folder / "tokenizer.model").write_bytes(proto.SerializeToString())
    return folder


def test_new_pieces_follow_with_lower_scores(pico_sentencepiece: Path) -> None:
    old = read_sentencepiece(pico_sentencepiece)
    extension = extend_tokenizer(pico_sentencepiece, CHINESE, num_pieces=6)
    new = extension.tokenizer
    assert isinstance(new, SentencePieceBPE)
    assert list(new.proto.pieces)[:400] == list(old.proto.pieces)
    lowest = min(piece.score for piece in old.proto.pieces)
    scores = [piece.score for piece in new.proto.pieces][400:]
    assert scores == [lowest - 1 - i for i in range(6)]
    assert extension.first_id == 400
    assert tuple(piece.piece for piece in new.proto.pieces)[400:] == extension.pieces


def test_the_score_of_what_is_never_joined_is_left_out(
    pico_sentencepiece: Path, tmp_path: Path
) -> None:
    def add_long_spaces(proto: Any) -> None:
        proto.pieces.add(piece="▁" * 16, score=-1e9)

    base = write_changed(pico_sentencepiece, tmp_path / "base", add_long_spaces)
    new = extend_tokenizer(base, CHINESE, num_pieces=3).tokenizer
    assert isinstance(new, SentencePieceBPE)
    assert min(piece.score for piece in list(new.proto.pieces)[401:]) > -1000


def test_a_character_replaces_all_its_bytes(pico_sentencepiece: Path) -> None:
    extension = extend_tokenizer(pico_sentencepiece, ["白日"] * 9, num_pieces=3)
    assert sorted(extension.pieces[:2]) == ["日", "白"]
    assert extension.pieces[2] == "白日"
    old = read_sentencepiece(pico_sentencepiece)
    for piece, spelling in zip(extension.pieces, extension.spellings, strict=True):
        assert list(spelling) == [old.ids[f"<0x{byte:02X}>"] for byte in piece.encode()]


def test_both_files_and_transformers_give_the_same_ids(
    pico_sentencepiece: Path, tmp_path: Path
) -> None:
    extension = extend_tokenizer(pico_sentencepiece / "tokenizer.model", CHINESE * 2, num_pieces=12)
    folder = tmp_path / "new"
    write_extension(extension, pico_sentencepiece / "tokenizer.model", folder)
    (folder / "config.json").write_text('{"model_type": "llama"}')
    texts = [*CHINESE, *PROBE, MIXED]
    expected = extension.tokenizer.encode(texts)
    assert read_sentencepiece(folder).encode(texts) == expected
    backend = Tokenizer.from_file(str(folder / "tokenizer.json"))
    found = backend.encode_batch(texts, add_special_tokens=False)
    assert [encoding.ids for encoding in found] == expected
    loaded = AutoTokenizer.from_pretrained(folder)
    assert loaded(texts, add_special_tokens=False)["input_ids"] == expected
    assert loaded("白日")["input_ids"][0] == loaded.bos_token_id == 1
    assert len(loaded) == 412


def test_an_extension_can_be_extended(pico_sentencepiece: Path, tmp_path: Path) -> None:
    first = extend_tokenizer(pico_sentencepiece, CHINESE * 2, num_pieces=12)
    write_extension(first, pico_sentencepiece, tmp_path / "one")
    second = extend_tokenizer(tmp_path / "one", CHINESE * 2, num_pieces=2)
    assert second.first_id == 412
    assert set(second.pieces).isdisjoint(first.pieces)


def test_a_user_defined_piece_that_no_tokenizer_json_can_say_is_refused(
    pico_sentencepiece: Path, tmp_path: Path
) -> None:
    base = write_changed(
        pico_sentencepiece,
        tmp_path / "base",
        lambda proto: proto.pieces.add(piece="白日", score=0.0, type=4),
    )
    with pytest.raises(ArtifactError, match=r"tokenizer\.json gives other ids"):
        extend_tokenizer(base, ["a 白日依山"] * 9, num_pieces=3)


@pytest.mark.parametrize("name", ["added_tokens.json", "tokenizer_config.json"])
def test_tokens_beside_the_model_that_leave_a_hole_would_collide(
    pico_sentencepiece: Path, tmp_path: Path, name: str
) -> None:
    base = write_changed(pico_sentencepiece, tmp_path / "base", lambda proto: None)
    config = {"added_tokens_decoder": {"401": {"content": "<pad>"}, "1": {"content": "<s>"}}}
    (base / name).write_text(
        json.dumps(config if name == "tokenizer_config.json" else {"<s>": 1, "<pad>": 401})
    )
    with pytest.raises(ArtifactError, match=r"adds '<pad>' as id 401.*would collide"):
        extend_tokenizer(base, CHINESE, num_pieces=3)


def test_a_damaged_list_of_tokens_is_named(pico_sentencepiece: Path, tmp_path: Path) -> None:
    base = write_changed(pico_sentencepiece, tmp_path / "base", lambda proto: None)
    (base / "added_tokens.json").write_text("[1]")
    with pytest.raises(ArtifactError, match=r"added_tokens\.json: a JSON object is expected"):
        extend_tokenizer(base, CHINESE, num_pieces=3)


def test_a_base_whose_engines_disagree_is_refused(pico_sentencepiece: Path, tmp_path: Path) -> None:
    def tie(proto: Any) -> None:
        for piece in ("xq", "qx"):
            proto.pieces.add(piece=piece, score=-1.0)

    base = write_changed(pico_sentencepiece, tmp_path / "base", tie)
    with pytest.raises(ArtifactError, match=r"tokenizer\.json gives other ids"):
        extend_tokenizer(base, [*CHINESE, "qxqxxqxq"], num_pieces=3)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"model_type": "unigram", "vocab_size": 288}, "is a Unigram model; only BPE"),
        ({"byte_fallback": False, "vocab_size": 50}, "byte_fallback is off"),
    ],
)
def test_other_models_are_refused(
    sentencepiece_trainer: Callable[..., bytes],
    tmp_path: Path,
    settings: dict[str, Any],
    message: str,
) -> None:
    lines = ["people create theories", "the quick brown fox jumps over a lazy dog"] * 3
    (tmp_path / "tokenizer.model").write_bytes(sentencepiece_trainer(lines, **settings))
    with pytest.raises(ArtifactError, match=message):
        extend_tokenizer(tmp_path, CHINESE, num_pieces=3)


def test_too_little_text_says_how_many_pieces_it_can_give(pico_sentencepiece: Path) -> None:
    with pytest.raises(DataError, match=r"only (\d+) new pieces") as caught:
        extend_tokenizer(pico_sentencepiece, CHINESE, num_pieces=500)
    most = int(str(caught.value).split("only ")[1].split()[0])
    assert len(extend_tokenizer(pico_sentencepiece, CHINESE, num_pieces=most).pieces) == most


def test_a_dead_piece_is_replaced(
    pico_sentencepiece: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def but_one(tokenizer: SentencePieceBPE, pieces: list[str]) -> list[str]:
        return ["一"] if "一" in pieces else dead_pieces(tokenizer, pieces)

    before = extend_tokenizer(pico_sentencepiece, CHINESE * 2, num_pieces=9).pieces
    assert "一" in before
    monkeypatch.setattr("hanpaca.tokenizer.extension.proof.dead_pieces", but_one)
    after = extend_tokenizer(pico_sentencepiece, CHINESE * 2, num_pieces=9).pieces
    assert len(after) == 9
    assert "一" not in after
