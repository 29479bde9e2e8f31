from pathlib import Path

import pytest

from hanpaca.data.translations import read_translations
from hanpaca.errors import DataError

CEDICT = """\
# CC-CEDICT
傳統 传统 [chuan2 tong3] /tradition/traditional/convention/CL:個|个[ge4]/
張 张 [Zhang1] /surname Zhang/
張 张 [zhang1] /to open up/a sheet of paper; (of a bow) to draw/classifier for flat objects/
台 台 [tai2] /variant of 臺|台[tai2]/platform/
咖啡 咖啡 [[ka1fei1]] /coffee (loanword)/naïve/
"""


def test_entries_of_cc_cedict_are_looked_up_in_both_scripts(tmp_path: Path) -> None:
    (tmp_path / "cedict.u8").write_text(CEDICT, encoding="utf-8")
    found = read_translations(tmp_path / "cedict.u8")
    assert found["传统"] == found["傳統"] == ["tradition", "traditional", "convention"]
    assert found["张"] == ["open up", "sheet of paper", "draw", "classifier for flat objects"]
    assert found["台"] == ["platform"]
    assert found["咖啡"] == ["coffee"]


def test_two_columns_are_a_dictionary_too(tmp_path: Path) -> None:
    file = tmp_path / "ko.tsv"
    file.write_text("학교\tschool; academy\n물\tWater / the liquid\n비\t雨\n", encoding="utf-8-sig")
    found = read_translations(file)
    assert (found["학교"], found["물"]) == (["school", "academy"], ["water", "liquid"])
    assert "비" not in {word for word, glosses in found.items() if glosses}


def test_translations_of_two_columns_may_be_parted_by_commas(tmp_path: Path) -> None:
    file = tmp_path / "ko.tsv"
    file.write_text("물\twater, drink (cold, clear)\n", encoding="utf-8")
    assert read_translations(file)["물"] == ["water", "drink"]


@pytest.mark.parametrize("content", ["물\twater".encode("utf-16"), b"\x1f\x8b\x08\x00"])
def test_what_is_not_in_utf_8_is_told_so(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "ko.tsv").write_bytes(content)
    with pytest.raises(DataError, match=r"ko\.tsv: a dictionary must be plain text in UTF-8"):
        read_translations(tmp_path / "ko.tsv")


def test_a_word_that_stands_twice_has_the_glosses_of_both_lines_once_each(tmp_path: Path) -> None:
    (tmp_path / "two.tsv").write_text("水\twater\n水\twater; river\n", encoding="utf-8")
    assert read_translations(tmp_path / "two.tsv")["水"] == ["water", "river"]


@pytest.mark.parametrize(
    "content", [b"", b"no entry here\n", b"\xe5\x82", "张 张 [Zhang1] /a/".encode()]
)
def test_what_is_no_dictionary_is_named(content: bytes, tmp_path: Path) -> None:
    file = tmp_path / "words.txt"
    file.write_bytes(content)
    with pytest.raises(DataError, match=r"words\.txt"):
        read_translations(file)


def test_a_dictionary_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none\.u8: cannot be read"):
        read_translations(tmp_path / "none.u8")
