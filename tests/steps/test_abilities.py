"""Two models asked the same short questions."""

import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from hanpaca.errors import ArtifactError, DataError
from hanpaca.evals.results import BITS, Measured, ModelResult, RunResult
from hanpaca.evals.tasks import forgetting
from hanpaca.report.wording import words_of
from hanpaca.runs.layout import Job
from hanpaca.runs.measuring import KEPT_GOAL, _bits_note, _kept
from hanpaca.runs.recipe import load_recipe
from hanpaca.runs.stages import STAGES
from hanpaca.steps.abilities import compare_abilities
from hanpaca.steps.candidates import Candidate
from tests.support.commands import hanpaca
from tests.support.scripted import ANSWER, END, scripted_model


@pytest.fixture(scope="module")
def short(pico_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return scripted_model(pico_base, tmp_path_factory.mktemp("short") / "short", last=END)


def test_a_model_against_itself_did_not_suffer(
    short: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = [
        forgetting.Ability(f"问{number}", "facts", {"answers": [ANSWER if number % 2 else "无"]})
        for number in range(12)
    ]
    monkeypatch.setattr("hanpaca.steps.abilities.abilities", lambda language: tuple(asked))
    found = compare_abilities(short, short)
    assert (found.num_questions, found.before, found.after, found.lost) == (12, 6, 6, 0)
    assert found.judgement == "did not suffer"


@pytest.mark.slow
def test_a_base_that_knows_nothing_has_nothing_to_forget(short: Path) -> None:
    with pytest.raises(DataError, match="no answer was right before"):
        compare_abilities(short, short)
    told: list[str] = []
    with pytest.raises(ArtifactError, match="no such"):
        compare_abilities(short, short.with_name("none"), tell=lambda one: told.append(one.note))
    assert told == []  # before anything is asked
    done = hanpaca("suite", "kept", short, short)
    assert (done.returncode, "no answer was right before" in done.stderr) == (3, True)


def test_only_a_recipe_that_asks_has_another_key(pico_recipe: Path, tmp_path: Path) -> None:
    text = pico_recipe.read_text(encoding="utf-8")
    more = text.replace("max_answer_tokens: 16", "max_answer_tokens: 16, english_questions: true")
    assert more != text
    (tmp_path / "recipe.yaml").write_text(more, encoding="utf-8")
    asked = load_recipe(tmp_path / "recipe.yaml")
    config = next(one for one in STAGES if one.name == "80-eval").config
    assert config(asked)["english_questions"] is True
    assert "english_questions" not in config(load_recipe(pico_recipe))


@pytest.mark.slow
def test_smollm2_answers_most_of_the_questions(
    smollm2_gguf: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = forgetting.abilities()[::5]
    monkeypatch.setattr("hanpaca.steps.abilities.abilities", lambda language: asked)
    found = compare_abilities(smollm2_gguf, smollm2_gguf)
    assert found.before >= 0.6 * len(asked)
    assert found.lost <= 2  # what is computed beside an answer may tip a close decision


def test_a_run_that_asks_has_what_was_kept_and_a_base_without_answers_has_none(
    short: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    job = SimpleNamespace(
        recipe=SimpleNamespace(seed=0), tell=lambda progress: told.append(progress.note)
    )
    base = Candidate("base", short.parent, short, "")
    candidates = [base, Candidate("pretrained", short.parent, short, "", asked=True)]
    assert _kept(cast(Job, job), candidates) is None
    assert "no answer was right before" in told[-1]
    ability = forgetting.Ability("问", "facts", {"answers": [ANSWER]})
    monkeypatch.setattr("hanpaca.steps.abilities.abilities", lambda language: (ability,) * 4)
    found = _kept(cast(Job, job), candidates)
    assert found is not None
    assert (found.before, found.after) == (4, 4)
    assert _kept(cast(Job, job), [replace(base, asked=True)]) is None


def test_what_was_kept_is_told_in_chinese_too() -> None:
    word = words_of("zh")
    for right in (40, 30, 5):
        kept = forgetting.answers_kept(
            [True] * 40 + [False] * 24, [True] * right + [False] * 24 + [False] * (40 - right)
        )
        told = word(str(kept))
        assert f"之后答对 {right} 个" in told
        assert not re.search("[a-z]{4,}", told.replace("McNemar", ""))
    assert word(KEPT_GOAL) != KEPT_GOAL


def test_a_run_says_of_the_old_languages_bits_what_their_interval_says() -> None:
    def model(name: str, factor: float) -> ModelResult:
        bits = tuple(factor * (100.0 + number) for number in range(30))
        return ModelResult(name, "", 0, {"en": {BITS.name: Measured(factor, per_text=bits)}})

    word = words_of("zh")
    for factor, said, chinese in ((1.01, "did not suffer", "没有受损"), (1.2, "suffered", "受损")):
        result = RunResult("", ("zh", "en"), (model("base", 1.0), model("chat", factor)))
        (note,) = _bits_note(result, "chat", 0)
        assert note.endswith(f"English text: {said}.")
        assert f"{factor:.1%} of the base's bits" in note
        assert word(note).endswith(f"{chinese}。")
        assert not re.search("[a-z]{4,}", word(note))
    assert list(_bits_note(result, "base", 0)) == []
