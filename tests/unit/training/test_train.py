import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from hanpaca.errors import ArtifactError, HanpacaError
from hanpaca.training.journal import Probe, Progress
from hanpaca.training.train import BlockDataset, Optimization, Trainable, train


class Toy(nn.Module):
    """A next-token table, small enough to compute by hand."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.factor = nn.Parameter(torch.randn(8, 8))
        self.row = nn.Parameter(torch.zeros(8))
        self.scale = 1.0

    def forward(
        self, input_ids: torch.Tensor, labels: torch.Tensor, position_ids: torch.Tensor
    ) -> dict[str, torch.Tensor]:
        logits = (self.factor[input_ids] + self.row) * self.scale
        loss = nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten())
        return {"loss": loss}


def make(toy: Toy) -> Trainable:
    def save(folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        torch.save(toy.state_dict(), folder / "toy.pt")

    def load(folder: Path) -> None:
        toy.load_state_dict(torch.load(folder / "toy.pt", weights_only=True))

    return Trainable(toy, [toy.factor], [toy.row], save=save, load=load)


def blocks(number: int = 10) -> BlockDataset:
    chance = np.random.default_rng(1)
    ids = chance.integers(0, 8, size=(number, 6)).astype(np.int32)
    return BlockDataset(ids, ids, np.tile(np.arange(6, dtype=np.int32), (number, 1)))


RATES = Optimization(
    0.1, 0.01, batch_blocks=2, schedule="constant", warmup_fraction=0.0, checkpoint_steps=2
)


def nothing(progress: Progress) -> None:
    pass


def test_a_step_moves_factors_and_rows_at_their_own_rates(tmp_path: Path) -> None:
    toy = Toy()
    before = toy.factor.detach().clone()
    train(make(toy), blocks(2), folder=tmp_path, optimization=RATES, on_progress=nothing)
    # The first step of Adam moves every parameter with a gradient by its rate.
    moved = (toy.factor - before).abs()
    assert moved.max().item() == pytest.approx(0.1, rel=1e-3)
    assert toy.row.abs().max().item() == pytest.approx(0.01, rel=1e-3)


def test_each_step_is_told_and_recorded(tmp_path: Path) -> None:
    told: list[Progress] = []
    asked: list[int] = []

    def ask() -> dict[str, float]:
        asked.append(len(told))
        return {"score": 1.5}

    toy = Toy()
    last = train(
        make(toy),
        blocks(),
        folder=tmp_path,
        optimization=RATES,
        on_progress=told.append,
        probe=Probe(ask, every_steps=3),
    )
    assert [progress.step for progress in told] == [1, 2, 3, 4, 5]
    assert last == told[-1]
    assert last.num_steps == 5
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [0, 1, 2, 3, 4, 5]
    assert [line["step"] for line in lines if "score" in line] == [0, 3, 5]
    assert lines[-1]["tokens"] == 5 * 2 * 6
    assert lines[-1]["loss"] < lines[1]["loss"]


class KilledError(Exception):
    """Stands for a kill: nothing is cleaned up."""


def stop_at(step: int) -> Callable[[Progress], None]:
    def tell(progress: Progress) -> None:
        if progress.step == step:
            raise KilledError

    return tell


@pytest.mark.parametrize("step", [1, 3, 4, 5])
def test_a_run_stopped_anywhere_ends_with_the_same_numbers(tmp_path: Path, step: int) -> None:
    whole = Toy()
    train(make(whole), blocks(), folder=tmp_path / "a", optimization=RATES, on_progress=nothing)
    first, second = Toy(), Toy()
    with pytest.raises(KilledError):
        train(
            make(first),
            blocks(),
            folder=tmp_path / "b",
            optimization=RATES,
            on_progress=stop_at(step),
        )
    nn.init.zeros_(second.factor) if step > 2 else None
    train(make(second), blocks(), folder=tmp_path / "b", optimization=RATES, on_progress=nothing)
    assert torch.equal(whole.factor, second.factor)
    assert torch.equal(whole.row, second.row)
    lines = [
        json.loads(line)["step"] for line in (tmp_path / "b/metrics.jsonl").read_text().splitlines()
    ]
    assert lines == [1, 2, 3, 4, 5]


def test_a_checkpoint_cut_short_is_not_used(tmp_path: Path) -> None:
    with pytest.raises(KilledError):
        train(make(Toy()), blocks(), folder=tmp_path, optimization=RATES, on_progress=stop_at(5))
    newest = tmp_path / "checkpoints/checkpoint-4"
    (newest / "whole").unlink()
    (newest / "toy.pt").write_bytes(b"half")
    told: list[Progress] = []
    train(make(Toy()), blocks(), folder=tmp_path, optimization=RATES, on_progress=told.append)
    assert told[0].step == 3


@pytest.mark.parametrize("sample", ["plain", "页\u2028段\u2029\u0085尾", "\x0b\x1c\n"])
def test_the_metrics_of_a_stopped_run_go_on_where_its_checkpoint_ends(
    sample: str, tmp_path: Path
) -> None:
    """Whatever the model writes, and though the last line was cut short."""
    probe = Probe(lambda: {"sample": sample}, every_steps=1)
    file = tmp_path / "metrics.jsonl"
    with pytest.raises(KilledError):
        train(
            make(Toy()),
            blocks(),
            folder=tmp_path,
            optimization=RATES,
            on_progress=stop_at(5),
            probe=probe,
        )
    whole = file.read_text(encoding="utf-8")
    file.write_text(whole[: whole.rindex("tokens")], encoding="utf-8")
    second = Toy()
    train(
        make(second),
        blocks(),
        folder=tmp_path,
        optimization=RATES,
        on_progress=nothing,
        probe=probe,
    )
    rows = [json.loads(line) for line in file.read_text(encoding="utf-8").split("\n")[:-1]]
    assert [row["step"] for row in rows] == [0, 1, 2, 3, 4, 5]
    assert {row["sample"] for row in rows} == {sample}
    assert [row["seconds"] for row in rows] == sorted(row["seconds"] for row in rows)
    assert file.read_text(encoding="utf-8").startswith(whole[: whole.index('{"step": 5')])


@pytest.mark.parametrize("scale", ["nan", "inf", "-inf"])
def test_a_loss_that_is_not_a_number_names_its_step(scale: str, tmp_path: Path) -> None:
    toy = Toy()

    def break_it(progress: Progress) -> None:
        if progress.step == 3:
            toy.scale = float(scale)

    with pytest.raises(HanpacaError, match=r"loss of step 4 is (nan|inf)"):
        train(make(toy), blocks(), folder=tmp_path, optimization=RATES, on_progress=break_it)
    assert (tmp_path / "checkpoints/checkpoint-2/whole").exists()
    assert not (tmp_path / "checkpoints/checkpoint-4").exists()
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [1, 2, 3]
    toy.scale = 1.0
    train(make(toy), blocks(), folder=tmp_path, optimization=RATES, on_progress=nothing)
    assert toy.factor.isfinite().all()


def test_a_run_killed_after_its_last_step_is_finished_without_another(tmp_path: Path) -> None:
    """The last checkpoint was whole, but the stage was not done."""
    told: list[Progress] = []
    whole, again = Toy(), Toy()
    before = train(
        make(whole), blocks(), folder=tmp_path, optimization=RATES, on_progress=told.append
    )
    metrics = (tmp_path / "metrics.jsonl").read_bytes()
    after = train(
        make(again), blocks(), folder=tmp_path, optimization=RATES, on_progress=told.append
    )
    assert torch.equal(whole.factor, again.factor)
    assert torch.equal(whole.row, again.row)
    assert len(told) == 5
    assert (after.step, after.num_steps, after.loss) == (5, 5, before.loss)
    assert after.seconds == pytest.approx(before.seconds, abs=1e-3)
    assert (tmp_path / "metrics.jsonl").read_bytes() == metrics


def test_checkpoints_of_a_longer_training_are_refused(tmp_path: Path) -> None:
    train(make(Toy()), blocks(), folder=tmp_path, optimization=RATES, on_progress=nothing)
    with pytest.raises(ArtifactError, match="checkpoints: not of this training"):
        train(make(Toy()), blocks(4), folder=tmp_path, optimization=RATES, on_progress=nothing)
