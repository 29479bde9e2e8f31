"""The terminal speaks Chinese to whoever reads it: by `--lang zh`, or by the locale."""

import ast
import re
from pathlib import Path

import pytest

from hanpaca.cli.display import worded
from hanpaca.cli.words import speak, speak_as, word
from hanpaca.evals.tasks.suite.score import SUITE_HEADER
from hanpaca.progress import Progress
from hanpaca.report.advice_page import ADVICE_HEADER
from hanpaca.report.compare_page import COMPARE_HEADER
from hanpaca.report.tokenizer_page import CORPUS_HEADER, SUMMARY_HEADER
from hanpaca.steps.judge_suite import PAIR_HEADER
from tests.support.in_process import say

CLI = Path(__file__).parents[2] / "src/hanpaca/cli"
ALIKE = {"", "MB", "GB", "r/alpha", "sha256", "95 %", "%", "kappa"}
"""Headers that are the same in both languages."""
LOCALE = ("LC_ALL", "LC_MESSAGES", "LANG")


@pytest.fixture(autouse=True)
def _no_locale(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in LOCALE:
        monkeypatch.delenv(name, raising=False)


def headers_in(file: Path) -> set[str]:
    """The headers that stand in a command's file as they are."""
    calls = [
        one
        for one in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(one, ast.Call) and getattr(one.func, "id", "") == "print_table"
    ]
    found = [one for call in calls for one in ast.walk(call.args[0])]
    filled = {id(part) for one in found if isinstance(one, ast.JoinedStr) for part in one.values}
    values = (one.value for one in found if isinstance(one, ast.Constant) and id(one) not in filled)
    return {value for value in values if isinstance(value, str)}


def test_every_header_of_a_table_has_its_word() -> None:
    headers = {one for file in CLI.glob("*.py") for one in headers_in(file)}
    assert len(headers) > 30
    headers |= {*SUITE_HEADER, *ADVICE_HEADER, *COMPARE_HEADER, *CORPUS_HEADER, *SUMMARY_HEADER}
    headers |= {*PAIR_HEADER}
    speak("zh")
    assert {one for one in headers - ALIKE if word(one) == one} == set()


def test_a_table_and_what_is_said_below_it_are_chinese(
    pico_recipe: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told = say(capsys, "--lang", "zh", "plan", pico_recipe)
    assert "阶段" in told.out
    assert re.search(r"总共约 [\d:]+（\d+ 个核心），内存 [\d.]+ GB，磁盘 [\d.]+ GB。", told.out)
    assert "In all about" in say(capsys, "plan", pico_recipe).out


@pytest.mark.parametrize(
    ("locale", "header"),
    [("zh_CN.UTF-8", "阶段"), ("zh_TW", "阶段"), ("de_DE.UTF-8", "stage"), ("C", "stage")],
)
def test_the_locale_decides_where_nothing_is_said(
    locale: str,
    header: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("LC_MESSAGES", locale)
    assert header in say(capsys, "status", tmp_path).out
    assert "stage" in say(capsys, "--lang", "en", "status", tmp_path).out


def test_how_far_a_training_has_come_is_said_in_chinese() -> None:
    speak("zh")
    assert worded(Progress(3, 9, "steps", "loss 2.13")) == "第 3/9 步，loss 2.13"
    assert word("running, step 3/9") == "进行中，第 3/9 步"


def test_a_page_in_chinese_is_told_of_in_chinese_and_one_in_english_changes_nothing() -> None:
    assert speak_as("zh-Hans") == "zh"
    assert word("stage") == "阶段"
    assert speak_as("en") == "en"
    assert word("stage") == "阶段"


def test_a_language_without_words_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told = say(capsys, "--lang", "fr", "status", tmp_path)
    assert (told.status, told.last_line) == (
        2,
        "hanpaca: no page is written in 'fr': set --lang to one of: en, zh",
    )
