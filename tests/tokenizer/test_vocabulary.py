from pathlib import Path

import pytest

from hanpaca.errors import ArtifactError
from hanpaca.tokenizer.byte_bpe import read_byte_bpe
from hanpaca.tokenizer.extension.extend import extend_tokenizer, write_extension
from hanpaca.tokenizer.vocabulary import new_spellings, text_of

CHINESE = ["白日依山尽，黄河入海流。", "白日放歌须纵酒，千里江陵一日还。"]


def test_new_entries_are_spelled_as_the_extension_says(pico_base: Path, tmp_path: Path) -> None:
    extension = extend_tokenizer(pico_base, CHINESE * 3, num_pieces=8)
    write_extension(extension, pico_base, tmp_path)
    base = read_byte_bpe(pico_base)
    assert new_spellings(base, read_byte_bpe(tmp_path)) == [list(s) for s in extension.spellings]
    assert new_spellings(base, base) == []


def test_another_tokenizer_is_no_extension(pico_base: Path, tmp_path: Path) -> None:
    text = (pico_base / "tokenizer.json").read_text(encoding="utf-8")
    (tmp_path / "tokenizer.json").write_text(text.replace("<|endoftext|>", "<|other|>"))
    with pytest.raises(ArtifactError, match=r"no extension of .*'<\|endoftext\|>'"):
        new_spellings(read_byte_bpe(pico_base), read_byte_bpe(tmp_path))


def test_half_characters_are_shown_as_bytes() -> None:
    assert text_of("白".encode()[:2]) == r"\xe7\x99"
    assert text_of("白 a".encode()) == "白 a"
