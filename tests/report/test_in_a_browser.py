"""Pages laid out by a real browser: nothing wider than a phone, numbers under their headers."""

from pathlib import Path

import pytest

from hanpaca.evals.comparison import cautions, pairs_of
from hanpaca.report.advice_page import advice_page
from hanpaca.report.compare_page import compare_page
from hanpaca.report.run_page import run_page
from hanpaca.report.runs_page import runs_page
from hanpaca.report.tokenizer_page import audit_page
from tests.support.browser import laid_out
from tests.support.pages import an_advice, an_audit, compared, divergences, in_language, quickstart

PHONE, DESK = 390, 1100  # pixels


def page(name: str, lang: str) -> str:
    match name:
        case "run":
            return run_page(quickstart(), lang=lang)
        case "runs":
            return runs_page(compared(), pairs_of(compared()), cautions(compared()), lang=lang)
        case "audit":
            long = "a-folder-with-a-name-that-is-longer-than-any-phone-is-wide"
            return audit_page(an_audit(), base=long, extended="extended", lang=lang)
        case "advice":
            return advice_page(an_advice(), lang=lang)
        case _:
            return compare_page(divergences(), lang=lang)


@pytest.mark.slow
@pytest.mark.parametrize("lang", ["en", "zh"])
@pytest.mark.parametrize("name", ["run", "runs", "audit", "advice", "compare"])
def test_nothing_is_wider_than_the_screen_and_numbers_end_under_their_headers(
    name: str, lang: str, tmp_path: Path
) -> None:
    for width in (PHONE, DESK):
        found = laid_out(page(name, lang), width=width, folder=tmp_path)
        assert found["wide"] == []
        assert found["page"] == found["width"] == width
        numbers = [column for column in found["columns"] if column["number"]]
        assert numbers
        for column in numbers:
            for text, end in column["cells"]:
                assert not text or abs(end - column["head"]) < 1.5, (column["name"], text)


@pytest.mark.slow
def test_a_korean_runs_page_fits_a_phone(tmp_path: Path) -> None:
    found = laid_out(run_page(in_language(quickstart(), "ko")), width=PHONE, folder=tmp_path)
    assert found["wide"] == []
