"""Counts are exact; the time is a time."""

from pathlib import Path

import pytest

from hanpaca.tokenizer.audits import compare
from hanpaca.tokenizer.byte_bpe import read_byte_bpe


def test_every_text_is_counted_once(pico_base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compare, "_BATCH_TEXTS", 2)
    monkeypatch.setattr(compare, "_LEAST_SECONDS", 0.01)
    found = compare.measure(read_byte_bpe(pico_base), ["白日", "1984", "", "x", "山"])
    assert (found.num_characters, found.num_tokens) == (8, 6 + 4 + 1 + 3)
    assert found.tokens_per_character == 14 / 8
    assert found.characters_per_second == pytest.approx(8 / found.seconds)
    assert found.seconds > 0
