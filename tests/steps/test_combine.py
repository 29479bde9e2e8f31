"""Sums of whole models, against plain torch."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import Tensor
from typer.testing import CliRunner

from hanpaca.cli import app
from hanpaca.errors import ArtifactError, HanpacaError, RecipeError
from hanpaca.merging import MergeOptions, merge_adapters, run_merge
from hanpaca.runs.folder import verify_run
from hanpaca.steps.combine import Combination, plan_combination

EMBED, HEAD = "model.embed_tokens.weight", "lm_head.weight"
State = dict[str, Tensor]
MakeModel = Callable[..., Path]


@pytest.fixture
def make_model(pico_untied: Path, tmp_path: Path) -> MakeModel:
    """Makes a model with weights of its own and, on demand, with other pieces in its last rows."""

    def make(
        name: str, *, last: tuple[str, ...] | None = None, scale: float = 1.0, tied: bool = False
    ) -> Path:
        folder = tmp_path / name
        folder.mkdir()
        seed = torch.Generator().manual_seed(sum(name.encode()))
        state = {}
        for key, tensor in load_file(pico_untied / "model.safetensors").items():
            shape = list(tensor.shape)
            if key in (EMBED, HEAD) and last is not None:
                shape[0] += len(last)
            state[key] = (torch.randn(shape, generator=seed) * scale).bfloat16()
        if tied:
            del state[HEAD]
        save_file(state, folder / "model.safetensors")
        config = json.loads((pico_untied / "config.json").read_text())
        config |= {"vocab_size": state[EMBED].shape[0], "tie_word_embeddings": tied}
        (folder / "config.json").write_text(json.dumps(config))
        tree = json.loads((pico_untied / "tokenizer.json").read_text())
        first = len(tree["model"]["vocab"])
        for number, piece in enumerate(last or (), first):
            tree["added_tokens"].append({**tree["added_tokens"][0], "content": piece, "id": number})
        (folder / "tokenizer.json").write_text(json.dumps(tree))
        return folder

    return make


def load(folder: Path) -> State:
    return {
        name: tensor.float() for name, tensor in load_file(folder / "model.safetensors").items()
    }


def combined(output: Path, wanted: Combination, **options: str) -> State:
    plan, _ = plan_combination(wanted, MergeOptions(**options))  # type: ignore[arg-type]
    run_merge(plan, output)
    return load_file(output / "model.safetensors")


def check(found: State, wanted: State, dtype: torch.dtype = torch.bfloat16) -> None:
    assert found.keys() == wanted.keys()
    for name, tensor in wanted.items():
        assert found[name].dtype is dtype
        assert torch.equal(found[name], tensor.to(dtype)), name


weights = st.floats(-4, 4, width=32).filter(lambda weight: abs(weight) > 1e-3)


@given(factors=st.lists(weights, min_size=3, max_size=3), dtype=st.sampled_from(["f32", "bf16"]))
@settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_weighted_sum_has_the_bits_of_its_formula(
    factors: list[float],
    dtype: str,
    make_model: MakeModel,
    tmp_path_factory: pytest.TempPathFactory,
    tmp_path: Path,
) -> None:
    names = ("a", "b", "c")
    folders = [tmp_path / n if (tmp_path / n).exists() else make_model(n) for n in names]
    states = [load(folder) for folder in folders]
    output = tmp_path_factory.mktemp("sum") / "out"
    found = combined(output, Combination(list(zip(folders, factors, strict=True))), dtype=dtype)
    wanted = {}
    for name in states[0]:
        total = states[0][name] * factors[0]
        for state, factor in zip(states[1:], factors[1:], strict=True):
            total = total + state[name] * factor
        wanted[name] = total
    check(found, wanted, {"f32": torch.float32, "bf16": torch.bfloat16}[dtype])


def test_a_chat_vector_is_added(make_model: MakeModel, tmp_path: Path) -> None:
    model, chat, other, base = (make_model(name) for name in ("m", "chat", "other", "base"))
    found = combined(
        tmp_path / "out", Combination([(model, 1.0)], [(chat, 0.7), (other, -1.0)], base)
    )
    m, c, o, b = (load(folder) for folder in (model, chat, other, base))
    check(found, {name: m[name] + 0.7 * (c[name] - b[name]) + -(o[name] - b[name]) for name in m})


def test_a_stopped_sum_goes_on_with_its_own_weights_only(
    make_model: MakeModel, tmp_path: Path
) -> None:
    a, b = make_model("a"), make_model("b")
    options = MergeOptions(max_shard_bytes=20_000)

    def stop(done: int, total: int) -> None:
        if done > total // 2:
            raise KeyboardInterrupt

    first = Combination([(a, 0.25), (b, 0.75)])
    with pytest.raises(KeyboardInterrupt):
        run_merge(plan_combination(first, options)[0], tmp_path / "out", on_bytes=stop)
    kept = list((tmp_path / "out.partial").glob("*.safetensors"))
    assert kept
    plan, _ = plan_combination(Combination([(a, 0.5), (b, 0.5)]), options)
    run_merge(plan, tmp_path / "out")
    one, two = load(a), load(b)
    found: State = {}
    for file in (tmp_path / "out").glob("*.safetensors"):
        found |= load_file(file)
    check(found, {name: 0.5 * one[name] + 0.5 * two[name] for name in one})


def test_one_model_alone_is_itself(make_model: MakeModel, tmp_path: Path) -> None:
    model = make_model("m")
    check(combined(tmp_path / "out", Combination([(model, 1.0)])), load(model))


def test_rows_are_found_by_the_text_of_their_pieces(make_model: MakeModel, tmp_path: Path) -> None:
    """The result has the pieces of b: x of b alone, y of both, under other numbers."""
    a, b = make_model("a", last=("<y>", "<z>")), make_model("b", last=("<x>", "<y>"))
    with pytest.raises(RecipeError, match="choose the result's with tokenizer="):
        plan_combination(Combination([(a, 0.25), (b, 0.5)]), MergeOptions())
    wanted = Combination([(a, 0.25), (b, 0.5)], tokenizer=b)
    _, told = plan_combination(wanted, MergeOptions())
    assert told == [
        f"395 pieces from '<|endoftext|>' on: 0.25 x {a} + 0.5 x {b}",
        f"1 pieces from '<x>' on: 0.75 x {b}",
    ]
    found = combined(tmp_path / "out", wanted)
    one, two = load(a), load(b)
    result = {name: 0.25 * one[name] + 0.5 * two[name] for name in one}
    for name in (EMBED, HEAD):
        result[name][394] = 0.75 * two[name][394]
        result[name][395] = 0.25 * one[name][394] + 0.5 * two[name][395]
    check(found, result)
    read = [json.loads((folder / "tokenizer.json").read_text()) for folder in (b, tmp_path / "out")]
    assert read[0] == read[1]
    assert json.loads((tmp_path / "out/config.json").read_text())["vocab_size"] == 396


def test_a_chat_vector_goes_to_the_pieces_all_have(make_model: MakeModel, tmp_path: Path) -> None:
    """An extended model takes a change of the old rows; a new token of the chat comes with it."""
    model, base = make_model("m", last=("<new>", "<more>")), make_model("base")
    chat = make_model("chat", last=("<turn>", "<new>"))
    wanted = Combination([(model, 1.0)], [(chat, 0.5)], base, tokenizer=chat)
    found = combined(tmp_path / "out", wanted)
    m, c, b = (load(folder) for folder in (model, chat, base))
    result = {name: m[name] + 0.5 * (c[name] - b[name]) for name in m if name not in (EMBED, HEAD)}
    for name in (EMBED, HEAD):
        old = m[name][:394] + 0.5 * (c[name][:394] - b[name])
        result[name] = torch.cat([old, c[name][394:395], m[name][394:395]])
    check(found, result)


def test_a_tied_model_goes_with_an_untied_one(make_model: MakeModel, tmp_path: Path) -> None:
    tied, untied = make_model("t", tied=True), make_model("u")
    found = combined(tmp_path / "out", Combination([(tied, 0.5), (untied, 0.5)]))
    one, two = load(tied), load(untied)
    one[HEAD] = one[EMBED]
    check(found, {name: 0.5 * one[name] + 0.5 * two[name] for name in two})
    assert not json.loads((tmp_path / "out/config.json").read_text())["tie_word_embeddings"]


def test_metas_format_goes_with_hugging_faces(make_model: MakeModel, tmp_path: Path) -> None:
    """Rows of heads in another order, an embedding cut by columns, other pieces at the end."""
    a, b = make_model("a", last=("<y>",)), make_model("b", last=("<x>", "<y>"))
    merge_adapters(b, [], tmp_path / "pth", options=MergeOptions(format="pth", num_files=2))
    expected = combined(tmp_path / "hf", Combination([(a, 0.3), (b, 0.7)], tokenizer=a))
    found = combined(
        tmp_path / "out", Combination([(a, 0.3), (tmp_path / "pth", 0.7)], tokenizer=a)
    )
    check(found, expected)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 4},
            "num_attention_heads is 8",
        ),
        ({"hidden_act": "gelu"}, "hidden_act"),
    ],
)
def test_models_that_mean_something_else_are_refused(
    change: dict[str, object], message: str, make_model: MakeModel, tmp_path: Path
) -> None:
    a, b = make_model("a"), make_model("b")
    config = json.loads((b / "config.json").read_text())
    (b / "config.json").write_text(json.dumps(config | change))
    with pytest.raises(ArtifactError, match=message):
        plan_combination(Combination([(a, 0.5), (b, 0.5)]), MergeOptions())


@pytest.mark.parametrize(
    ("name", "shape", "message"),
    [
        ("model.norm.weight", [31], r"model.norm.weight is \[31\], but \[32\]"),
        (EMBED, [394, 31], r"embed_tokens.weight is \[394, 31\]"),
        ("model.layers.9.mlp.up_proj.weight", [2], r"layers.9.mlp.up_proj.weight has no place"),
    ],
)
def test_tensors_that_do_not_fit_are_named(
    name: str, shape: list[int], message: str, make_model: MakeModel
) -> None:
    a, b = make_model("a"), make_model("b")
    state = load_file(b / "model.safetensors") | {name: torch.zeros(shape)}
    save_file(state, b / "model.safetensors")
    with pytest.raises(ArtifactError, match=message):
        plan_combination(Combination([(a, 0.5), (b, 0.5)]), MergeOptions())


def test_what_cannot_be_asked_for_is_told(make_model: MakeModel, tmp_path: Path) -> None:
    a, b = make_model("a"), make_model("b", last=("<x>",))
    stranger = make_model("s", last=("only here",))
    faults: list[tuple[Combination, type[HanpacaError], str]] = [
        (Combination([]), RecipeError, "at least one"),
        (Combination([(a, 1)], [(b, 1)]), RecipeError, "give add= and base= together"),
        (Combination([(a, 1)], base=b), RecipeError, "give add= and base= together"),
        (Combination([(a, 1), (b, 1)], tokenizer=stranger), ArtifactError, "'only here'"),
        (Combination([(a, 1), (b, 0)], tokenizer=b), RecipeError, "weight of .* is 0"),
    ]
    for wanted, kind, message in faults:
        with pytest.raises(kind, match=message):
            plan_combination(wanted, MergeOptions())
    (b / "tokenizer.json").unlink()
    with pytest.raises(ArtifactError, match="no tokenizer here"):
        plan_combination(Combination([(a, 1), (b, 1)]), MergeOptions())


def test_the_command_takes_means_and_weights(make_model: MakeModel, tmp_path: Path) -> None:
    a, b = make_model("a"), make_model("b")

    def run(*arguments: object) -> str:
        done = CliRunner().invoke(app, ["combine", *(str(argument) for argument in arguments)])
        if done.exception is not None and not isinstance(done.exception, SystemExit):
            raise done.exception
        return done.output

    mean = tmp_path / "mean"
    assert "GB to write" in run("--model", a, "--model", b, "-o", mean, "--dry-run")
    assert not mean.exists()
    run("--model", a, "--model", b, "-o", mean)
    one, two = load(a), load(b)
    found = load_file(mean / "model.safetensors")
    check(found, {name: one[name] * 0.5 + two[name] * 0.5 for name in one})
    manifest = json.loads((mean / "manifest.json").read_text())
    assert manifest["config"]["models"] == [[str(a), 0.5], [str(b), 0.5]]
    assert len(verify_run(mean)) == 3
    run("--model", f"{a}=1", "--add", f"{b}=0", "--base", a, "-o", tmp_path / "same")
    check(load_file(tmp_path / "same/model.safetensors"), one)
    for models in ((f"{a}=1", b), (f"{a}=x", b), (f"{a}=nan", f"{b}=1")):
        with pytest.raises(RecipeError, match="--model"):
            run("--model", models[0], "--model", models[1], "-o", tmp_path / "o")
