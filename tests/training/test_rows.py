from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import load_file
from torch import nn

from hanpaca.data.pack import Blocks
from hanpaca.model.load import load_model
from hanpaca.progress import Progress
from hanpaca.settings import PretrainSettings
from hanpaca.steps.grow import grow
from hanpaca.steps.pretrain import pretrain
from hanpaca.tokenizer.extension.extend import extend_tokenizer, write_extension
from hanpaca.training.rows import AXES, RowAdamW, principal_axes
from tests.support.commands import python_together


def two(rows: int = 5, hidden: int = 6) -> tuple[nn.Parameter, nn.Parameter]:
    torch.manual_seed(0)
    return nn.Parameter(torch.randn(rows, hidden)), nn.Parameter(torch.randn(rows, hidden))


def turned(hidden: int = 6) -> torch.Tensor:
    torch.manual_seed(1)
    axes: torch.Tensor = torch.linalg.qr(torch.randn(hidden, hidden)).Q
    return axes


def test_both_rows_of_a_piece_move_by_the_same() -> None:
    read, written = two()
    before = read.detach().clone(), written.detach().clone()
    optimizer = RowAdamW([{"params": [read, written], AXES: turned()}], lr=0.1, weight_decay=0.0)
    for step in range(3):
        read.grad, written.grad = torch.randn(5, 6), torch.randn(5, 6) * step
        optimizer.step()
    moved = read.detach() - before[0]
    assert moved.abs().min() > 0
    assert torch.allclose(moved, written.detach() - before[1], atol=1e-6)


def test_along_the_coordinates_it_is_adam_of_the_sum() -> None:
    read, written = two()
    alone = nn.Parameter(read.detach().clone())
    plain = torch.optim.AdamW([alone], lr=0.1, weight_decay=0.2)
    optimizer = RowAdamW(
        [{"params": [read, written], AXES: torch.eye(6)}], lr=0.1, weight_decay=0.2
    )
    for _ in range(4):
        read.grad, written.grad = torch.randn(5, 6), torch.randn(5, 6)
        alone.grad = read.grad + written.grad
        optimizer.step()
        plain.step()
    assert torch.allclose(read, alone, atol=1e-6)


def test_a_turn_of_axes_and_gradients_turns_the_updates() -> None:
    """What Adam does along some axes does not depend on how the space is written down."""
    axes = turned()
    read, written = two()
    other = [nn.Parameter(one.detach() @ axes.t()) for one in (read, written)]
    first = RowAdamW([{"params": [read, written], AXES: axes}], lr=0.1, weight_decay=0.0)
    second = RowAdamW([{"params": other, AXES: torch.eye(6)}], lr=0.1, weight_decay=0.0)
    for _ in range(4):
        for here, there in zip((read, written), other, strict=True):
            here.grad = torch.randn(5, 6)
            there.grad = here.grad @ axes.t()
        first.step()
        second.step()
    assert torch.allclose(other[0], read @ axes.t(), atol=1e-5)


def test_groups_without_axes_are_adams_own() -> None:
    one, other = two()
    other.data.copy_(one.data)
    optimizers = RowAdamW([one], lr=0.1), torch.optim.AdamW([other], lr=0.1)
    for _ in range(3):
        one.grad = torch.randn(5, 6)
        other.grad = one.grad.clone()
        for optimizer in optimizers:
            optimizer.step()
    assert torch.equal(one, other)


def test_its_state_goes_on_to_the_same_bits() -> None:
    rows = two()
    gradients = [torch.randn(5, 6) for _ in range(8)]
    whole = RowAdamW([{"params": list(rows), AXES: turned()}], lr=0.1)

    def step(optimizer: RowAdamW, number: int) -> None:
        for row in optimizer.param_groups[0]["params"]:
            row.grad = gradients[number].clone()
        optimizer.step()

    for number in range(4):
        step(whole, number)
    copies = [nn.Parameter(row.detach().clone()) for row in rows]
    again = RowAdamW([{"params": copies, AXES: torch.eye(6)}], lr=0.5)
    again.load_state_dict(deepcopy(whole.state_dict()))
    for number in range(4, 8):
        step(whole, number)
        step(again, number)
    assert all(torch.equal(one, other) for one, other in zip(rows, copies, strict=True))


def test_axes_are_those_of_what_the_head_reads(pico_untied: Path) -> None:
    model = load_model(pico_untied, dtype=torch.float32)
    ids = np.random.default_rng(0).integers(3, 390, size=(6, 32)).astype(np.int32)
    places = np.tile(np.arange(32, dtype=np.int32), (6, 1))
    axes_dd = principal_axes(model, Blocks(ids, ids, places))
    with torch.inference_mode():
        states = model.model(torch.from_numpy(ids.astype(np.int64))).last_hidden_state.flatten(0, 1)
    along = (states @ axes_dd.t()).square().mean(dim=0)
    assert torch.allclose(axes_dd @ axes_dd.t(), torch.eye(len(axes_dd)), atol=1e-5)
    assert along.tolist() == pytest.approx(sorted(along.tolist(), reverse=True), rel=1e-4)
    assert along.sum() == pytest.approx(states.square().sum(dim=1).mean().item(), rel=1e-4)


TEXTS = [f"白日依山尽，黄河入海流。第{number:02d}首。" for number in range(24)]
TOGETHER = PretrainSettings.model_validate(
    {
        "num_tokens": 64 * 2 * 5,
        "block_tokens": 64,
        "checkpoint_steps": 2,
        "dtype": "float32",
        "lora": {"rank": 4},
        "row_updates": "together",
        "replay_fraction": 0,
    }
)
ROWS = "base_model.model.{}.token_adapter.trainable_tokens_delta"


class KilledError(Exception):
    """Stands for a kill."""


@pytest.fixture(scope="module")
def grown(pico_untied: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base with rows for six new pieces."""
    folder = tmp_path_factory.mktemp("grown")
    extension = extend_tokenizer(pico_untied, TEXTS, num_pieces=6)
    write_extension(extension, pico_untied, folder / "extended")
    grow(pico_untied, folder / "extended", TEXTS, folder / "grown")
    return folder / "grown"


@pytest.mark.slow
def test_a_training_moves_both_rows_of_each_piece_together(grown: Path, tmp_path: Path) -> None:
    """Killed twice, it ends with the bytes of one that was left alone."""
    pretrain(grown, TEXTS, tmp_path / "a", TOGETHER)
    for last in (1, 4):

        def tell(progress: Progress, last: int = last) -> None:
            if progress.unit == "steps" and progress.done == last:
                raise KilledError

        with pytest.raises(KilledError):
            pretrain(grown, TEXTS, tmp_path / "b", TOGETHER, tell=tell)
    pretrain(grown, TEXTS, tmp_path / "b", TOGETHER)
    adapters = [(tmp_path / name / "adapter_model.safetensors").read_bytes() for name in "ab"]
    assert adapters[0] == adapters[1]
    learned = load_file(tmp_path / "a/adapter_model.safetensors")
    before = load_file(grown / "model.safetensors")
    moved = [
        learned[ROWS.format(name)] - before[f"{name}.weight"][-6:].float()
        for name in ("model.embed_tokens", "lm_head")
    ]
    assert moved[0].abs().max() > 1e-4
    assert torch.allclose(moved[0], moved[1], atol=1e-6)


@pytest.mark.slow
def test_apart_they_do_not(grown: Path, tmp_path: Path) -> None:
    apart = TOGETHER.model_copy(update={"row_updates": "apart"})
    pretrain(grown, TEXTS, tmp_path / "a", apart)
    learned = load_file(tmp_path / "a/adapter_model.safetensors")
    before = load_file(grown / "model.safetensors")
    read, written = (
        learned[ROWS.format(name)] - before[f"{name}.weight"][-6:].float()
        for name in ("model.embed_tokens", "lm_head")
    )
    assert (read - written).abs().max() > 1e-4


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ({"train": ["lora"]}, "name new_rows in train"),
        ({"sharding": "full"}, "rows in shards move apart"),
    ],
)
def test_what_cannot_move_together_is_refused(more: dict[str, Any], told: str) -> None:
    with pytest.raises(ValidationError, match=told):
        PretrainSettings.model_validate({**TOGETHER.model_dump(), **more})


ASKED = """
import os, torch
from hanpaca.training.train import _of_the_first
rank = int(os.environ["RANK"])
torch.distributed.init_process_group("gloo")
assert torch.equal(_of_the_first(torch.full((2, 2), float(rank))), torch.zeros(2, 2))
assert _of_the_first(None) is None
torch.distributed.destroy_process_group()
"""


@pytest.mark.slow
def test_rows_of_all_processes_move_along_the_axes_of_the_first(tmp_path: Path) -> None:
    """Another machine may round them otherwise."""
    program = tmp_path / "asked.py"
    program.write_text(ASKED, encoding="utf-8")
    ended = python_together(program)
    assert [one.returncode for one in ended] == [0, 0], ended
