"""What kind of junk a piece is."""

import pytest

from hanpaca.tokenizer.audits.junk import KINDS, junk_pieces
from hanpaca.tokenizer.extension.scripts import target_script


@pytest.mark.parametrize(
    ("piece", "kind"),
    [
        ("中国", ""),
        (" 中国", ""),
        ("是下辖的一个乡镇级行政单位", "phrases of 6 and more characters"),
        ("2016", "digit strings"),
        (" 19", "digit strings"),
        ("iPhone", "ASCII letters"),
        ("---------------<", "ASCII signs and mixed"),
        ("75%", "ASCII signs and mixed"),
        ("3月", "target and other characters mixed"),
        ("の", "other scripts and punctuation"),
        ("。”", "other scripts and punctuation"),
    ],
)
def test_a_piece_is_of_its_kind(piece: str, kind: str) -> None:
    found = junk_pieces([piece.encode()], [piece.encode()], target_script(["Han"]))
    assert list(found) == list(KINDS)
    assert [name for name, pieces in found.items() if pieces] == ([kind] if kind else [])


def test_a_twin_needs_its_other_half() -> None:
    pieces = [one.encode() for one in ("的", " 的", " 在", " 19", "19")]
    found = junk_pieces(pieces, pieces, target_script(["Han"]))
    assert found["leading-space twins"] == (" 的", " 19")
    assert found["digit strings"] == (" 19", "19")


def test_half_characters_are_no_junk() -> None:
    found = junk_pieces(["中".encode()[:2]], [], target_script(["Han"]))
    assert not any(found.values())
