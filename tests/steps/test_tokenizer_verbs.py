"""The tokenizer verbs as Python functions, and the class that holds a tokenizer."""

import doctest
import importlib
import json
from dataclasses import asdict
from pathlib import Path

import pytest
from tokenizers import Tokenizer as Library

from hanpaca.errors import ArtifactError, DataError, RecipeError
from hanpaca.progress import Progress
from hanpaca.steps.advise import advise
from hanpaca.steps.audit import audit
from hanpaca.steps.compare_tokenizers import compare_tokenizers
from hanpaca.steps.convert_tokenizer import convert_tokenizer
from hanpaca.steps.extend import extend
from hanpaca.steps.merge_sentencepiece import merge_sentencepiece
from hanpaca.steps.show import show
from hanpaca.tokenizer.tokenizer import Tokenizer

POEM = ["白日依山尽，黄河入海流。", "欲穷千里目，更上一层楼。"] * 5
ENGLISH = ["The lazy dog.", "In 1984 there were 365 days."]


@pytest.fixture(params=["pico_base", "pico_sentencepiece"])
def base(request: pytest.FixtureRequest) -> Path:
    found: Path = request.getfixturevalue(request.param)
    return found


@pytest.mark.parametrize(
    "module",
    [
        "languages",
        "steps.audit",
        "steps.compare_tokenizers",
        "steps.extend",
        "steps.show",
        "steps.train_tokenizer",
        "tokenizer.advice.curve",
        "tokenizer.advice.weigh",
        "tokenizer.audits.changes",
        "tokenizer.extension.guess",
        "tokenizer.tokenizer",
    ],
)
def test_the_examples_of_the_docstrings_hold(module: str, pico_base: Path, tmp_path: Path) -> None:
    names = {"BASE": pico_base, "OUTPUT": tmp_path / "out"}
    found = doctest.testmod(importlib.import_module(f"hanpaca.{module}"), extraglobs=names)
    assert found.attempted > 0
    assert found.failed == 0


def test_a_tokenizer_is_extended_saved_and_opened_again(base: Path, tmp_path: Path) -> None:
    old = Tokenizer.open(str(base))
    told: list[Progress] = []
    new = old.extend(POEM, num_pieces=10, tell=told.append)
    assert len(new) == len(old) + 10
    assert new.pieces[: len(old)] == old.pieces
    assert [new.encode(text) for text in ENGLISH] == [old.encode(text) for text in ENGLISH]
    new.save(tmp_path / "new")
    again = Tokenizer.open(tmp_path / "new")
    library = Library.from_file(str(tmp_path / "new/tokenizer.json"))
    for text in POEM + ENGLISH:
        ids = library.encode(text, add_special_tokens=False).ids
        assert again.encode(text) == new.encode(text) == ids
        assert new.decode(ids) == text
    assert [one.note for one in told] == [
        "reading", "learning pieces", "choosing pieces", "checking",
    ]  # fmt: skip
    assert "pieces" in repr(again)
    with pytest.raises(ArtifactError, match="already exists"):
        new.save(tmp_path / "new")


def test_the_class_and_the_verb_make_the_same_files(base: Path, tmp_path: Path) -> None:
    found = extend(base, POEM, tmp_path / "a", num_pieces=10, punctuation="none")
    Tokenizer.open(base).extend(POEM, num_pieces=10, punctuation="none").save(tmp_path / "b")
    for file in (tmp_path / "a").iterdir():
        assert file.read_bytes() == (tmp_path / "b" / file.name).read_bytes()
    assert extend(base, POEM, num_pieces=10, punctuation="none").pieces == found.pieces


@pytest.mark.slow
def test_files_and_values_are_the_same_wishes(pico_base: Path, tmp_path: Path) -> None:
    required, prior = tmp_path / "required.txt", tmp_path / "prior.tsv"
    required.write_text("龘靐", encoding="utf-8")
    prior.write_text("春眠\t-1.0\n不觉\t-2.0\n", encoding="utf-8")
    values = extend(
        pico_base, POEM, num_pieces=20, required="龘靐", prior={"春眠": -1.0, "不觉": -2.0}
    )
    files = extend(pico_base, POEM, num_pieces=20, required=required, prior=prior)
    assert files.pieces == values.pieces


def test_what_fails_leaves_nothing_behind(pico_base: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="only"):
        extend(pico_base, POEM, tmp_path / "new", num_pieces=9_999)
    assert list(tmp_path.iterdir()) == []


def test_truncation_of_a_base_is_carried_over_and_told(pico_base: Path, tmp_path: Path) -> None:
    library = Library.from_file(str(pico_base / "tokenizer.json"))
    library.enable_truncation(50)
    library.save(str(tmp_path / "tokenizer.json"))
    found = extend(tmp_path, POEM, tmp_path / "new", num_pieces=5, scripts=["Han"])
    assert [note for note in found.notes if "cuts every text after 50 tokens" in note]
    new = Library.from_file(str(tmp_path / "new/tokenizer.json"))
    assert len(new.encode("a " * 99).ids) == 50


def test_open_tokenizers_and_paths_are_audited_alike(base: Path, tmp_path: Path) -> None:
    old = Tokenizer.open(base)
    new = old.extend(POEM, num_pieces=10)
    new.save(tmp_path / "new")
    texts, protected = {"zh": POEM}, {"en": ENGLISH}
    opened = audit(old, new, texts=texts, protected=protected)
    paths = audit(base, str(tmp_path / "new"), texts=texts, protected=protected)
    assert opened.num_changed_protected == len(opened.dead_pieces) == 0
    assert asdict(opened) | {"base": "", "extended": ""} == (
        asdict(paths) | {"base": "", "extended": ""}
    )
    assert paths.base == str(base)
    paths.write_page(tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "Tokenizer audit" in page
    paths.write_page(tmp_path / "page.html", lang="zh")
    assert "词表审计" in (tmp_path / "page.html").read_text(encoding="utf-8")
    shown = paths._repr_html_()
    assert str(base) in shown
    assert "<style" not in shown  # it would change the notebook around it
    assert "dead new pieces" in shown
    assert "dead new pieces" in str(paths)


def test_a_comparison_can_be_written_as_json(pico_base: Path) -> None:
    (found,) = compare_tokenizers([Tokenizer.open(pico_base)], {"en": ENGLISH})
    row = json.loads(json.dumps(found.row()))
    assert (row["text"], row["num_characters"]) == ("en", sum(map(len, ENGLISH)))
    with pytest.raises(DataError, match="en: has no text"):
        compare_tokenizers([pico_base], {"en": [""]})
    with pytest.raises(RecipeError, match="empty"):
        show("", [pico_base])


def test_advice_names_keywords_in_python(pico_base: Path) -> None:
    with pytest.raises(RecipeError, match="num_parameters= and hidden_size= together"):
        advise(pico_base, POEM, num_parameters=10)
    with pytest.raises(RecipeError, match="train_speed= and decode_speed= together"):
        advise(pico_base, POEM, train_speed=10.0)


def test_a_model_is_converted_and_merged(pico_sentencepiece: Path, tmp_path: Path) -> None:
    converted = convert_tokenizer(pico_sentencepiece, tmp_path / "json")
    assert converted.num_differing == 0
    old = pico_sentencepiece / "tokenizer.model"
    merged = merge_sentencepiece(old, old, tmp_path / "merged.model", pad=True)
    assert merged.num_pieces == converted.num_pieces + 1
