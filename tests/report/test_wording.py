"""Pages in another language: their words are data, and none is forgotten."""

import re
from dataclasses import replace

import pytest

from hanpaca.errors import RecipeError
from hanpaca.evals.comparison import cautions, pairs_of
from hanpaca.evals.results import Goal
from hanpaca.report.advice_page import advice_page
from hanpaca.report.compare_page import compare_page
from hanpaca.report.run_page import run_page
from hanpaca.report.runs_page import runs_page
from hanpaca.report.tokenizer_page import audit_page
from hanpaca.report.wording import checked_language, own_language, page_languages, words_of
from hanpaca.tokenizer.audits.junk import KINDS
from tests.support.pages import an_advice, an_audit, compared, divergences, in_language, quickstart

PARTS = re.compile(r"<(h1|h2|th|p|li|title|text)\b[^>]*>(.*?)</\1>", re.DOTALL)
ENGLISH_WORD = re.compile(r"\b[a-z]{4,}\b")
NAMES = {
    *("hanpaca", "quickstart", "pretrained", "base", "chat", "gguf", "name", "model", "llama"),
    *("longer", "pretrain", "tokens", "data", "text", "jsonl", "heldout"),
    *("with", "long", "corpus", "float32", "torch", "bfloat16", "over", "lazy", "Latin"),
}
"""Of models, programs and corpora, which stay as they are."""


def english_in(page: str) -> list[str]:
    texts = [re.sub(r"<.*?>", " ", text) for _, text in PARTS.findall(page)]
    return [
        text for text in texts if "xxxx" not in text and set(ENGLISH_WORD.findall(text)) - NAMES
    ]


def test_a_chinese_page_of_a_tokenizer_or_of_files_has_no_english_in_it() -> None:
    audit = replace(an_audit(), junk=dict.fromkeys(KINDS, ("a",)))
    pages = {
        "audit": audit_page(audit, base="base", extended="hanpaca", lang="zh"),
        "no fault": audit_page(
            replace(audit, dead_pieces=(), killed_pieces=(), corpora=()),
            base="base",
            extended="hanpaca",
            lang="zh",
        ),
        "extend": advice_page(an_advice(), lang="zh"),
        "do not": advice_page(an_advice(worthwhile=False, speeds=False), lang="zh"),
        "compare": compare_page(divergences(), lang="zh"),
    }
    for name, page in pages.items():
        assert '<html lang="zh">' in page
        assert english_in(page) == [], name


@pytest.mark.parametrize("tag", ["zh", "ko"])
def test_a_chinese_page_of_a_run_has_english_in_its_notes_alone(tag: str) -> None:
    result = in_language(replace(quickstart(), notes=(), heldout_examples=()), tag)
    goals = (
        Goal("bits per character of held-out Korean", -3.0, "at least", 15, "%", "fall"),
        Goal("Korean characters per second, against the base", 1.7, "at least", 1.5, "x"),
        *result.goals,
    )
    page = run_page(replace(result, goals=goals), lang="zh")
    assert english_in(page) == []
    assert "留出韩文的每字符比特数上升了 3.00 %（目标：下降至少 15 %）" in page


def test_a_chinese_page_of_several_runs_has_english_in_their_own_notes_alone() -> None:
    runs = [
        replace(one, results=replace(one.results, notes=(), heldout_examples=()))
        for one in compared()
    ]
    runs[1] = replace(runs[1], heldout={"zh": "2" * 64}, sources={"torch": "2.12", "base": "b"})
    found = cautions(runs)
    assert found[0] == (
        "longer was measured on other Chinese text than quickstart: their bits per character "
        "cannot be compared."
    )
    page = runs_page(runs, pairs_of(runs), found, lang="zh")
    assert english_in(page) == []


def test_words_are_found_with_what_stands_in_their_places() -> None:
    word = words_of("zh-Hans")
    assert word("Korean characters per second, against the base") == "韩文每秒字符数（与基座之比）"
    assert word("such a text is not known") == "such a text is not known"
    assert word("A {brace} stays bits/char") == "A {brace} stays 比特/字符"
    assert words_of("xx")("Goals") == "Goals"


def test_a_language_without_words_is_refused_by_name() -> None:
    assert page_languages() == ("en", "zh")
    assert (checked_language("zh-Hant"), checked_language("EN")) == ("zh", "en")
    with pytest.raises(RecipeError, match="no page is written in 'fr'"):
        checked_language("fr")
    assert (own_language("zh-Hant"), own_language("en"), own_language("ko")) == (("zh",), (), ())
