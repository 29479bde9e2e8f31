"""Compiled layers and layers on several devices train as the model does alone."""

import shutil
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from hanpaca.errors import RecipeError, ResourceError
from hanpaca.lora_settings import LoraSettings
from hanpaca.model.devices import compile_layers, placed, spread
from hanpaca.model.load import load_model
from hanpaca.model.lora import add_lora, add_new_rows
from hanpaca.model.loss import NextTokenLoss

IDS = torch.tensor([[1, 5, 9, 380, 1, 7, 300, 2], [1, 7, 300, 20, 6, 1, 2, 9]])
POSITIONS = torch.tensor([[0, 1, 2, 3, 0, 1, 2, 3], [0, 1, 2, 3, 4, 0, 1, 2]])


def prepared(base: Path, *, checkpointing: bool = False) -> NextTokenLoss:
    model = load_model(base, dtype=torch.float32)
    torch.manual_seed(0)
    add_lora(model, LoraSettings(rank=4, alpha=8))
    add_new_rows(model, 20)
    for name, parameter in model.named_parameters():
        if name.endswith("lora_B"):
            nn.init.normal_(parameter, std=0.1)
    if checkpointing:
        model.activation_checkpointing_enable({"use_reentrant": False})
    return NextTokenLoss(model.train())


def loss_and_gradients(loss: NextTokenLoss, device: str = "cpu") -> list[torch.Tensor]:
    ids, positions = IDS.to(device), POSITIONS.to(device)
    found = loss(input_ids=ids, labels=ids, position_ids=positions)["loss"]
    found.backward()
    grads = [one.grad for one in loss.parameters() if one.requires_grad]
    return [found.detach().cpu(), *(one.cpu() for one in grads if one is not None)]


def check_same(found: list[torch.Tensor], wanted: list[torch.Tensor]) -> None:
    assert len(found) == len(wanted) > 20
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)


QUIET = pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor")
"""PyTorch's compiler looks at it itself."""


@pytest.mark.slow
@QUIET
@pytest.mark.parametrize("checkpointing", [False, True])
def test_layers_in_graphs_train_the_same(checkpointing: bool, pico_untied: Path) -> None:
    """As torch.compile takes them apart; what makes kernels of the graphs is PyTorch's."""
    loss = prepared(pico_untied, checkpointing=checkpointing)
    compile_layers(loss.model, backend="aot_eager")
    check_same(loss_and_gradients(loss), loss_and_gradients(prepared(pico_untied)))


@QUIET
@pytest.mark.slow
def test_compiled_layers_train_the_same(pico_untied: Path) -> None:
    loss = prepared(pico_untied)
    try:
        compile_layers(loss.model)
    except ResourceError as error:
        pytest.skip(str(error))
    check_same(loss_and_gradients(loss), loss_and_gradients(prepared(pico_untied)))


def test_what_cannot_compile_says_what_it_takes(
    pico_base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    monkeypatch.setattr(shutil, "which", lambda name: None)
    monkeypatch.delenv("CXX", raising=False)
    with pytest.raises(ResourceError, match=r"a C\+\+ compiler \(.*\) is needed: leave compile="):
        compile_layers(load_model(pico_base))


@pytest.mark.parametrize("base", ["pico_base", "pico_untied"])
@pytest.mark.parametrize("checkpointing", [False, True])
def test_a_model_laid_out_over_devices_trains_the_same(
    base: str, checkpointing: bool, request: pytest.FixtureRequest
) -> None:
    """Both devices are the CPU: everything but the copying."""
    folder = request.getfixturevalue(base)
    loss = prepared(folder, checkpointing=checkpointing)
    spread(loss, [torch.device("cpu")] * 2)
    assert set(cast(Any, loss).hf_device_map) == {"model.layers.0", "model.layers.1"}
    check_same(loss_and_gradients(loss), loss_and_gradients(prepared(folder)))


@pytest.mark.gpu
@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="there are no two GPUs")
def test_a_model_laid_out_over_gpus_trains_the_same(pico_untied: Path) -> None:
    loss = prepared(pico_untied)
    spread(loss)
    assert len(set(cast(Any, loss).hf_device_map.values())) == 2
    check_same(loss_and_gradients(loss, "cuda"), loss_and_gradients(prepared(pico_untied)))


def test_one_gpu_or_none_is_said(pico_base: Path) -> None:
    if torch.cuda.device_count() > 1:
        pytest.skip("this machine has two GPUs")
    with pytest.raises(
        ResourceError, match=r"over two or more GPUs, and this machine has (1|none)"
    ):
        spread(NextTokenLoss(load_model(pico_base)))


def test_several_processes_are_refused(pico_base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(RecipeError, match="several were started: start one, or leave device_map="):
        spread(NextTokenLoss(load_model(pico_base)))


@given(
    sizes=st.lists(st.integers(1, 9), min_size=1, max_size=40),
    num_devices=st.integers(2, 8),
    first=st.integers(0, 30),
)
def test_layers_lie_in_order_and_no_device_holds_a_layer_more_than_its_share(
    sizes: list[int], num_devices: int, first: int
) -> None:
    places = placed(sizes, num_devices, first)
    assert places == sorted(places)
    assert len(places) == len(sizes)
    share = (first + sum(sizes)) / num_devices
    for device in set(places):
        own = sum(size for size, place in zip(sizes, places, strict=True) if place == device)
        held = own + (first if device == 0 else 0)
        assert held <= max(share, first) + max(sizes)
