import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import pytest

from hanpaca.errors import ArtifactError
from hanpaca.evals.answers import HeldoutResult, Verdict, summarise_verdicts
from hanpaca.evals.results import (
    BITS,
    SPEED,
    TOKEN_SPEED,
    TOKENS,
    Curve,
    Goal,
    Measured,
    ModelResult,
    Provenance,
    RunResult,
    Sample,
    read_results,
    write_results,
)
from hanpaca.report import page as pages
from hanpaca.report import result_blocks
from hanpaca.report.run_page import goal_sentence, run_page, write_report
from hanpaca.report.table import file_rows, result_rows

VERDICT = Verdict(True, {"stopped": True})


def model(name: str, bits: float, speed: float | None = 50.0) -> ModelResult:
    first = {
        TOKENS.name: Measured(1.2),
        BITS.name: Measured(bits, bits - 0.2, bits + 0.2, 100, 8000),
        TOKEN_SPEED.name: Measured(66.0),
    }
    if speed is not None:
        first[SPEED.name] = Measured(speed)
    return ModelResult(
        name=name,
        how="torch",
        file_bytes=270_000_000,
        measured={"ko": first, "en": {BITS.name: Measured(0.98, 0.9, 1.05, 30, 12000)}},
        samples=(Sample("问<b>", "答 & </script>"),),
        heldout=summarise_verdicts([VERDICT]),
    )


RESULT = RunResult(
    title="test <run>",
    languages=("ko", "en"),
    models=(model("base", 10.0), model("chat", 8.0, speed=None)),
    curves=(Curve("pretraining", "ko", "seconds", ((0.0, 11.7), (50.0, 9.0), (160.0, 8.0))),),
    goals=(
        Goal("fall", 20.0, "at least", 15.0, "%"),
        Goal("bits", 3.0, "at most", 2.0, "%", "rise"),
    ),
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
    assert re.search(r"<h2>Read with care</h2>\s*<p>Form, not &lt; meaning.</p>", page)
    assert 'class="missed">missed: bits rose by 3.00 % (goal: a rise of at most 2 %)' in page
    assert "Language: Korean." in page
    assert "Chinese" not in page


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


def test_every_drawing_is_sound_and_draws_in_the_colour_of_the_page() -> None:
    pytest.importorskip("matplotlib")
    drawings = re.findall(r"<svg.*?</svg>", run_page(RESULT), flags=re.DOTALL)
    assert len(drawings) == 5
    for drawing in drawings:
        ElementTree.fromstring(drawing)
        assert "currentColor" in drawing
        assert "#010203" not in drawing
        assert "#ffffff" not in drawing  # no white ground on a dark page


def test_without_the_library_that_draws_the_page_has_its_tables_and_says_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for module in (pages, result_blocks):
        monkeypatch.setattr(module, "can_draw", lambda: False)
    page = run_page(RESULT)
    assert "<svg" not in page
    assert "<table" in page
    assert page.count("pip install") == 1


def test_each_language_has_curves_of_its_own() -> None:
    points = ((0.0, 1.1), (160.0, 1.2))
    both = replace(RESULT, curves=(*RESULT.curves, Curve("pretraining", "en", "seconds", points)))
    titles = [f"<title>While training: {name}</title>" for name in ("Korean", "English")]
    assert [one in run_page(both) for one in titles] == [True, True]
    assert [one in run_page(RESULT) for one in titles] == [True, False]


def test_a_rise_that_was_a_fall_is_told_as_a_fall() -> None:
    told = goal_sentence(Goal("English bits", -7.25, "at most", 2, "%", "rise"))
    assert told == "English bits fell by 7.25 % (goal: a rise of at most 2 %)"
    told = goal_sentence(Goal("bits", -1.0, "at least", 15, "%", "fall"))
    assert told == "bits rose by 1.00 % (goal: a fall of at least 15 %)"


def test_headers_stand_over_their_numbers() -> None:
    page = run_page(RESULT)
    assert '<th>model</th><th class="number">ko tokens/char</th>' in page
    assert '<td>base</td><td class="number">1.200</td>' in page


def test_a_page_in_another_language_says_so_and_falls_back_to_english() -> None:
    assert '<html lang="zh">' in run_page(RESULT, lang="zh")
    assert "<h2>目标</h2>" in run_page(RESULT, lang="zh")
    assert "<h2>Goals</h2>" in run_page(RESULT, lang="xx")


def test_results_come_back_and_damage_is_named(tmp_path: Path) -> None:
    file = tmp_path / "results.json"
    write_results(RESULT, file)
    assert read_results(file) == RESULT
    file.write_text(file.read_text().replace('"models"', '"modls"'))
    with pytest.raises(ArtifactError, match=r"results\.json: mod"):
        read_results(file)
    with pytest.raises(ArtifactError, match=r"none\.json"):
        read_results(tmp_path / "none.json")
    with pytest.raises(ArtifactError):
        write_results(replace(RESULT, goals=(Goal("x", float("nan"), "at most", 1.0),)), file)


def test_the_table_has_a_dash_for_what_was_not_measured() -> None:
    header, rows = result_rows(RESULT)
    assert header[:4] == ("model", "ko tokens/char", "ko bits/char", "en bits/char")
    assert rows[0] == ("base", "1.200", "10.000", "0.980", "50.0", "66.0", "270", "1/1")
    assert rows[1][4] == "–"
