"""The page on which people compare answers, and what is made of what it saves."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter

from hanpaca.errors import ArtifactError, DataError, RecipeError
from hanpaca.evals.tasks.suite.prompts import load_suite
from hanpaca.evals.tasks.suite.score import Said, SuiteResult, checked_answers
from hanpaca.steps.judge_suite import Endpoint, judge_suite
from hanpaca.steps.review_suite import read_reviews, review_suite
from tests.support.browser import laid_out, text_after
from tests.support.commands import hanpaca
from tests.support.judging import answers_in, careful, judging

WHOLE = load_suite()
SUITE = replace(WHOLE, prompts=tuple(one for one in WHOLE.prompts if "people" in one.layers)[::4])
HOSTILE = "</script><script>alert(1)</script>"


def result(model: str, says: str) -> SuiteResult:
    said = {
        one.name: Said(one.name, (f"{says} {one.name}",) * len(one.turns), (True,), (1,))
        for one in SUITE.prompts
    }
    return SuiteResult(model, "00", SUITE.version, 0, {"a": 1}, checked_answers(SUITE, said))


@pytest.fixture
def answers(tmp_path: Path) -> Path:
    folder = tmp_path / "answers"
    folder.mkdir()
    for model, says in (("first-model", "甲答"), ("second-model", f"乙答{HOSTILE}")):
        text = TypeAdapter(SuiteResult).dump_json(result(model, says))
        (folder / f"{model}.json").write_bytes(text)
    return folder


def data_of(page: str) -> dict[str, Any]:
    found = re.search(r'id="data">(.*?)</script>', page, re.DOTALL)
    assert found
    return dict(json.loads(found[1]))


def vote(page: str, reviewer: str, prefers: str) -> dict[str, Any]:
    """What the page would save of somebody who prefers answers with a word."""
    data = data_of(page)
    votes = {one["name"]: "left" if prefers in one["left"][0] else "right" for one in data["pairs"]}
    return {"review": data["review"], "reviewer": reviewer, "votes": votes, "notes": {}}


def test_the_page_hides_names_and_mixes_sides(answers: Path, tmp_path: Path) -> None:
    number = review_suite(answers, tmp_path / "page.html", suite=SUITE)
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    pairs = data_of(page)["pairs"]
    assert number == len(pairs) == len(SUITE.prompts)
    assert not re.search("first-model|second-model", page)
    assert HOSTILE not in page
    left = sum("甲答" in one["left"][0] for one in pairs)
    assert 0 < left < len(pairs)
    assert [one["name"] for one in pairs] != [one.name for one in SUITE.prompts]
    assert "http" not in page.replace("http-equiv", "")
    other = review_suite(answers, tmp_path / "other.html", suite=SUITE, seed=1, lang="zh")
    assert other == number
    chinese = (tmp_path / "other.html").read_text(encoding="utf-8")
    assert "哪个回答更好？" in chinese
    assert [one["name"] for one in data_of(chinese)["pairs"]] != [one["name"] for one in pairs]


@pytest.mark.slow
def test_what_people_saved_is_compared_with_each_other_and_the_judge(
    answers: Path, tmp_path: Path
) -> None:
    @careful
    def likes_the_first(text: str) -> str:
        return "[[A]]" if "甲答" in answers_in(text)[0] else "[[B]]"

    done = hanpaca("suite", "review", answers, "-o", tmp_path / "page.html")
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    files = []
    for reviewer, prefers in (("Ann", "甲答"), ("Bo", "乙答")):
        files.append(tmp_path / f"{reviewer}.json")
        files[-1].write_text(json.dumps(vote(page, reviewer, prefers)), encoding="utf-8")
    with judging(likes_the_first) as judge:
        judge_suite(answers, Endpoint(judge.url, "judge"), suite=SUITE)
    found = read_reviews(answers, files)
    assert found.models == ("first-model", "second-model")
    assert {name: rate.value for name, rate in found.rates.items()} == {"Ann": 100, "Bo": 0}
    assert found.among_people["Ann, Bo"].kappa == 0
    assert found.with_judge["Ann"].num_prompts == len(SUITE.prompts)
    assert found.with_judge["Bo"].kappa == 0
    done = hanpaca("suite", "agree", answers, *files)
    assert done.returncode == 0, done.stderr
    assert "Ann, judge" in done.stdout


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        ({"votes": {"k14": "up"}}, "no judgements of a review page"),
        ({"review": "x"}, "no judgements of a review page"),
        ({"review": "x", "votes": {}}, "judgements of other answers"),
        ({"votes": {"k14": "tie", "nope": "tie"}}, "no prompt is called 'nope'"),
        ({"votes": {}}, "of 0 prompts; at least 2 must be judged"),
    ],
)
def test_a_file_of_something_else_is_named(
    answers: Path, tmp_path: Path, tree: dict[str, Any], message: str
) -> None:
    review_suite(answers, tmp_path / "page.html", suite=SUITE)
    own = data_of((tmp_path / "page.html").read_text(encoding="utf-8"))["review"]
    saved = tree if len(tree) != 1 or "review" in tree else {"review": own, **tree}
    (tmp_path / "ann.json").write_text(json.dumps(saved), encoding="utf-8")
    with pytest.raises((ArtifactError, DataError), match=message):
        read_reviews(answers, [tmp_path / "ann.json"])


def test_two_models_must_be_named_where_there_are_more(answers: Path, tmp_path: Path) -> None:
    text = (answers / "first-model.json").read_text(encoding="utf-8")
    third = text.replace('"model":"first-model"', '"model":"third"')
    (answers / "third.json").write_text(third, encoding="utf-8")
    page = tmp_path / "page.html"
    for models in ((), ("third",), ("third", "nobody"), ("third", "third")):
        with pytest.raises(RecipeError, match="has first-model, second-model, third"):
            review_suite(answers, page, models=models, suite=SUITE)
    assert review_suite(answers, page, models=("third", "second-model"), suite=SUITE)


def test_answers_to_another_suite_and_a_file_given_twice_are_refused(
    answers: Path, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match="answered suite"):
        review_suite(answers, tmp_path / "page.html", suite=load_suite(seed=5))
    for_nobody = replace(SUITE, prompts=())
    with pytest.raises(RecipeError, match="none of the suite's prompts is for people"):
        review_suite(answers, tmp_path / "page.html", suite=for_nobody)
    assert not (tmp_path / "page.html").exists()
    review_suite(answers, tmp_path / "page.html", suite=SUITE)
    saved = vote((tmp_path / "page.html").read_text(encoding="utf-8"), "张三", "甲答")
    file = tmp_path / "review-张三.json"
    file.write_text(json.dumps(saved), encoding="utf-8")
    assert list(read_reviews(answers, [file]).rates) == ["张三"]
    with pytest.raises(RecipeError, match="judgements of 张三 are given twice"):
        read_reviews(answers, [file, file])


@pytest.mark.slow
def test_keys_judge_in_a_browser_and_nothing_is_wider_than_a_phone(
    answers: Path, tmp_path: Path
) -> None:
    review_suite(answers, tmp_path / "page.html", suite=SUITE)
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert laid_out(page, width=390, folder=tmp_path)["wide"] == []
    script = """
    for (const key of ["ArrowLeft", "ArrowRight", "=", "Backspace", "ArrowLeft"])
      page.dispatchEvent(new KeyboardEvent("keydown", {key, bubbles: true}));
    const link = frame.contentWindow.HTMLAnchorElement.prototype;
    link.click = function () { page.named = this.download; };
    page.getElementById("reviewer").value = "张三 / Ann";
    page.getElementById("export").onclick();
    const saved = frame.contentWindow.eval("saved()");
    found.textContent = JSON.stringify({...saved, named: page.named});
    """
    saved = json.loads(text_after(page, script, folder=tmp_path))
    names = [one["name"] for one in data_of(page)["pairs"]]
    assert saved["votes"] == dict(zip(names, ["left", "right", "left"], strict=False))
    assert saved["named"] == "review-张三-Ann.json"
    assert saved["review"] == data_of(page)["review"]
