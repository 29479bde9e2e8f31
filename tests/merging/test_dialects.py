"""Every spelling of an adapter, against a float32 oracle in plain torch."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from hanpaca.checkpoints.adapter import open_adapter
from hanpaca.errors import ArtifactError
from hanpaca.merging import MergeOptions, merge_adapters
from tests.support.merge_oracle import (
    DOWN,
    EMBED,
    HEAD,
    PREFIX,
    SHAPES,
    Q,
    State,
    check,
    expected,
    factors,
    load_base,
    prefixed,
    tables,
    write_adapter,
)


def with_adapter_name(state: State) -> State:
    """Peft from 0.3 on, its whole state dictionary: the adapter's name is in the names."""
    renamed = {}
    for name, tensor in state.items():
        for side in ("lora_A", "lora_B"):
            name = name.replace(f"{side}.weight", f"{side}.default.weight")
        if name in (EMBED, HEAD):
            module = PREFIX + name.removesuffix(".weight")
            renamed[f"{module}.modules_to_save.default.weight"] = tensor
            renamed[f"{module}.original_module.weight"] = torch.zeros(400, 32)
        else:
            renamed[PREFIX + name] = tensor
    return renamed


def float32(state: State) -> State:
    return {PREFIX + name: tensor.float() for name, tensor in state.items()}


def parallel(state: State) -> State:
    return {f"module.{PREFIX}{name}": tensor for name, tensor in state.items()}


def one_name(state: State) -> State:
    """Today's peft."""
    return {name.replace(".modules_to_save.default", ""): t for name, t in prefixed(state).items()}


@pytest.mark.parametrize(
    "spelling", [prefixed, with_adapter_name, float32, parallel, one_name, lambda state: state]
)
@pytest.mark.parametrize("file", ["adapter_model.bin", "adapter_model.safetensors"])
def test_every_spelling_means_the_same(
    spelling: Callable[[State], State], file: str, pico_untied: Path, tmp_path: Path
) -> None:
    state = factors() | tables(400)
    adapter = write_adapter(
        tmp_path / "a", spelling(state), file=file, modules_to_save=["embed_tokens", "lm_head"]
    )
    merge_adapters(pico_untied, [adapter], tmp_path / "out")
    check(tmp_path / "out", expected(load_base(pico_untied), state, 10 / 4))


@pytest.mark.parametrize("num_rows", [394, 395, 555])
def test_the_vocabulary_grows_with_the_adapter(
    num_rows: int, pico_untied: Path, tmp_path: Path
) -> None:
    state = factors() | tables(num_rows)
    adapter = write_adapter(tmp_path / "a", prefixed(state), file="adapter_model.bin")
    merge_adapters(pico_untied, [adapter], tmp_path / "out")
    check(tmp_path / "out", expected(load_base(pico_untied), state, 10 / 4))
    config = json.loads((tmp_path / "out/config.json").read_text())
    assert (config["vocab_size"], config["tie_word_embeddings"]) == (num_rows, False)


def test_a_trainers_file_without_configuration_needs_the_alpha(
    pico_untied: Path, tmp_path: Path
) -> None:
    state = factors(torch.float32)
    adapter = write_adapter(tmp_path / "a", with_adapter_name(state), file="pytorch_model.bin")
    (adapter / "adapter_config.json").unlink()
    with pytest.raises(ArtifactError, match="missing, so the scaling is unknown: give alpha="):
        merge_adapters(pico_untied, [adapter], tmp_path / "out")
    merge_adapters(pico_untied, [adapter], tmp_path / "out", options=MergeOptions(alpha=10))
    check(tmp_path / "out", expected(load_base(pico_untied), state, 10 / 4))


@pytest.mark.parametrize("dtype", ["f16", "bf16", "f32"])
def test_the_type_is_chosen(dtype: str, pico_untied: Path, tmp_path: Path) -> None:
    state = {name: tensor / 8 for name, tensor in factors(torch.float32).items()}
    adapter = write_adapter(tmp_path / "a", prefixed(state))
    options = MergeOptions(dtype=dtype)  # type: ignore[arg-type]
    merge_adapters(pico_untied, [adapter], tmp_path / "out", options=options)
    kind = {"f16": torch.float16, "bf16": torch.bfloat16, "f32": torch.float32}[dtype]
    check(tmp_path / "out", expected(load_base(pico_untied), state, 10 / 4, kind))


def test_patterns_give_ranks_and_alphas_by_the_end_of_the_name(
    pico_untied: Path, tmp_path: Path
) -> None:
    state = factors(rank=4) | {
        f"{Q}.lora_A.weight": torch.ones(2, 32),
        f"{Q}.lora_B.weight": torch.ones(32, 2),
    }
    adapter = write_adapter(
        tmp_path / "a",
        prefixed(state),
        rank_pattern={"q_proj": 2},
        alpha_pattern={r"layers\.\d+\.mlp\.down_proj": 3, "proj": 7, "down_proj": 5},
    )
    merge_adapters(pico_untied, [adapter], tmp_path / "out")
    base = load_base(pico_untied)
    wanted = expected(base, state, 10 / 4)
    for module, scaling in ((Q, 10 / 2), (DOWN, 3 / 4)):
        update = state[f"{module}.lora_B.weight"].float() @ state[f"{module}.lora_A.weight"].float()
        name = f"{module}.weight"
        wanted[name] = (base[name].float() + scaling * update).bfloat16()
    check(tmp_path / "out", wanted)


def test_fan_in_fan_out_is_ignored_as_in_peft(pico_untied: Path, tmp_path: Path) -> None:
    """Peft sets it to false for `torch.nn.Linear`, which all layers here are."""
    adapter = write_adapter(tmp_path / "a", prefixed(factors()), fan_in_fan_out=True)
    assert "fan_in_fan_out is ignored" in open_adapter(adapter).notes[0]
    merge_adapters(pico_untied, [adapter], tmp_path / "out")
    check(tmp_path / "out", expected(load_base(pico_untied), factors(), 10 / 4))


def test_rows_beyond_the_vocabulary_make_it_grow(pico_untied: Path, tmp_path: Path) -> None:
    ids = [3, 395, 394, 396, 7]
    rows = torch.randn(2, 5, 32, generator=torch.Generator().manual_seed(5))
    key = "token_adapter.trainable_tokens_delta"
    state = {f"model.embed_tokens.{key}": rows[0], f"lm_head.{key}": rows[1]}
    adapter = write_adapter(tmp_path / "a", prefixed(state), trainable_token_indices=ids)
    merge_adapters(pico_untied, [adapter], tmp_path / "out")
    wanted = load_base(pico_untied)
    for place, name in enumerate((EMBED, HEAD)):
        wanted[name] = torch.cat([wanted[name], torch.zeros(3, 32, dtype=torch.bfloat16)])
        wanted[name][ids] = rows[place].bfloat16()
    check(tmp_path / "out", wanted)


def test_a_gap_in_the_new_rows_is_refused(pico_untied: Path, tmp_path: Path) -> None:
    key = f"{PREFIX}model.embed_tokens.token_adapter.trainable_tokens_delta"
    adapter = write_adapter(tmp_path / "a", {key: torch.ones(1, 32)}, trainable_token_indices=[395])
    with pytest.raises(ArtifactError, match="go up to 395, but the base has only 394"):
        merge_adapters(pico_untied, [adapter], tmp_path / "out")


def in_turn(base: State, states: list[State], scaling: float, *, each: bool) -> State:
    """Several adapters on plain torch, rounded to bfloat16 after each or at the end."""
    merged = {name: tensor.float() for name, tensor in base.items()}
    for state in states:
        merged = expected(merged, state, scaling, torch.bfloat16 if each else torch.float32)
    return {name: tensor.bfloat16() for name, tensor in merged.items()}


@pytest.mark.parametrize("rounding", ["once", "per-adapter"])
def test_adapters_are_folded_in_order(rounding: str, pico_untied: Path, tmp_path: Path) -> None:
    """As Alpaca-Plus: the base, then the LLaMA adapter, then Alpaca's with one more row, [PAD]."""
    states = [
        factors(seed=1) | tables(500, seed=2),
        factors(seed=3) | tables(501, seed=4),
    ]
    adapters = [
        write_adapter(tmp_path / str(n), prefixed(state), file="adapter_model.bin")
        for n, state in enumerate(states)
    ]
    options = MergeOptions(rounding=rounding)  # type: ignore[arg-type]
    merge_adapters(pico_untied, adapters, tmp_path / "out", options=options)
    wanted = {
        how: in_turn(load_base(pico_untied), states, 10 / 4, each=how == "per-adapter")
        for how in ("once", "per-adapter")
    }
    check(tmp_path / "out", wanted[rounding])
    assert any(
        not torch.equal(wanted["once"][name], wanted["per-adapter"][name])
        for name in wanted["once"]
    )
    with pytest.raises(ArtifactError, match="wrong order"):
        merge_adapters(pico_untied, adapters[::-1], tmp_path / "reversed")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (f"{Q}.bias", "bias"),
        (f"{Q}.lora_B.bias", "bias"),
        (f"{Q}.lora_C.weight", "of a kind that cannot be merged"),
        (f"{Q}.hada_w1_a", "of a kind that cannot be merged"),
        (f"{Q}.lora_A.second.weight", "twice"),
        (f"{Q}.lora_magnitude_vector", "use_dora"),
        ("model.layers.9.mlp.up_proj.weight", "is not in the base"),
        ("model.norm.weight", "another model"),
    ],
)
def test_what_is_not_understood_is_refused_by_name(
    name: str, message: str, pico_untied: Path, tmp_path: Path
) -> None:
    state = prefixed(factors() | {name: torch.ones(4, 32)})
    adapter = write_adapter(tmp_path / "a", state)
    with pytest.raises(ArtifactError, match=message) as error:
        merge_adapters(pico_untied, [adapter], tmp_path / "out")
    assert name.split(".lora")[0].split(".")[-2] in str(error.value)
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"lora_alpha": None}, "give alpha="),
        ({"r": 8}, "rank 8"),
        ({"alpha_pattern": {"(": 2}}, "pattern"),
        ({"alpha_pattern": {"q_proj": "2"}}, "alpha_pattern"),
        ({"use_rslora": "yes"}, "use_rslora"),
        ({"trainable_token_indices": [-1]}, "piece ids"),
        ({"init_lora_weights": "pissa"}, "init_lora_weights"),
        ({"enable_lora": [True]}, "enable_lora"),
        ({"lora_bias": True}, "lora_bias"),
        ({"modules_to_save": "lm_head"}, "modules_to_save"),
        ({"peft_type": "LOHA"}, "LoRA"),
    ],
)
def test_a_configuration_that_cannot_be_folded_is_refused(
    config: dict[str, Any], message: str, pico_untied: Path, tmp_path: Path
) -> None:
    adapter = write_adapter(tmp_path / "a", prefixed(factors()), **config)
    assert re.search(message, str(open_adapter(adapter).faults[0]))
    with pytest.raises(ArtifactError, match=message):
        merge_adapters(pico_untied, [adapter], tmp_path / "out")


def test_dora_on_an_embedding_is_refused(tmp_path: Path) -> None:
    embedding = "model.embed_tokens"
    state = {
        f"{embedding}.lora_embedding_A": torch.ones(4, 394),
        f"{embedding}.lora_embedding_B": torch.ones(32, 4),
        f"{embedding}.lora_magnitude_vector": torch.ones(32),
    }
    adapter = write_adapter(
        tmp_path / "a", prefixed(state), use_dora=True, target_modules=["embed_tokens"]
    )
    (fault,) = open_adapter(adapter).faults
    assert "on an embedding it cannot be merged; merge it with peft" in str(fault)


def test_reading_an_adapter_tells_what_it_changes(tmp_path: Path) -> None:
    adapter = open_adapter(write_adapter(tmp_path / "a", prefixed(factors() | tables(7))))
    assert adapter.changes.keys() == {f"{name}.weight" for name in SHAPES} | {EMBED, HEAD}
    update = adapter.changes[f"{DOWN}.weight"].update
    assert update is not None
    assert (update.shape, update.scaling) == ((32, 64), 2.5)
    replacement = adapter.changes[EMBED].replacement
    assert replacement is not None
    assert replacement.shape == (7, 32)


@pytest.mark.parametrize("broken", ["no file", "empty", "not json", "list"])
def test_an_incomplete_adapter_is_refused(broken: str, tmp_path: Path) -> None:
    adapter = write_adapter(tmp_path / "a", {} if broken == "empty" else prefixed(factors()))
    if broken == "no file":
        (adapter / "adapter_model.safetensors").unlink()
    elif broken != "empty":
        text = "{" if broken == "not json" else "[]"
        (adapter / "adapter_config.json").write_text(text)
    if broken == "empty":
        assert "the adapter is empty" in str(open_adapter(adapter).faults[0])
        return
    with pytest.raises(ArtifactError, match=r"no adapter here|damaged JSON|object is expected"):
        open_adapter(adapter)


def test_a_share_of_an_update_is_added(pico_untied: Path, tmp_path: Path) -> None:
    states = [factors(seed=1), factors(seed=2)]
    adapters = [write_adapter(tmp_path / str(n), prefixed(state)) for n, state in enumerate(states)]
    options = MergeOptions(weights=(0.3, -1.5))
    merge_adapters(pico_untied, adapters, tmp_path / "out", options=options)
    base = load_base(pico_untied)
    whole = {name: tensor.float() for name, tensor in base.items()}
    once = expected(whole, states[0], 10 / 4 * 0.3)
    wanted = expected(once, states[1], 10 / 4 * -1.5)
    check(tmp_path / "out", {name: tensor.bfloat16() for name, tensor in wanted.items()})


def test_what_an_adapter_sets_has_no_share(pico_untied: Path, tmp_path: Path) -> None:
    adapter = write_adapter(tmp_path / "a", prefixed(factors() | tables(394)))
    with pytest.raises(ArtifactError, match=r"cannot count by 0\.5"):
        merge_adapters(
            pico_untied, [adapter], tmp_path / "out", options=MergeOptions(weights=(0.5,))
        )


@pytest.mark.parametrize(
    ("rank", "alpha", "message"),
    [
        (4, float("nan"), "give no scaling"),
        (4, 10**400, "a number of 401 digits"),
        (4, 10**399, "give no scaling"),
        (0, 8, "give no scaling"),
    ],
)
def test_a_scaling_that_is_no_number_is_refused(
    rank: int, alpha: float, message: str, pico_untied: Path, tmp_path: Path
) -> None:
    state = factors(rank=rank)
    adapter = write_adapter(tmp_path / "a", prefixed(state), r=rank, lora_alpha=alpha)
    with pytest.raises(ArtifactError, match=rf"adapter_config\.json: .*{message}"):
        merge_adapters(pico_untied, [adapter], tmp_path / "out")


@pytest.mark.slow
@pytest.mark.parametrize("pattern", ["(.|.)*" * 6 + "[A-Z]", "a" * 3000])
def test_a_pattern_that_would_hang_is_refused(
    pattern: str, pico_untied: Path, tmp_path: Path
) -> None:
    adapter = write_adapter(tmp_path / "a", prefixed(factors()), alpha_pattern={pattern: 3})
    with pytest.raises(ArtifactError, match=r"adapter_config\.json: pattern .* takes too long"):
        merge_adapters(pico_untied, [adapter], tmp_path / "out")


def test_an_alpha_of_zero_adds_nothing(pico_untied: Path, tmp_path: Path) -> None:
    adapter = write_adapter(
        tmp_path / "a", prefixed(factors()), lora_alpha=0, alpha_pattern={"q_proj": 10}
    )
    merge_adapters(pico_untied, [adapter], tmp_path / "out")
    only_q = {name: tensor for name, tensor in factors().items() if name.startswith(Q)}
    check(tmp_path / "out", expected(load_base(pico_untied), only_q, 10 / 4))


def test_piece_ids_beyond_all_bounds_are_refused_at_once(pico_untied: Path, tmp_path: Path) -> None:
    key = f"{PREFIX}model.embed_tokens.token_adapter.trainable_tokens_delta"
    adapter = write_adapter(
        tmp_path / "a", {key: torch.ones(2, 32)}, trainable_token_indices=[1, 10**18]
    )
    with pytest.raises(ArtifactError, match=r"go up to 1,000,000.*the rows between are nowhere"):
        merge_adapters(pico_untied, [adapter], tmp_path / "out")


@pytest.mark.parametrize(
    "wrap",
    [
        "_orig_mod.base_model.model.{}",
        "base_model.model._orig_mod.{}",
        "base_model.model.base_model.model.{}",
        "base_model.model.language_model.{}",
        "module._orig_mod.base_model.model.{}",
    ],
)
def test_wrappers_in_the_names_do_not_matter(wrap: str, pico_untied: Path, tmp_path: Path) -> None:
    state = {wrap.format(name): tensor for name, tensor in factors().items()}
    adapter = write_adapter(tmp_path / "a", state)
    merge_adapters(pico_untied, [adapter], tmp_path / "out")
    check(tmp_path / "out", expected(load_base(pico_untied), factors(), 10 / 4))


def test_a_model_trained_without_its_head_has_other_names(
    pico_untied: Path, tmp_path: Path
) -> None:
    state = {name.removeprefix("model."): tensor for name, tensor in factors().items()}
    adapter = write_adapter(tmp_path / "a", prefixed(state))
    merge_adapters(pico_untied, [adapter], tmp_path / "out")
    check(tmp_path / "out", expected(load_base(pico_untied), factors(), 10 / 4))


def test_whole_tensors_in_a_second_file_are_merged_too(pico_untied: Path, tmp_path: Path) -> None:
    """As LongLoRA keeps embedding and norms."""
    adapter = write_adapter(tmp_path / "a", prefixed(factors()))
    norm = {"model.norm.weight": torch.full((32,), 3.0)}
    torch.save(prefixed(norm), adapter / "trainable_params.bin")
    torch.save({"v_head.weight": torch.ones(1)}, adapter / "value_head.bin")
    notes = " ".join(open_adapter(adapter).notes)
    assert "the 1 whole tensors of trainable_params.bin" in notes
    assert "not read: value_head.bin" in notes
    merge_adapters(pico_untied, [adapter], tmp_path / "out")
    check(tmp_path / "out", expected(load_base(pico_untied), factors() | norm, 10 / 4))


@pytest.mark.parametrize(
    "config",
    [
        {"target_modules": ["q_proj"]},
        {"exclude_modules": ["k_proj", "down_proj"]},
        {"exclude_modules": r".*\.(k|down)_proj"},
        {"layers_to_transform": 0},
        {"layers_to_transform": [0], "layers_pattern": "layers"},
        {"target_modules": r"model\.layers\.0\..*"},
    ],
)
def test_factors_the_configuration_has_no_place_for_are_left_out_as_in_peft(
    config: dict[str, Any], pico_untied: Path, tmp_path: Path
) -> None:
    adapter = write_adapter(tmp_path / "a", prefixed(factors()), **config)
    assert "2 updates are left out, as peft leaves them out" in open_adapter(adapter).notes[0]
    merge_adapters(pico_untied, [adapter], tmp_path / "out")
    only_q = {name: tensor for name, tensor in factors().items() if name.startswith(Q)}
    check(tmp_path / "out", expected(load_base(pico_untied), only_q, 10 / 4))


def test_keys_that_match_one_matrix_with_different_values_are_told(tmp_path: Path) -> None:
    pattern = {"mlp.down_proj": 3, "proj": 7, "down_proj": 5}
    adapter = write_adapter(tmp_path / "a", prefixed(factors()), alpha_pattern=pattern)
    (note,) = open_adapter(adapter).notes
    assert "several keys of alpha_pattern match model.layers.1.mlp.down_proj" in note
    assert "the first counts, 3" in note


def test_a_kind_of_adapter_that_is_no_lora_is_named_before_its_shapes(tmp_path: Path) -> None:
    state = {f"{Q}.oft_R.weight": torch.ones(4, 496), "model.norm.weight": torch.ones(3)}
    adapter = write_adapter(tmp_path / "a", prefixed(state), peft_type="OFT")
    (fault,) = open_adapter(adapter).faults
    assert "peft_type is 'OFT'" in str(fault)
