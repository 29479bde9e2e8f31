"""Extending a base: exact size, several scripts, files that transformers loads, clear refusals."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer
from transformers import AutoTokenizer

from hanpaca.errors import ArtifactError, DataError, RecipeError
from hanpaca.tokenizer.byte_bpe import ByteBPE, bytes_of_piece, piece_of_bytes, read_byte_bpe
from hanpaca.tokenizer.extension import proof
from hanpaca.tokenizer.extension.extend import Extension, extend_tokenizer, write_extension
from hanpaca.tokenizer.vocabulary import text_of

CHINESE = [
    "白日依山尽，黄河入海流。",
    "欲穷千里目，更上一层楼。",
    "白日放歌须纵酒，千里江陵一日还。",
]
KOREAN = ["안녕하세요 여러분, 안녕히 가세요.", "여러분 힘내세요. 힘이 있어요."]
RUSSIAN = ["Привет, мир! Привет всем людям мира.", "Мир вам, люди, привет!"]
THAI = ["สวัสดีชาวโลก ราคา 100 ฿", "สวัสดีทุกคน เราไปเที่ยวเกาะ เราไปโรงเรียน"]
MIXED = "The 白日 of 1984, 黄河入海！ 안녕 Привет สวัสดี ฿5 白日依山"


def change_base(base: Path, folder: Path, change: Callable[[dict[str, Any]], Any]) -> Path:
    spec = json.loads((base / "tokenizer.json").read_text(encoding="utf-8"))
    change(spec)
    folder.mkdir(parents=True)
    (folder / "tokenizer.json").write_text(json.dumps(spec), encoding="utf-8")
    return folder


def spec_of(extension: Extension) -> dict[str, Any]:
    assert isinstance(extension.tokenizer, ByteBPE)
    return extension.tokenizer.spec


def backend(extension: Extension) -> Tokenizer:
    return Tokenizer.from_str(json.dumps(spec_of(extension)))


def base_with_a_late_token(base: Path, folder: Path) -> Path:
    """Llama 3's and Qwen's way: a special token whose id follows the vocabulary's."""

    def add(spec: dict[str, Any]) -> None:
        flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
        token = {"content": "<|tool|>", "id": len(spec["model"]["vocab"]), "special": True}
        spec["added_tokens"].append(token | flags)

    return change_base(base, folder, add)


@pytest.mark.parametrize(
    ("scripts", "texts", "num_pieces"),
    [
        (["Han"], CHINESE, 12),
        (["Hangul"], KOREAN, 20),
        (["Cyrillic"], RUSSIAN, 15),
        (["Han", "Hangul"], CHINESE + KOREAN, 30),
    ],
)
def test_any_script_gives_exactly_as_many_pieces_as_asked(
    pico_base: Path, scripts: list[str], texts: list[str], num_pieces: int
) -> None:
    base = read_byte_bpe(pico_base)
    extension = extend_tokenizer(pico_base, texts, num_pieces=num_pieces, scripts=scripts)
    tokenizer = backend(extension)
    assert tokenizer.get_vocab_size() == len(base.ids) + num_pieces
    ids = [tokenizer.token_to_id(piece) for piece in extension.pieces]
    assert ids == list(range(extension.first_id, extension.first_id + num_pieces))
    for text in texts:
        fewer, more = tokenizer.encode(text), base.backend.encode(text)
        assert len(fewer.ids) < len(more.ids)
        assert tokenizer.decode(fewer.ids) == text


def test_a_spelling_is_the_bytes_of_its_piece_in_base_ids(pico_base: Path) -> None:
    extension = extend_tokenizer(pico_base, CHINESE, num_pieces=14)
    entry = {i: piece for piece, i in read_byte_bpe(pico_base).ids.items()}
    for piece, spelling in zip(extension.pieces, extension.spellings, strict=True):
        assert "".join(entry[i] for i in spelling) == piece
        assert max(spelling) < extension.first_id


def test_words_are_learned_after_their_characters(pico_base: Path) -> None:
    extension = extend_tokenizer(pico_base, ["白日"] * 9, num_pieces=5)
    shown = [text_of(bytes_of_piece(piece)) for piece in extension.pieces]
    assert sorted(shown[:4]) == sorted([r"\xe7\x99", r"\xe6\x97", "白", "日"])
    assert shown[4] == "白日"


def test_the_same_texts_in_any_order_give_the_same_extension(pico_base: Path) -> None:
    one = extend_tokenizer(pico_base, iter(CHINESE), num_pieces=12)
    other = extend_tokenizer(pico_base, reversed(CHINESE), num_pieces=12)
    assert one == other


def test_the_number_of_threads_does_not_matter(
    pico_base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parallel = extend_tokenizer(pico_base, CHINESE, num_pieces=12)
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "false")
    assert extend_tokenizer(pico_base, CHINESE, num_pieces=12) == parallel


def test_a_sign_that_shares_bytes_with_the_script_keeps_its_ids(pico_base: Path) -> None:
    # This base has no piece for E0 B8, which begins most Thai letters and also the baht sign.
    extension = extend_tokenizer(pico_base, THAI, num_pieces=2, scripts=["Thai"])
    assert piece_of_bytes(b"\xe0\xb8") not in extension.pieces
    before = read_byte_bpe(pico_base).backend.encode("50 ฿").ids
    assert backend(extension).encode("50 ฿").ids == before


def test_a_base_that_knows_the_shared_bytes_can_take_the_whole_script(
    pico_base: Path, tmp_path: Path
) -> None:
    pairs = [piece_of_bytes(b"\xe0\xb8"), piece_of_bytes(b"\xe0\xb9")]

    def know(spec: dict[str, Any]) -> None:
        for pair in pairs:
            spec["model"]["vocab"][pair] = len(spec["model"]["vocab"])
            spec["model"]["merges"].append(list(pair))

    base = change_base(pico_base, tmp_path / "thai", know)
    extension = extend_tokenizer(base, THAI, num_pieces=12, scripts=["Thai"])
    assert piece_of_bytes("ส".encode()) in extension.pieces
    assert all(bytes_of_piece(piece).decode() for piece in extension.pieces)


def test_a_piece_never_reaches_over_a_cut_of_the_pre_tokenizer(
    pico_base: Path, tmp_path: Path
) -> None:
    def cut_after_day(spec: dict[str, Any]) -> None:
        cut = {"type": "Split", "pattern": {"String": "日"}, "behavior": "Isolated"}
        spec["pre_tokenizer"]["pretokenizers"].insert(0, cut | {"invert": False})

    base = change_base(pico_base, tmp_path / "cut", cut_after_day)
    extension = extend_tokenizer(base, ["白日依山"] * 9, num_pieces=9)
    words = [text_of(bytes_of_piece(piece)) for piece in extension.pieces]
    assert "依山" in words
    assert not [word for word in words if "日" in word and len(word) > 1 and "\\" not in word]


def test_pieces_are_learned_from_normalized_text(pico_base: Path, tmp_path: Path) -> None:
    base = change_base(pico_base, tmp_path / "nfc", lambda s: s.update(normalizer={"type": "NFC"}))
    extension = extend_tokenizer(base, ["\uf9dc\uf9dc"] * 5, num_pieces=3)  # NFC makes it U+9686
    assert piece_of_bytes("隆".encode()) in extension.pieces


def test_special_tokens_beside_the_vocabulary_keep_their_ids(
    pico_base: Path, tmp_path: Path
) -> None:
    base = base_with_a_late_token(pico_base, tmp_path / "late")
    before = read_byte_bpe(base)
    extension = extend_tokenizer(base, CHINESE, num_pieces=12)
    after = backend(extension)
    assert after.token_to_id("<|tool|>") == before.ids["<|tool|>"] == extension.first_id - 1
    assert after.encode("a<|tool|>b").ids == before.backend.encode("a<|tool|>b").ids


@pytest.mark.parametrize("as_text", [True, False])
def test_merges_stay_written_as_the_base_writes_them(
    pico_base: Path, tmp_path: Path, as_text: bool
) -> None:
    def write(spec: dict[str, Any]) -> None:
        pairs = spec["model"]["merges"]
        spec["model"]["merges"] = [" ".join(pair) if as_text else pair for pair in pairs]

    base = change_base(pico_base, tmp_path / "base", write)
    merges = spec_of(extend_tokenizer(base, CHINESE, num_pieces=12))["model"]["merges"]
    assert {type(merge) for merge in merges} == {str if as_text else list}


@pytest.mark.parametrize("late_token", [False, True])
@pytest.mark.parametrize("name", ["PreTrainedTokenizerFast", "GPT2Tokenizer", None])
def test_transformers_loads_the_folder_with_the_same_ids(
    pico_base: Path, tmp_path: Path, name: str | None, late_token: bool
) -> None:
    base = tmp_path / "base"
    if late_token:
        base_with_a_late_token(pico_base, base)
    else:
        change_base(pico_base, base, lambda spec: None)
    if name:
        config = json.loads((pico_base / "tokenizer_config.json").read_text())
        (base / "tokenizer_config.json").write_text(json.dumps(config | {"tokenizer_class": name}))
    extension = extend_tokenizer(base, CHINESE, num_pieces=12)
    folder = tmp_path / "new" / "deep"
    write_extension(extension, base, folder)
    (folder / "config.json").write_text('{"model_type": "llama"}')  # the model lands there later
    loaded = AutoTokenizer.from_pretrained(folder)
    assert loaded(MIXED, add_special_tokens=False)["input_ids"] == (
        backend(extension).encode(MIXED).ids
    )
    assert len(loaded) == extension.first_id + 12
    if name:
        assert loaded.eos_token == "<|im_end|>"
        chat = [{"role": "user", "content": "白日"}]
        assert "<|im_start|>user" in loaded.apply_chat_template(chat, tokenize=False)


def test_only_tokenizer_files_are_copied(pico_base: Path, tmp_path: Path) -> None:
    base = tmp_path / "base"
    write_extension(extend_tokenizer(pico_base, CHINESE, num_pieces=5), pico_base, base)
    for name in ("model.safetensors", "vocab.json", "merges.txt", "generation_config.json"):
        (base / name).write_text("{}")
    (base / "chat_template.jinja").write_text("{{ messages }}")
    write_extension(
        extend_tokenizer(base, CHINESE, num_pieces=2), base, tmp_path / "new"
    )  # fmt: skip
    names = {path.name for path in (tmp_path / "new").iterdir()}
    assert names == {"tokenizer.json", "tokenizer_config.json", "chat_template.jinja"}


def test_the_base_is_never_overwritten(pico_base: Path) -> None:
    extension = extend_tokenizer(pico_base, CHINESE, num_pieces=5)
    with pytest.raises(ArtifactError, match="is the base tokenizer itself"):
        write_extension(extension, pico_base, pico_base / ".." / pico_base.name)


@pytest.mark.parametrize("content", ["{", "[]"])
def test_a_damaged_tokenizer_config_is_named(pico_base: Path, tmp_path: Path, content: str) -> None:
    extension = extend_tokenizer(pico_base, CHINESE, num_pieces=5)
    (tmp_path / "tokenizer_config.json").write_text(content)
    with pytest.raises(ArtifactError, match=r"tokenizer_config\.json: (damaged|a JSON object)"):
        write_extension(extension, tmp_path, tmp_path / "new")
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("listed", [[1], {"x": {"content": "<new>"}}, {"7": {}}, {"7": 1}])
def test_a_damaged_list_of_added_tokens_is_named(
    pico_base: Path, tmp_path: Path, listed: object
) -> None:
    base = change_base(pico_base, tmp_path / "base", lambda spec: None)
    config = json.dumps({"added_tokens_decoder": listed})
    (base / "tokenizer_config.json").write_text(config, encoding="utf-8")
    with pytest.raises(ArtifactError, match=r"tokenizer_config\.json: damaged: added_tokens"):
        extend_tokenizer(base, CHINESE, num_pieces=5)


def test_texts_without_the_script_are_refused(pico_base: Path) -> None:
    with pytest.raises(DataError, match="no Han characters"):
        extend_tokenizer(pico_base, ["only English", ""], num_pieces=5, scripts=["Han"])


def test_too_little_text_says_how_many_pieces_it_can_give(pico_base: Path) -> None:
    with pytest.raises(DataError, match=r"only (\d+) new pieces") as caught:
        extend_tokenizer(pico_base, CHINESE, num_pieces=500)
    most = int(str(caught.value).split("only ")[1].split()[0])
    assert len(extend_tokenizer(pico_base, CHINESE, num_pieces=most).pieces) == most
    with pytest.raises(DataError):
        extend_tokenizer(pico_base, CHINESE, num_pieces=most + 1)


def test_no_pieces_are_refused(pico_base: Path) -> None:
    with pytest.raises(RecipeError, match="num_pieces is 0"):
        extend_tokenizer(pico_base, CHINESE, num_pieces=0)


@pytest.mark.parametrize(
    ("check", "message"),
    [
        ("dead_pieces", "unreachable new piece"),
        ("changed_texts", "text of other scripts"),
        ("recut_texts", "not a coarsening"),
        ("misread_texts", "decodes other than the base"),
    ],
)
def test_an_extension_that_fails_its_check_is_not_returned(
    pico_base: Path, monkeypatch: pytest.MonkeyPatch, check: str, message: str
) -> None:
    monkeypatch.setattr(proof, check, lambda *args: ["x"])
    with pytest.raises(ArtifactError, match=message):
        extend_tokenizer(pico_base, CHINESE, num_pieces=5)
