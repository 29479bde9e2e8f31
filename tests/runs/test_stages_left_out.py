"""A recipe may leave sections out: their stages are not there, and what follows reads what is."""

import json
from pathlib import Path

import pytest

from hanpaca.checkpoints.model import open_model
from hanpaca.errors import ArtifactError, RecipeError
from hanpaca.evals.results import RunResult, read_results
from hanpaca.manifests import read_manifest
from hanpaca.runs.folder import STAGE_LIST, status_of
from hanpaca.runs.layout import read_in
from hanpaca.runs.materials import external_inputs
from hanpaca.runs.plan import STAGE_NAMES, estimate
from hanpaca.runs.recipe import load_recipe
from hanpaca.runs.run import Run, run_recipe
from hanpaca.runs.stages import stages_of
from hanpaca.settings import Recipe
from hanpaca.steps.candidates import ready

SFT_ONLY = ("tokenizer=null", "rows={}", "pretrain=null", "data.text=[]")
PRETRAIN_ONLY = ("sft=null", "data.instructions=[]")
NO_NEW_PIECES = ("tokenizer=null", "rows={}")
ALL_WEIGHTS = (
    *("pretrain.train=[all]", "pretrain.lora={}", "sft.train=[all]", "sft.lora={}"),
    *("pretrain.learning_rate=1e-3", "sft.learning_rate=1e-3"),
)
PREFERENCES = (
    "data.preferences=[pairs.json]",
    "dpo={block_tokens: 192, template: chatml, lora: {rank: 4}, checkpoint_steps: 2}",
)
LEFT = {
    SFT_ONLY: ["05-data", "50-sft", "60-chat", "70-gguf", "80-eval"],
    PRETRAIN_ONLY: [
        *("05-data", "10-tokenizer", "20-base", "30-pretrain", "40-merged", "70-gguf", "80-eval")
    ],
    NO_NEW_PIECES: [
        *("05-data", "30-pretrain", "40-merged", "50-sft", "60-chat", "70-gguf", "80-eval")
    ],
    PREFERENCES: [
        *("05-data", "10-tokenizer", "20-base", "30-pretrain", "40-merged", "50-sft", "52-tuned"),
        *("55-dpo", "60-chat", "70-gguf", "80-eval"),
    ],
    (*SFT_ONLY, *PREFERENCES, "sft.train=[all]", "sft.lora={}"): [
        *("05-data", "50-sft", "55-dpo", "60-chat", "70-gguf", "80-eval")
    ],
    (*PRETRAIN_ONLY, *PREFERENCES, "dpo.train=[all]", "dpo.lora={}"): [
        *("05-data", "10-tokenizer", "20-base", "30-pretrain", "40-merged", "55-dpo", "70-gguf"),
        "80-eval",
    ],
    ALL_WEIGHTS: [
        *("05-data", "10-tokenizer", "20-base", "30-pretrain", "50-sft", "70-gguf", "80-eval")
    ],
}


@pytest.mark.parametrize("overrides", LEFT)
def test_a_section_left_out_leaves_its_stages_out(
    overrides: tuple[str, ...], pico_recipe: Path
) -> None:
    recipe = load_recipe(pico_recipe, overrides)
    assert [stage.name for stage in stages_of(recipe)] == LEFT[overrides]
    found = estimate(recipe)
    assert list(found.seconds) == list(found.disk_bytes) == LEFT[overrides]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (("pretrain=null", "sft=null", "data.instructions=[]"), "nothing is trained"),
        (("data.text=[]",), "tokenizer learns from text, but data.text is empty"),
        (("data.text=[]", *NO_NEW_PIECES), "pretrain learns from text"),
        (("sft=null",), "data.instructions are what sft learns from"),
        (("data.instructions=[]",), "data.instructions are what sft learns from"),
        (("tokenizer=null",), "rows are those of new pieces"),
        (PREFERENCES[:1], "data.preferences are what dpo learns from"),
        (PREFERENCES[1:], "data.preferences are what dpo learns from"),
        ((*PREFERENCES, "dpo.sharding=full"), "preferences are not learned in shards"),
        (("sft=null", *SFT_ONLY, "data.instructions=[]", *PREFERENCES), "nothing to measure on"),
    ],
)
def test_a_recipe_that_contradicts_itself_is_refused(
    overrides: tuple[str, ...], message: str, pico_recipe: Path
) -> None:
    with pytest.raises(RecipeError, match=message):
        load_recipe(pico_recipe, overrides)


def finished(recipe: Recipe, run: Path) -> RunResult:
    """Run it; check that status, chain and a second run follow the recipe."""
    names = [stage.name for stage in stages_of(recipe)]
    assert [skipped for _, skipped in run_recipe(recipe, run)] == [False] * len(names)
    assert [one.stage for one in Run(run).stages] == names
    assert {one.state for one in Run(run).stages} == {"done"}
    assert Run(run).verify()
    assert all(skipped for _, skipped in run_recipe(recipe, run))
    return read_results(run / "80-eval/results.json")


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.mark.slow
@pytest.mark.usefixtures("cache")
def test_instruction_tuning_alone_starts_from_the_base(
    pico_recipe: Path, pico_base: Path, tmp_path: Path
) -> None:
    recipe = load_recipe(pico_recipe, [*SFT_ONLY, "gguf.types=[f16]"])
    result = finished(recipe, tmp_path / "run")
    assert [model.name for model in result.models] == ["base", "chat"]
    # Held-out answers are measured where there is no text, and questions are asked.
    assert result.models[0].measured["zh"]
    assert [goal.name for goal in result.goals] == ["bits per character of held-out English"]
    assert [(curve.name, curve.language) for curve in result.curves] == [
        ("instruction tuning", "zh"),
        ("instruction tuning", "en"),
    ]
    given = [one.path for one in read_manifest(tmp_path / "run/50-sft").inputs]
    assert f"{pico_base}/model.safetensors" in given
    assert {
        path.split("/")[0] for path in given if path.startswith(("05", "1", "2", "3", "4"))
    } == {"05-data"}
    assert (tmp_path / "run/60-chat/chat_template.jinja").is_file()


@pytest.mark.slow
@pytest.mark.usefixtures("cache")
def test_pretraining_alone_without_new_pieces_ends_with_its_model(
    pico_recipe: Path, pico_base: Path, tmp_path: Path
) -> None:
    overrides = [*PRETRAIN_ONLY, *NO_NEW_PIECES, "gguf.types=[q8_0]"]
    recipe, run = load_recipe(pico_recipe, overrides), tmp_path / "run"
    result = finished(recipe, run)
    assert [model.name for model in result.models] == ["base", "pretrained", "pretrained q8_0"]
    assert len(result.goals) == 2  # no piece is new, so nothing is to be faster
    given = [one.path for one in read_manifest(run / "70-gguf").inputs]
    assert "40-merged/model.safetensors" in given
    with pytest.raises(ArtifactError, match="30-pretrain: the recipe leaves this stage out"):
        run_recipe(load_recipe(pico_recipe, SFT_ONLY), run)
    shapes = [
        open_model(folder).tensors["model.embed_tokens.weight"].shape
        for folder in (pico_base, run / "40-merged")
    ]
    assert shapes[0] == shapes[1]


@pytest.mark.slow
@pytest.mark.usefixtures("cache")
def test_of_every_weight_a_training_leaves_the_model_itself(
    pico_recipe: Path, tmp_path: Path
) -> None:
    recipe, run = load_recipe(pico_recipe, [*ALL_WEIGHTS, "gguf.types=[f16]"]), tmp_path / "run"
    result = finished(recipe, run)
    assert [model.name for model in result.models] == ["base", "pretrained", "chat"]
    read = {one.path.split("/")[0] for one in read_manifest(run / "50-sft").inputs}
    assert {"30-pretrain", "05-data"} <= read
    assert "20-base" not in read
    assert "50-sft/model.safetensors" in {one.path for one in read_manifest(run / "70-gguf").inputs}
    assert (run / "50-sft/chat_template.jinja").is_file()
    assert (run / "50-sft/tokenizer.json").is_file()
    with ready(run, "run", lambda _: None, weights=True) as candidate:
        assert candidate.folder == run / "50-sft"


def test_preferences_that_come_later_leave_what_was_done(pico_recipe: Path) -> None:
    plain, more = (load_recipe(pico_recipe, given) for given in ((), PREFERENCES))
    done = {stage.name: stage for stage in stages_of(plain) if stage.name <= "50-sft"}
    for stage in stages_of(more):
        if stage.name in done:
            assert stage.config(more) == done[stage.name].config(plain)
            assert read_in(more, stage.reads) == read_in(plain, done[stage.name].reads)
    assert external_inputs(more) == external_inputs(plain)


@pytest.mark.slow
@pytest.mark.usefixtures("cache")
def test_preferences_are_learned_between_tuning_and_the_final_model(
    pico_recipe: Path, tmp_path: Path
) -> None:
    rows = [
        {"prompt": f"写第{n}句。", "chosen": f"白日依山尽，第{n}句。", "rejected": "never"}
        for n in range(12)
    ]
    pairs = pico_recipe.parent / "pairs.json"
    pairs.write_text(json.dumps(rows, ensure_ascii=False), encoding="utf-8")
    recipe, run = load_recipe(pico_recipe, [*PREFERENCES, "gguf.types=[f16]"]), tmp_path / "run"
    result = finished(recipe, run)
    assert [model.name for model in result.models] == ["base", "pretrained", "tuned", "chat"]
    assert "preference tuning" in {curve.name for curve in result.curves}
    assert {"52-tuned", "55-dpo"} <= {one.name for one in result.provenance}
    assert read_manifest(run / "55-dpo").metrics["num_pairs"] == len(rows)
    for stage, read in {
        "52-tuned": {"40-merged", "50-sft"},
        "55-dpo": {"05-data", "52-tuned"},
        "60-chat": {"52-tuned", "55-dpo"},
    }.items():
        inputs = {one.path.split("/")[0] for one in read_manifest(run / stage).inputs}
        assert inputs & {*LEFT[PREFERENCES]} == read
    templates = {(run / one / "chat_template.jinja").read_bytes() for one in LEFT[PREFERENCES][5:9]}
    assert len(templates) == 1
    # Without preferences the model of before is made from what is there; the run is another's.
    with pytest.raises(ArtifactError, match="52-tuned: the recipe leaves this stage out"):
        run_recipe(load_recipe(pico_recipe, ["gguf.types=[f16]"]), run)


def test_status_tells_the_stages_of_the_recipe_or_all_where_it_is_not_known(tmp_path: Path) -> None:
    for text, told in (
        (json.dumps(LEFT[SFT_ONLY]), LEFT[SFT_ONLY]),
        ("{", list(STAGE_NAMES)),
        ("0", list(STAGE_NAMES)),
    ):
        (tmp_path / STAGE_LIST).write_text(text)
        assert [one.stage for one in status_of(tmp_path, STAGE_NAMES)] == told


@pytest.mark.slow
@pytest.mark.usefixtures("cache")
def test_a_run_with_weights_and_a_monitor_that_keeps_the_best(
    pico_recipe: Path, tmp_path: Path
) -> None:
    """Other weights learn anew from the same data; the report says what was kept."""
    more = pico_recipe.parent / "more.txt"
    more.write_text("\n\n".join(f"床前明月光，疑是地上霜。第{n}首。" for n in range(30)), "utf-8")
    watched = ("max_replay_rise=1e-6", "on_replay_rise=keep_best", "sample_steps=2")
    short = ("data.text=[zh.txt,more.txt]", "gguf.types=[f16]", "eval.num_questions=0")
    given = (*PRETRAIN_ONLY, *NO_NEW_PIECES, *short, *(f"pretrain.{one}" for one in watched))
    run = tmp_path / "run"
    result = finished(load_recipe(pico_recipe, (*given, "pretrain.weights=[3,1]")), run)
    assert [file.name for file in sorted((run / "05-data").glob("text.[0-9]*"))] == [
        "text.1.jsonl",
        "text.2.jsonl",
    ]
    kept = read_manifest(run / "30-pretrain").metrics["kept_step"]
    assert f"Of pretraining the adapter of step {kept} was kept." in result.notes
    recipe = load_recipe(pico_recipe, (*given, "pretrain.weights=[1,1]"))
    skipped = {one.stage: was for one, was in run_recipe(recipe, run)}
    assert skipped["05-data"]
    assert not skipped["30-pretrain"]
