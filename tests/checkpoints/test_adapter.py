"""What is read of an adapter from its headers, in any dialect."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import LlamaForCausalLM

from hanpaca.checkpoints.adapter import AdapterFiles, open_adapter
from hanpaca.checkpoints.adapter_settings import KNOWN_FIELDS, OLD_FIELDS

P = "base_model.model."
Q = "model.layers.0.self_attn.q_proj"
OLD_CONFIG = {  # the fields of the released Chinese-Alpaca-Plus-13B, in full
    "bias": "none",
    "enable_lora": None,
    "fan_in_fan_out": False,
    "inference_mode": True,
    "lora_alpha": 128,
    "lora_dropout": 0.05,
    "merge_weights": False,
    "modules_to_save": ["embed_tokens", "lm_head"],
    "peft_type": "LORA",
    "r": 64,
    "target_modules": ["q_proj", "v_proj", "k_proj", "o_proj", "gate_proj", "down_proj", "up_proj"],
    "task_type": "CAUSAL_LM",
}


def written(folder: Path, config: dict[str, Any] | None, **shapes: tuple[int, ...]) -> AdapterFiles:
    folder.mkdir(exist_ok=True)
    tensors = {name: torch.zeros(shape) for name, shape in shapes.items()}
    save_file(tensors, folder / "adapter_model.safetensors")
    if config is not None:
        (folder / "adapter_config.json").write_text(json.dumps(config))
    return open_adapter(folder)


def test_fields_of_the_installed_peft_are_known() -> None:
    names = {field.name for field in dataclasses.fields(peft.LoraConfig)}
    names |= {field.name for field in dataclasses.fields(peft.TrainableTokensConfig)}
    assert names <= KNOWN_FIELDS
    assert not KNOWN_FIELDS & set(OLD_FIELDS)


@pytest.mark.parametrize("name", ["", ".default"])
def test_the_dialects_of_2023_say_the_same(name: str, tmp_path: Path) -> None:
    saved = ".modules_to_save.default" if name else ""
    shapes: dict[str, tuple[int, ...]] = {
        f"{P}{Q}.lora_A{name}.weight": (64, 32),
        f"{P}{Q}.lora_B{name}.weight": (16, 64),
        f"{P}model.embed_tokens{saved}.weight": (50, 32),
        f"{P}lm_head{saved}.weight": (50, 32),
    }
    if name:
        shapes |= {f"{P}model.embed_tokens.original_module.weight": (40, 32)}
    found = written(tmp_path, OLD_CONFIG, **shapes)
    update = found.updates[f"{Q}.weight"]
    assert (update.rank, update.shape, update.scaling) == (64, (16, 32), 2.0)
    assert found.replaced == {"model.embed_tokens.weight": (50, 32), "lm_head.weight": (50, 32)}
    assert (found.rank, found.hidden_size, found.vocab_rows) == (64, 32, 50)
    assert (found.faults, found.notes) == ((), ())


@pytest.mark.filterwarnings("ignore:Setting `save_embedding_layers`")
@pytest.mark.parametrize(
    ("settings", "check"),
    [
        ({}, lambda a: a.rank == 4 and len(a.updates) == 4),
        ({"use_dora": True}, lambda a: all(one.magnitude for one in a.updates.values())),
        ({"target_modules": ["embed_tokens"]}, lambda a: len(a.updates) == len(a.replaced) == 1),
        ({"modules_to_save": ["lm_head"]}, lambda a: list(a.replaced) == ["lm_head.weight"]),
        (
            {"trainable_token_indices": {"embed_tokens": [3, 5]}},
            lambda a: a.changes["model.embed_tokens.weight"].row_ids == (3, 5),
        ),
    ],
)
def test_what_peft_saves_today_is_understood(
    pico_untied: Path, tmp_path: Path, settings: dict[str, Any], check: Any
) -> None:
    model = LlamaForCausalLM.from_pretrained(pico_untied)
    config = peft.LoraConfig(**{"r": 4, "target_modules": ["q_proj", "up_proj"], **settings})
    peft.get_peft_model(model, config).save_pretrained(str(tmp_path))
    found = open_adapter(tmp_path)
    assert (found.faults, found.notes) == ((), ())
    assert check(found)
    base = load_file(pico_untied / "model.safetensors")
    for name, update in found.updates.items():
        assert update.shape == tuple(base[name].shape)
    assert (found.settings.rank, found.settings.alpha) == (4, 8)


def test_factors_without_a_partner_and_biases_are_faults(tmp_path: Path) -> None:
    shapes: dict[str, tuple[int, ...]] = {
        f"{P}{Q}.lora_A.weight": (8, 32),
        f"{P}{Q}.bias": (32,),
        f"{P}other.lora_A.weight": (8, 32),
        f"{P}other.lora_B.weight": (32, 9),
        f"{P}odd.lora_C.weight": (1, 1),
    }
    found = written(tmp_path, {"peft_type": "LORA", "lora_alpha": 8}, **shapes)
    assert not found.updates
    assert not found.replaced
    told = "\n".join(str(fault) for fault in found.faults)
    assert "(2 such tensors)" in told
    assert f"only one of lora_A and lora_B is there for {Q}" in told
    assert "of other do not fit each other" in told


def test_without_a_configuration_the_alpha_is_missing_and_nothing_else(tmp_path: Path) -> None:
    shapes: dict[str, tuple[int, ...]] = {
        f"{Q}.lora_A.weight": (8, 32),
        f"{Q}.lora_B.weight": (32, 8),
    }
    found = written(tmp_path, None, **shapes)
    assert "so the scaling is unknown" in str(found.faults[0])
    assert len(found.faults) == 1
    assert open_adapter(tmp_path, alpha=16).updates[f"{Q}.weight"].scaling == 2.0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"enable_lora": [True]}, "enable_lora"),
        ({"bias": "all"}, "bias = 'all' cannot be merged"),
        ({"r": "8"}, "r = '8' must be a number"),
        ({"r": True}, "r = 'True' must be"),
        ({"peft_type": "IA3"}, "peft_type is 'IA3'"),
        ({"trainable_token_indices": {"embed_tokens": "x"}}, "lists of piece ids"),
        ({"trainable_token_indices": [-1]}, "lists of piece ids"),
        ({"layers_to_transform": "x"}, "layers_to_transform"),
    ],
)
def test_a_configuration_that_forbids_a_merge_is_a_fault(
    changes: dict[str, Any], message: str, tmp_path: Path
) -> None:
    found = written(tmp_path, {**OLD_CONFIG, **changes}, **{f"{P}model.norm.weight": (32,)})
    assert message in str(found.faults[0])


def test_a_field_that_is_on_and_not_known_is_noted(tmp_path: Path) -> None:
    config = {"peft_type": "LORA", "new_thing": 1, "other_new_thing": None}
    found = written(tmp_path, config, **{f"{P}model.norm.weight": (32,)})
    (note,) = found.notes
    assert "field 'new_thing' is not known" in note
