"""The base's own answers, learned again while it learns something else."""

import json
import re
import shutil
from pathlib import Path

import pytest

from hanpaca.data.cleaning.characters import codes_of
from hanpaca.data.cleaning.leaks import Grams
from hanpaca.data.conversations import Message
from hanpaca.data.general import general_questions
from hanpaca.data.pack import Blocks, content_hash, mix
from hanpaca.data.sources import as_source
from hanpaca.errors import DataError, RecipeError
from hanpaca.evals.tasks.forgetting import abilities
from hanpaca.manifests import read_manifest
from hanpaca.model.load import load_tokenizer
from hanpaca.progress import Progress
from hanpaca.runs import decided
from hanpaca.runs.recipe import load_recipe
from hanpaca.runs.run import run_recipe
from hanpaca.runs.stages import STAGES
from hanpaca.settings import MOST_SELF_REPLAY, SftSettings
from hanpaca.steps.batch import answer_file
from hanpaca.steps.pretrain import replay_blocks
from hanpaca.steps.self_replay import self_replay
from hanpaca.steps.sft import chat_template, sft
from hanpaca.training.blocks import conversation_tokens
from tests.support.scripted import ANSWER, END, scripted_model

TALKS = [(Message("user", f"问{n}"), Message("assistant", f"答{n} 山水")) for n in range(40)]
SETTINGS = SftSettings.model_validate(
    {
        "num_tokens": 1024,
        "block_tokens": 64,
        "dtype": "float32",
        "lora": {"rank": 4},
        "checkpoint_steps": 2,
        "self_replay_conversations": 12,
        "self_replay_fraction": 0.25,
    }
)


class KilledError(Exception):
    """Stands for a kill."""


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def short(pico_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model whose every answer is `ANSWER`, ended by itself."""
    return scripted_model(pico_base, tmp_path_factory.mktemp("short") / "short", last=END)


def words(text: str) -> set[str]:
    return set(re.findall(r"\w+", text.lower()))


def test_no_question_is_one_that_forgetting_is_measured_with() -> None:
    general, asked = general_questions(), abilities()
    assert len(set(general)) == len(general) == MOST_SELF_REPLAY
    both = [*general, *(one.question for one in asked)]
    assert len({" ".join(re.findall(r"\w+", one.lower())) for one in both}) == len(both)
    grams = Grams.of([one.question.lower() for one in asked], num_units=13)
    assert grams.num_texts == len(asked)
    assert not any(grams.are_in(codes_of(one.lower())) for one in general)
    # Most are shorter than 13 words: neither is one another's rewording, nor gives its answer.
    for question in general:
        for other in asked:
            own, its = words(question), words(other.question)
            assert len(own & its) / len(own | its) < 0.6, (question, other.question)
            answers = {one.lower() for one in other.check.get("answers", ()) if len(one) > 3}
            assert not answers & own, (question, other.question)


def test_the_model_answers_questions_drawn_by_the_seed_and_what_it_said_is_kept(
    short: Path, tmp_path: Path
) -> None:
    found = self_replay(short, tmp_path, SETTINGS, seed=1, tell=lambda _: None)
    assert {answer.content for _, answer in found} == {ANSWER}
    asked = [question.content for question, _ in found]
    assert len(set(asked)) == 12
    assert set(asked) <= set(general_questions())
    kept = (tmp_path / "self_replay.jsonl").read_bytes()
    moved = shutil.move(short, short.with_suffix(".away"))  # it is not asked again
    assert self_replay(short, tmp_path, SETTINGS, seed=1, tell=lambda _: None) == found
    shutil.move(moved, short)
    (tmp_path / "again").mkdir()
    self_replay(short, tmp_path / "again", SETTINGS, seed=1, tell=lambda _: None)
    assert (tmp_path / "again/self_replay.jsonl").read_bytes() == kept


def test_an_answer_that_did_not_end_is_left_out_and_none_at_all_is_said(
    pico_base: Path, short: Path, tmp_path: Path
) -> None:
    self_replay(short, tmp_path, SETTINGS, seed=0, tell=lambda _: None)
    file = tmp_path / "self_replay.jsonl"
    rows = [json.loads(line) for line in file.read_text("utf-8").splitlines()]
    rows[0]["stopped"], rows[1]["answer"] = False, " \n"
    file.write_text("".join(json.dumps(one) + "\n" for one in rows), encoding="utf-8")
    told: list[str] = []
    found = self_replay(
        short, tmp_path, SETTINGS, seed=0, tell=lambda progress: told.append(progress.note)
    )
    assert [one[0].content for one in found] == [one["question"] for one in rows[2:]]
    assert told == ["10 of 12 answers of the base's own are replayed; the rest are empty or cut"]
    file.write_text(json.dumps(rows[0]) + "\n", encoding="utf-8")
    with pytest.raises(DataError, match="of 1 answers the model ended none"):
        self_replay(short, tmp_path, SETTINGS, seed=0, tell=lambda _: None)


def test_a_model_without_a_template_is_not_asked(pico_base: Path, tmp_path: Path) -> None:
    plain = tmp_path / "plain"
    shutil.copytree(pico_base, plain)
    config = json.loads((plain / "tokenizer_config.json").read_text("utf-8"))
    config.pop("chat_template", None)
    (plain / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
    (plain / "chat_template.jinja").unlink(missing_ok=True)
    with pytest.raises(RecipeError, match="no chat template, so it cannot be asked"):
        self_replay(plain, tmp_path, SETTINGS, seed=0, tell=lambda _: None)


def test_the_answers_have_their_share_and_the_rest_is_what_it_was(
    short: Path, pico_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Blocks] = []

    def caught(base: Path, blocks: Blocks, **_: object) -> None:
        seen.append(blocks)
        raise KilledError

    monkeypatch.setattr("hanpaca.steps.sft.train_adapter", caught)
    replay = ["The quick brown fox jumps over the lazy dog. " * 9]
    for number in (12, 0):
        wanted = SETTINGS.model_copy(
            update={"self_replay_conversations": number, "replay_fraction": 0.125}
        )
        with pytest.raises(KilledError):
            sft(
                pico_base,
                TALKS,
                tmp_path / f"{number}",
                wanted,
                replay=replay,
                self_replay_model=short,
            )
    mixed, plain = seen
    tokenizer = load_tokenizer(pico_base)
    tokenizer.chat_template = chat_template(tokenizer, SETTINGS)
    learned, _ = conversation_tokens(tokenizer, TALKS, block_tokens=64, num_tokens=1024)
    # As it was before there was such a thing.
    texts, _ = replay_blocks(tokenizer, as_source(replay), SETTINGS)
    expected = mix([(learned.blocks(), 1.0)], texts, num_blocks=16, share=0.125, seed=0)
    assert content_hash(plain) == content_hash(expected)
    kinds = [tokenizer.decode(mixed.input_ids[row]) for row in range(len(mixed))]
    assert sum(ANSWER in one for one in kinds) == 4
    assert sum("quick brown" in one for one in kinds) == 2
    assert sum("山水" in one for one in kinds) == 10


@pytest.mark.slow
def test_what_was_interrupted_while_it_answered_goes_on_and_ends_the_same(
    short: Path, pico_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def train(name: str) -> dict[str, object]:
        return sft(pico_base, TALKS, tmp_path / name, SETTINGS, self_replay_model=short)

    whole = train("whole")
    assert whole["num_self_replay_conversations"] == 12

    def killed(*args: object, **given: object) -> None:
        def tell(progress: Progress) -> None:
            if progress.done == 5:
                raise KilledError

        answer_file(*args, **{**given, "tell": tell})  # type: ignore[arg-type]

    with monkeypatch.context() as patched:
        patched.setattr("hanpaca.steps.self_replay.answer_file", killed)
        with pytest.raises(KilledError):
            train("again")
    kept = tmp_path / "again.partial/self_replay.jsonl.partial/answers.jsonl"
    assert len(kept.read_text("utf-8").splitlines()) == 5
    again = train("again")
    for name in ("blocks_sha256", "loss", "num_self_replay_conversations"):
        assert again[name] == whole[name]
    for name in ("adapter_model.safetensors", "self_replay.jsonl"):
        assert (tmp_path / "again" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"self_replay_conversations": MOST_SELF_REPLAY + 1}, "less than or equal to 234"),
        ({"self_replay_fraction": 0.0}, "greater than 0"),
        ({"replay_fraction": 0.8}, "nothing is left for the conversations"),
    ],
)
def test_what_leaves_nothing_to_learn_is_refused(changes: dict[str, float], fault: str) -> None:
    with pytest.raises(ValueError, match=fault):
        SftSettings.model_validate({**SETTINGS.model_dump(), **changes})


def test_a_run_keeps_the_answers_and_counts_them_among_its_files(
    short: Path, pico_recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = load_recipe(pico_recipe)
    tuned = SETTINGS.model_copy(
        update={
            "self_replay_conversations": 6,
            "template": "chatml",
            "block_tokens": 256,
            "num_tokens": 2048,
        }
    )
    changes = {
        "sft": tuned,
        "pretrain": None,
        "tokenizer": None,
        "base": str(short.with_suffix("")),
    }
    recipe = plain.model_copy(update=changes)
    stages = [one for one in STAGES if one.name in ("05-data", "50-sft")]
    monkeypatch.setattr("hanpaca.runs.run.stages_of", lambda _: stages)
    run = tmp_path / "run"
    run_recipe(recipe, run)
    manifest = read_manifest(run / "50-sft")
    assert "50-sft/self_replay.jsonl" in [one.path for one in manifest.outputs]
    assert manifest.metrics["num_self_replay_conversations"] == 6
    assert manifest.config["self_replay_conversations"] == 6
    assert len(manifest.config["general_questions"]) == 64
    assert run_recipe(recipe, run) == [(one, True) for one, _ in run_recipe(recipe, run)]
    stage = next(one for one in STAGES if one.name == "50-sft")
    assert stage.config(plain) == decided.section("sft", "seed")(plain)
    assert not {"general_questions", "self_replay_fraction"} & set(stage.config(plain))
