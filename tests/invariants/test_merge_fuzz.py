"""Merged models answer as peft does, whatever peft was told when it made the adapter.

The oracle is peft, which loads the adapter on the base in float32 and is asked for logits; so it is
known what a tied matrix does at both of its places, which peft's own merge would mix up.
"""

import random
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import LlamaConfig, LlamaForCausalLM

from hanpaca.errors import ArtifactError
from hanpaca.merging import MergeOptions, merge_adapters

MATRICES = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
TABLES = ["embed_tokens", "lm_head"]
KEYS = [
    "q_proj",
    "proj",
    "layers.0.mlp.down_proj",
    "model.layers.1.self_attn.q_proj",
    r"layers\.\d+\.mlp\..*",
    "embed_tokens",
    "lm_head",
    "down_proj",
]
TRUE_REASONS = ("on an embedding it cannot be merged",)
PROMPT = torch.tensor([[1, 5, 40, 3, 9, 63, 0, 5]])


def some(chance: random.Random, names: list[str], least: int = 0) -> list[str]:
    return chance.sample(names, chance.randint(least, len(names)))


def save_base(chance: random.Random, folder: Path) -> None:
    torch.manual_seed(chance.randrange(1 << 30))
    config = LlamaConfig(
        vocab_size=64,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=64,
        tie_word_embeddings=chance.random() < 0.5,
    )
    model = LlamaForCausalLM(config)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, mean=float(parameter.dim() == 1), std=0.2)
    dtype = chance.choice([torch.float32, torch.float16, torch.bfloat16])
    torch.nn.Module.to(model, dtype=dtype)
    model.save_pretrained(folder, max_shard_size=chance.choice(["1GB", "40KB", "25KB", "18KB"]))


def draw(chance: random.Random) -> dict[str, Any]:
    """Settings of peft, most of them off."""

    def rarely(value: Any, otherwise: Any = None) -> Any:
        return value if chance.random() < 0.3 else otherwise

    def pattern(most: int, least: int) -> dict[str, int]:
        keys = some(chance, KEYS)[:3]
        found = {key: chance.randint(least, most) for key in keys}
        return found if chance.random() < 0.3 else {}

    ids = [chance.sample(range(64), 3) for _ in range(2)]
    targets = some(chance, MATRICES, 1) + rarely(some(chance, TABLES), [])
    saved = rarely([name for name in some(chance, ["norm", *TABLES]) if name not in targets])
    return {
        "r": chance.randint(1, 6),
        "lora_alpha": chance.randint(0, 16),
        "target_modules": targets,
        "rank_pattern": pattern(6, 1),
        "alpha_pattern": pattern(16, 0),
        "use_rslora": rarely(True, False),
        "use_dora": rarely(True, False),
        "modules_to_save": saved,
        "trainable_token_indices": rarely(
            chance.choice(
                [
                    ids[0],
                    {"embed_tokens": ids[0]},
                    {"lm_head": ids[0]},
                    {"embed_tokens": ids[0], "lm_head": ids[1]},
                    {"embed_tokens": ids[0], "lm_head": ids[0]},
                ]
            )
        ),
        "ensure_weight_tying": rarely(True, False),
        "fan_in_fan_out": rarely(True, False),
        "layers_to_transform": rarely([chance.randint(0, 1)]),
    }


def load(folder: Path) -> LlamaForCausalLM:
    model: LlamaForCausalLM = LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32)
    return model


def save_adapter(chance: random.Random, base: Path, folder: Path) -> dict[str, Any]:
    """Draw settings until peft takes them, and let it save an adapter."""
    while True:
        settings = draw(chance)
        try:
            adapted = get_peft_model(load(base), LoraConfig(**settings))
            logits(adapted)
        except (ValueError, TypeError, RuntimeError, KeyError, AttributeError, IndexError):
            continue  # peft forbids this mixture, or cannot compute it
        for parameter in adapted.train().parameters():
            if parameter.requires_grad:
                parameter.data += torch.randn(parameter.shape) * 0.1
        adapted.save_pretrained(str(folder))
        return settings


def logits(model: torch.nn.Module) -> torch.Tensor:
    with torch.inference_mode():
        found: torch.Tensor = model.eval()(PROMPT).logits
    return found


def check_one(seed: int, tmp_path: Path) -> None:
    chance = random.Random(seed)
    base, adapter, output = (tmp_path / name for name in ("base", "adapter", "out"))
    save_base(chance, base)
    settings = save_adapter(chance, base, adapter)
    refused = ""
    try:
        merge_adapters(base, [adapter], output, options=MergeOptions(dtype="f32"))
    except ArtifactError as error:
        refused = str(error)
        if any(reason in refused for reason in TRUE_REASONS):
            return
    try:
        trained = PeftModel.from_pretrained(load(base), str(adapter))
    except (ValueError, TypeError, RuntimeError, KeyError):
        assert refused, settings  # what peft cannot load is not merged
        return
    assert not refused, settings
    torch.testing.assert_close(
        logits(load(output)),
        logits(trained),
        rtol=1e-3,
        atol=1e-3,
        msg=lambda m: f"{settings}\n{m}",
    )


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("seed", range(20))
def test_a_merged_model_answers_as_in_peft(seed: int, tmp_path: Path) -> None:
    check_one(seed, tmp_path)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("seed", range(20, 340))
def test_a_merged_model_answers_as_in_peft_for_many_mixtures(seed: int, tmp_path: Path) -> None:
    check_one(seed, tmp_path)
