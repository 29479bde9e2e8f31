import dataclasses
import json
from pathlib import Path
from typing import Any

import peft
import pytest
from safetensors.torch import load_file
from transformers import LlamaForCausalLM

from hanpaca.model.adapter import KNOWN_FIELDS, OLD_FIELDS, Update, adapter_parts, adapter_settings
from hanpaca.model.headers import TensorHeader, read_safetensors

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


def headers(**shapes: tuple[int, ...]) -> dict[str, TensorHeader]:
    return {name: TensorHeader("F16", shape) for name, shape in shapes.items()}


def test_fields_of_the_installed_peft_are_known() -> None:
    names = {field.name for field in dataclasses.fields(peft.LoraConfig)}
    assert names <= KNOWN_FIELDS
    assert not KNOWN_FIELDS & set(OLD_FIELDS)


@pytest.mark.parametrize("name", ["", ".default"])
def test_the_dialects_of_2023_say_the_same(name: str) -> None:
    saved = ".modules_to_save.default" if name else ""
    tensors = headers(
        **{
            f"{P}{Q}.lora_A{name}.weight": (8, 32),
            f"{P}{Q}.lora_B{name}.weight": (16, 8),
            f"{P}model.embed_tokens{saved}.weight": (50, 32),
            f"{P}lm_head{saved}.weight": (50, 32),
        }
    )
    if name:
        tensors |= headers(**{f"{P}model.embed_tokens.original_module.weight": (40, 32)})
    parts = adapter_parts(tensors)
    assert parts.updates == {f"{Q}.weight": Update(8, (16, 32))}
    assert parts.replaced == {"model.embed_tokens.weight": (50, 32), "lm_head.weight": (50, 32)}
    assert (parts.rank, parts.hidden_size, parts.vocab_rows) == (8, 32, 50)
    assert parts.unknown == ()


@pytest.mark.filterwarnings("ignore:Setting `save_embedding_layers`")
@pytest.mark.parametrize(
    ("settings", "check"),
    [
        ({}, lambda p: p.rank == 4 and len(p.updates) == 4),
        ({"use_dora": True}, lambda p: len(p.magnitudes) == 4),
        ({"target_modules": ["embed_tokens"]}, lambda p: len(p.updates) == len(p.replaced) == 1),
        ({"modules_to_save": ["lm_head"]}, lambda p: list(p.replaced) == ["lm_head.weight"]),
        (
            {"trainable_token_indices": {"embed_tokens": [3, 5]}},
            lambda p: p.rows == {"model.embed_tokens.weight": (2, 32)},
        ),
    ],
)
def test_what_peft_saves_today_is_understood(
    pico_untied: Path, tmp_path: Path, settings: dict[str, Any], check: Any
) -> None:
    model = LlamaForCausalLM.from_pretrained(pico_untied)
    config = peft.LoraConfig(**{"r": 4, "target_modules": ["q_proj", "up_proj"], **settings})
    peft.get_peft_model(model, config).save_pretrained(str(tmp_path))
    tensors, _ = read_safetensors(tmp_path / "adapter_model.safetensors")
    parts = adapter_parts(tensors)
    assert parts.unknown == ()
    assert check(parts)
    base = load_file(pico_untied / "model.safetensors")
    for name, update in parts.updates.items():
        assert update.shape == tuple(base[name].shape)
    tree = json.loads((tmp_path / "adapter_config.json").read_text())
    found = adapter_settings(tree)
    assert found.notes == ()
    assert (found.rank, found.alpha) == (4, 8)


def test_factors_without_a_partner_and_biases_are_unknown() -> None:
    tensors = headers(
        **{
            f"{P}{Q}.lora_A.weight": (8, 32),
            f"{P}{Q}.bias": (32,),
            f"{P}other.lora_A.weight": (8, 32),
            f"{P}other.lora_B.weight": (32, 9),
            f"{P}odd.lora_C.weight": (1, 1),
        }
    )
    parts = adapter_parts(tensors)
    assert not parts.updates
    assert not parts.replaced
    assert len(parts.unknown) == 4


def test_the_released_configuration_is_read_without_a_note() -> None:
    found = adapter_settings(OLD_CONFIG)
    assert found.notes == ()
    assert (found.rank, found.alpha, found.rank_stabilized) == (64, 128, False)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"enable_lora": [True]}, "field 'enable_lora' is not known"),
        ({"new_thing": 1}, "field 'new_thing' is not known"),
        ({"bias": "all"}, "a merge refuses biases"),
        ({"r": "8"}, "r is 8, not a number"),
        ({"r": True}, "r is True"),
        ({"lora_alpha": None}, "lora_alpha is None"),
        ({"peft_type": "IA3"}, "peft_type is 'IA3'"),
        ({"trainable_token_indices": {"embed_tokens": "x"}}, "is no list of ids"),
        ({"trainable_token_indices": [-1]}, "is no list of ids"),
    ],
)
def test_oddities_are_noted(changes: dict[str, Any], message: str) -> None:
    notes = adapter_settings({**OLD_CONFIG, **changes}).notes
    assert any(message in note for note in notes)
