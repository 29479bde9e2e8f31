import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import pytest

from hanpaca.errors import ArtifactError
from hanpaca.evals.answers import HeldoutResult, judge_answer, summarise_verdicts
from hanpaca.evals.report import write_report
from hanpaca.evals.results import (
    BitsPerCharacter,
    Curve,
    Goal,
    ModelResult,
    Provenance,
    RunResult,
    Sample,
    read_results,
    write_results,
)
from hanpaca.evals.svg import ticks
from hanpaca.evals.table import HEADER, file_rows, result_rows

VERDICT = judge_answer("比喻多此一举，反而坏事。", word="画蛇添足", stopped=True)


def model(name: str, bits: float) -> ModelResult:
    return ModelResult(
        name=name,
        how="torch",
        file_bytes=270_000_000,
        tokens_per_han_character=1.2,
        zh=BitsPerCharacter(bits, bits - 0.2, bits + 0.2, 100, 8000),
        en=BitsPerCharacter(0.98, 0.9, 1.05, 30, 12000),
        characters_per_second=50.0,
        tokens_per_second=66.0,
        samples=(Sample("问<b>", "答 & </script>"),),
        heldout=summarise_verdicts([VERDICT]),
    )


RESULT = RunResult(
    title="test <run>",
    models=(model("base", 10.0), replace(model("chat", 8.0), characters_per_second=None)),
    curves=(Curve("pretraining", "zh", "seconds", ((0.0, 11.7), (50.0, 9.0), (160.0, 8.0))),),
    goals=(Goal("fall", 20.0, "at least", 15.0, "%"), Goal("rise", 3.0, "at most", 2.0, "%")),
    heldout_examples=(HeldoutResult("chat", "画蛇添足", "问", "答", "书", VERDICT),),
    provenance=(Provenance("torch", "2.13.0"),),
    notes=("Form, not < meaning.",),
)


class Reader(HTMLParser):
    """Checks that tags are closed in order and remembers what the page asks for."""

    void = {"meta", "br"}  # noqa: RUF012

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in self.void:
            self.open.append(tag)
        self.links += [str(value) for name, value in attrs if name in ("src", "href")]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_page_is_whole_and_needs_nothing_else(tmp_path: Path) -> None:
    write_report(RESULT, tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    reader = Reader()
    reader.feed(page)
    assert reader.open == []
    assert reader.links == []
    assert "<script" not in page
    assert "问&lt;b&gt;" in page
    assert "1 of 2 goals met" in page
    assert "<h2>Read with care</h2><p>Form, not &lt; meaning.</p>" in page
    assert 'class="missed">missed: rise 3.00% (at most 2%)' in page


def test_the_final_models_files_stand_side_by_side(tmp_path: Path) -> None:
    files = tuple(
        replace(model(f"chat {kind}", bits), file_type=kind, file_bytes=size)
        for kind, bits, size in (("f16", 8.0, 270_000_000), ("q4_k_m", 8.2, 105_000_000))
    )
    result = replace(RESULT, models=(RESULT.models[0], *files))
    assert file_rows(result)[1] == [
        ("F16", "270", "8.000", "+0.0 %", "0.980", "50.0"),
        ("Q4_K_M", "105", "8.200", "+2.5 %", "0.980", "50.0"),
    ]
    write_report(result, tmp_path / "report.html")
    assert "files for llama.cpp" in (tmp_path / "report.html").read_text(encoding="utf-8")
    write_report(RESULT, tmp_path / "report.html")
    assert "files for llama.cpp" not in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_every_mark_lies_inside_its_drawing(tmp_path: Path) -> None:
    write_report(RESULT, tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    drawings = re.findall(r"<svg.*?</svg>", page, flags=re.DOTALL)
    assert len(drawings) == 5
    for drawing in drawings:
        root = ElementTree.fromstring(drawing)
        width, height = (float(n) for n in root.attrib["viewBox"].split()[2:])
        marks = [element for element in root.iter() if "x" in element.attrib]
        assert marks
        for mark in marks:
            assert 0 <= float(mark.attrib["x"]) + float(mark.attrib.get("width", 0)) <= width
            assert 0 <= float(mark.attrib["y"]) <= height


def test_ticks_are_round_and_enclose_the_range() -> None:
    assert ticks(0, 160) == [0, 50, 100, 150, 200]
    assert ticks(7.9, 11.7) == [7, 8, 9, 10, 11, 12]
    assert len(ticks(3.0, 3.0)) >= 2


def test_results_come_back_and_damage_is_named(tmp_path: Path) -> None:
    file = tmp_path / "results.json"
    write_results(RESULT, file)
    assert read_results(file) == RESULT
    file.write_text(file.read_text().replace('"models"', '"modls"'))
    with pytest.raises(ArtifactError, match=r"results\.json: mod"):
        read_results(file)
    with pytest.raises(ArtifactError, match="cannot be read"):
        read_results(tmp_path / "none.json")
    with pytest.raises(ArtifactError):
        write_results(replace(RESULT, goals=(Goal("x", float("nan"), "at most", 1.0),)), file)


def test_the_table_has_a_dash_for_what_was_not_measured() -> None:
    header, rows = result_rows(RESULT)
    assert header == HEADER
    assert rows[0] == ("base", "1.200", "10.000", "0.980", "50.0", "66.0", "270", "1/1")
    assert rows[1][4] == "–"
