"""What is written in charts: nothing over another, nothing cut off, in letters a font has."""

from collections.abc import Iterator
from itertools import combinations
from typing import TYPE_CHECKING

import pytest

pytest.importorskip("matplotlib")

from matplotlib import font_manager
from matplotlib.text import Text
from matplotlib.transforms import Bbox

from hanpaca.report import charts, fonts
from hanpaca.report.advice_page import advice_page
from hanpaca.report.charts import bar_chart, line_chart, pair_chart, scatter_chart
from hanpaca.report.compare_page import divergence_chart, short_names
from hanpaca.report.run_page import run_page
from hanpaca.report.tokenizer_page import audit_page
from tests.support.pages import an_advice, an_audit, divergences, quickstart

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LANGUAGES = {"ko": "한국어 말뭉치", "th": "ภาษาไทย", "hi": "हिन्दी पाठ", "zh": "白日依山"}


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> Iterator[list["Figure"]]:
    """Every figure that is drawn."""
    figures: list[Figure] = []
    draw = charts._drawn

    def remembered(figure: "Figure", title: str, *, alone: bool = False) -> str:
        figures.append(figure)
        figure.draw_without_rendering()
        check(figure)
        return draw(figure, title, alone=alone)

    monkeypatch.setattr(charts, "_drawn", remembered)
    yield figures
    assert figures


def letters(figure: "Figure") -> list[tuple[str, Bbox]]:
    texts = [one for one in figure.findobj(Text) if isinstance(one, Text)]
    shown = [one for one in texts if one.get_visible() and one.get_text().strip()]
    found = {id(one): (one.get_text(), one.get_window_extent()) for one in shown}
    axes = [axis for each in figure.axes for axis in (each.xaxis, each.yaxis)]
    for axis in axes:  # those beyond the ends of an axis are not drawn
        low, high = sorted(axis.get_view_interval())
        for tick in (*axis.get_major_ticks(), *axis.get_minor_ticks()):
            if not low <= tick.get_loc() <= high:
                found.pop(id(tick.label1), None)
                found.pop(id(tick.label2), None)
    return list(found.values())


def check(figure: "Figure") -> None:
    found, whole = letters(figure), figure.bbox
    assert found
    for text, box in found:
        inside = box.x0 >= -1 and box.y0 >= -1 and box.x1 <= whole.x1 + 1 and box.y1 <= whole.y1 + 1
        assert inside, f"{text!r} is cut off"
    for (text, box), (other, second) in combinations(found, 2):
        apart = (
            box.x1 <= second.x0 + 0.5
            or second.x1 <= box.x0 + 0.5
            or box.y1 <= second.y0 + 0.5
            or second.y1 <= box.y0 + 0.5
        )
        assert apart, f"{text!r} lies over {other!r}"


@pytest.mark.slow
@pytest.mark.parametrize("lang", ["en", "zh"])
def test_nothing_is_written_over_another_or_cut_off_on_any_page(
    drawn: list["Figure"], lang: str
) -> None:
    run_page(quickstart(), lang=lang)
    audit_page(an_audit(), base="a", extended="b", lang=lang)
    advice_page(an_advice(), lang=lang)
    advice_page(an_advice(worthwhile=False), lang=lang)
    divergence_chart(divergences(), lang=lang, alone=True)
    assert len(drawn) == 5 + 1 + 2 + 1


@pytest.mark.slow
@pytest.mark.parametrize("name", ["a model with a name of some length", "N=10", "q4_k_m"])
@pytest.mark.parametrize("number", [1, 6, 24])
def test_nor_with_few_or_many_lines_and_long_or_short_names(
    drawn: list["Figure"], number: int, name: str
) -> None:
    names = [f"{name}{place:02}" for place in range(number)]
    points = [(name, 90.0 + place, 0.02 + 0.001 * place) for place, name in enumerate(names)]
    scatter_chart("t", points, x_name="MB", y_name="KL")
    lines = [(name, [(0.0, 1.0), (1e6 * place, 123_456.0)]) for place, name in enumerate(names, 1)]
    line_chart("t", lines, x_name="characters", y_name="bits")
    bar_chart("t", [(name, 1e5, (9e4, 1.2e5)) for name in names])
    pair_chart("t", [(name, 0.001, 4.2) for name in names], ("before", "after"), x_name="tokens")
    assert len(drawn) == 4


def test_every_label_is_written_in_letters_of_a_font_or_as_the_tag_of_its_language(
    drawn: list["Figure"],
) -> None:
    bar_chart("t", [(name, 1.0, None) for name in LANGUAGES.values()])
    (figure,) = drawn
    labels = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    for (tag, name), label in zip(LANGUAGES.items(), labels, strict=True):
        families, missing = fonts.fonts_for([name])
        assert label == (tag if missing else name)
        known = set().union(*map(fonts.letters_of, families))
        assert set(label) - {" "} <= known


def test_without_any_other_font_labels_are_tags_and_the_reader_writes_the_axes(
    drawn: list["Figure"], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fonts, "_candidates", lambda: ())
    rows = [(f"{name}: Latin", 1.0, None) for name in LANGUAGES.values()]
    svg = bar_chart("t", rows, x_name="每字符词元数")
    (figure,) = drawn
    labels = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert labels == [f"{tag}: Latin" for tag in LANGUAGES]
    assert "每字符词元数</text>" in svg


def test_a_font_of_this_machine_is_chosen_by_its_letters() -> None:
    known = {font.name for font in font_manager.fontManager.ttflist}
    families, missing = fonts.fonts_for(["한국어", "Latin, ελληνικά"])
    assert families[0] == "DejaVu Sans"
    assert set(families) <= known
    if any("CJK" in name for name in known):
        assert missing == frozenset()
    assert fonts.fonts_for(["plain"]) == (["DejaVu Sans"], frozenset())


def test_files_are_named_by_what_tells_them_apart() -> None:
    assert short_names([one.model for one in divergences()])[1:4] == ["q8_0", "q6_k", "q5_k_m"]
    assert short_names(["a.gguf", "b.gguf"]) == ["a", "b"]
    assert short_names(["one.gguf"]) == ["one.gguf"]
    assert short_names(["m.gguf", "m.q4_0.gguf"]) == ["m.gguf", "m.q4_0.gguf"]
