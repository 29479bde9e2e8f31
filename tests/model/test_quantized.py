"""A base in few bits: the weights are what the papers say, and the training is of those weights."""

import importlib.util
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from hanpaca.errors import ResourceError
from hanpaca.lora_settings import LoraSettings
from hanpaca.model.layers import LoraLinear
from hanpaca.model.load import load_model
from hanpaca.model.lora import add_lora, trained_weights
from hanpaca.model.loss import NextTokenLoss
from hanpaca.model.quantized import Bits, QuantizedWeight
from hanpaca.settings import PretrainSettings
from hanpaca.steps.merge import merge
from hanpaca.steps.pretrain import pretrain

needs_bitsandbytes = pytest.mark.skipif(
    importlib.util.find_spec("bitsandbytes") is None, reason="bitsandbytes is not installed"
)
# QLoRA, arXiv 2305.14314, appendix E.
NF4 = [
    -1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635,
    -0.18477343022823334, -0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725,
    0.24611230194568634, 0.33791524171829224, 0.44070982933044434, 0.5626170039176941,
    0.7229568362236023, 1.0,
]  # fmt: skip


@needs_bitsandbytes
def test_four_bits_are_the_nearest_of_the_papers_levels() -> None:
    torch.manual_seed(0)
    weight = torch.randn(48, 64)
    found = QuantizedWeight(weight, "nf4").restored()
    most = weight.abs().amax(dim=1, keepdim=True)  # a row is a block of 64
    levels = torch.tensor(NF4)
    nearest = levels[(weight / most).unsqueeze(-1).sub(levels).abs().argmin(dim=-1)] * most
    torch.testing.assert_close(found, nearest, rtol=1e-6, atol=1e-6)


@needs_bitsandbytes
def test_eight_bits_are_within_a_hundredth_of_a_blocks_largest() -> None:
    torch.manual_seed(0)
    weight = torch.randn(48, 64)
    found = QuantizedWeight(weight, "8bit").restored()
    most = weight.view(-1, 256).abs().amax(dim=1, keepdim=True)
    assert ((found - weight).view(-1, 256).abs() / most).max() < 0.01


@needs_bitsandbytes
@pytest.mark.parametrize("bits", ["8bit", "nf4"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_output_and_gradients_are_those_of_the_restored_weights(
    bits: Bits, dtype: torch.dtype
) -> None:
    torch.manual_seed(0)
    linear = nn.Linear(64, 32, dtype=dtype)
    layer = LoraLinear(linear, rank=3, alpha=6.0, dropout=0.0, bits=bits)
    nn.init.normal_(layer.lora_B)
    assert layer.quantized is not None
    whole = nn.Linear(64, 32, dtype=dtype)
    whole.load_state_dict({"weight": layer.quantized.restored(), "bias": linear.bias})
    plain = LoraLinear(whole, rank=3, alpha=6.0, dropout=0.0)
    plain.load_state_dict(layer.state_dict())
    x = torch.randn(2, 5, 64, dtype=dtype, requires_grad=True)
    found, wanted = (
        torch.autograd.grad(one(x).float().square().sum(), (x, one.lora_A, one.lora_B))
        for one in (layer, plain)
    )
    for one, other in zip(found, wanted, strict=True):
        difference = (one - other).float().norm() / other.float().norm()
        assert difference < (1e-5 if dtype == torch.float32 else 2e-2)


@needs_bitsandbytes
def test_output_is_that_of_bitsandbytes_own_layer() -> None:
    import bitsandbytes

    torch.manual_seed(0)
    linear = nn.Linear(64, 32)
    theirs = bitsandbytes.nn.Linear4bit(
        64, 32, quant_type="nf4", compress_statistics=False, compute_dtype=torch.float32
    )
    theirs.load_state_dict(linear.state_dict())
    x = torch.randn(3, 64)
    mine = LoraLinear(linear, rank=3, alpha=6.0, dropout=0.0, bits="nf4")
    torch.testing.assert_close(mine(x), theirs.to("cpu")(x), rtol=1e-5, atol=1e-5)


@needs_bitsandbytes
@pytest.mark.parametrize(("bits", "share"), [("8bit", 0.30), ("nf4", 0.17)])
def test_a_model_takes_a_share_of_its_memory_and_its_trained_share_stays(
    bits: Bits, share: float, pico_untied: Path
) -> None:
    whole, small = (load_model(pico_untied, dtype=torch.float32) for _ in range(2))
    add_lora(whole, LoraSettings(rank=4))
    add_lora(small, LoraSettings(rank=4), bits=bits)
    assert trained_weights(small) == trained_weights(whole)

    def num_bytes(model: nn.Module) -> int:
        layers = [one for one in model.modules() if isinstance(one, LoraLinear)]
        held = [b for layer in layers for name, b in layer.named_buffers() if "levels" not in name]
        return sum(one.numel() * one.element_size() for one in held)

    assert num_bytes(small) < share * num_bytes(whole)


@needs_bitsandbytes
@pytest.mark.parametrize(("bits", "most"), [("8bit", 0.002), ("nf4", 0.02)])
def test_the_loss_is_about_that_of_the_whole_weights(
    bits: Bits, most: float, pico_untied: Path
) -> None:
    ids = torch.randint(3, 390, (2, 40), generator=torch.Generator().manual_seed(0))
    losses = []
    for kept in ("none", bits):
        model = load_model(pico_untied, dtype=torch.float32)
        add_lora(model, LoraSettings(rank=4), bits=kept)
        losses.append(NextTokenLoss(model)(input_ids=ids, labels=ids)["loss"].item())
    assert losses[0] != losses[1]
    assert losses[1] == pytest.approx(losses[0], rel=most)


@needs_bitsandbytes
def test_what_is_trained_on_few_bits_is_merged_into_the_base_as_it_is(
    pico_untied: Path, tmp_path: Path
) -> None:
    texts = [f"白日依山尽，黄河入海流。第{n}首。" for n in range(30)]
    settings = PretrainSettings.model_validate(
        {
            "num_tokens": 512,
            "block_tokens": 64,
            "replay_fraction": 0,
            "learning_rate": 1e-2,
            "quantize_base": "nf4",
            "lora": {"rank": 4, "targets": ["q_proj"]},
        }
    )
    found = pretrain(pico_untied, texts, tmp_path / "adapter", settings)
    losses = [
        row["loss"]
        for line in (tmp_path / "adapter/metrics.jsonl").read_text().splitlines()
        if "loss" in (row := json.loads(line))
    ]
    assert found["num_steps"] == 4
    assert losses[-1] < losses[0]
    merge(pico_untied, [tmp_path / "adapter"], tmp_path / "merged")
    adapter = load_file(tmp_path / "adapter/adapter_model.safetensors")
    name = "model.layers.0.self_attn.q_proj"
    a, b = (adapter[f"base_model.model.{name}.lora_{one}.weight"] for one in "AB")
    assert b.abs().max() > 0
    base = load_file(pico_untied / "model.safetensors")[f"{name}.weight"]
    merged = load_file(tmp_path / "merged/model.safetensors")[f"{name}.weight"]
    wanted = (base.float() + settings.lora.alpha / 4 * (b @ a)).to(base.dtype)
    assert torch.equal(merged, wanted)
    unchanged = "model.layers.0.mlp.up_proj.weight"
    assert torch.equal(
        load_file(tmp_path / "merged/model.safetensors")[unchanged],
        load_file(pico_untied / "model.safetensors")[unchanged],
    )


def test_without_bitsandbytes_it_is_said(pico_base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = load_model(pico_base)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(
        ResourceError, match="nf4 weights takes bitsandbytes, which is not installed"
    ):
        add_lora(model, LoraSettings(rank=4), bits="nf4")


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"quantize_base": "nf4", "lora": {"dora": True}}, "leave it or quantize_base out"),
        ({"quantize_base": "8bit", "sharding": "full"}, "leave sharding or quantize_base out"),
        ({"device_map": "auto", "sharding": "full"}, "place the same weights: leave one out"),
    ],
)
def test_what_does_not_go_together_is_refused(given: dict[str, object], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        PretrainSettings.model_validate({"num_tokens": 1024, **given})
