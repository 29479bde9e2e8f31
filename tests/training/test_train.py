import importlib.util
import json
import resource
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from transformers import get_wsd_schedule
from transformers.optimization import get_cosine_with_min_lr_schedule_with_warmup

from hanpaca.data.pack import Blocks
from hanpaca.errors import ArtifactError, HanpacaError, RecipeError, ResourceError
from hanpaca.training import arguments as arguments_module
from hanpaca.training.arguments import Optimization
from hanpaca.training.journal import Probe, Step
from hanpaca.training.monitor import (
    HELDOUT,
    RAISED,
    REPLAY_HELDOUT,
    Monitor,
    Reaction,
    kept_best,
    with_spare,
)
from hanpaca.training.train import BlockDataset, Trainable, _scheduler, train


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


def nothing(progress: Step) -> None:
    pass


@pytest.mark.slow
def test_a_step_moves_factors_and_rows_at_their_own_rates(tmp_path: Path) -> None:
    toy = Toy()
    before = toy.factor.detach().clone()
    train(make(toy), blocks(2), folder=tmp_path, optimization=RATES, on_step=nothing)
    # The first step of Adam moves every parameter with a gradient by its rate.
    moved = (toy.factor - before).abs()
    assert moved.max().item() == pytest.approx(0.1, rel=1e-3)
    assert toy.row.abs().max().item() == pytest.approx(0.01, rel=1e-3)


def test_faster_factors_have_a_rate_of_their_own(tmp_path: Path) -> None:
    toy = Toy()
    given = replace(make(toy), factors=[toy.factor], faster=[toy.row], rows=[])
    fast = replace(RATES, faster_ratio=4.0)
    train(given, blocks(2), folder=tmp_path, optimization=fast, on_step=nothing)
    assert toy.row.abs().max().item() == pytest.approx(0.4, rel=1e-3)


def test_each_step_is_told_and_recorded(tmp_path: Path) -> None:
    told: list[Step] = []
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
        on_step=told.append,
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


def watched(toy: Toy, folder: Path, reaction: Reaction, rise: float = 0.03) -> Monitor:
    """Of an old language that suffers by what the row moves."""
    return Monitor(
        max_rise=rise,
        reaction=reaction,
        replay_fraction=0.2,
        batch_blocks=2,
        checkpoints=folder / "checkpoints",
        save=make(toy).save,
        tell=lambda progress: None,
    )


def sitting(
    folder: Path, reaction: Reaction, on_step: Callable[[Step], None], rise: float = 0.03
) -> tuple[Toy, Step, Monitor]:
    """Train 10 steps and ask at every other one; the new language is at its best at the fourth."""
    toy = Toy()
    monitor = watched(toy, folder, reaction, rise)

    def ask() -> dict[str, float]:
        size = float(toy.row.detach().abs().max())
        return {REPLAY_HELDOUT: 1 + size, HELDOUT: 2 + abs(size - 0.035)}

    own, spare = (Blocks(one, one, np.tile(np.arange(6), (20, 1))) for one in drawn(2))
    columns = with_spare(own, spare, monitor, seed=0)
    last = train(
        make(toy),
        BlockDataset(columns.input_ids, columns.labels, columns.position_ids),
        folder=folder,
        optimization=RATES,
        on_step=on_step,
        probe=Probe(ask, every_steps=2, monitor=monitor),
    )
    return toy, last, monitor


def drawn(number: int) -> list[np.ndarray[Any, Any]]:
    chance = np.random.default_rng(1)
    return [chance.integers(0, 8, size=(20, 6)).astype(np.int32) for _ in range(number)]


def rows_of(folder: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.slow
@pytest.mark.parametrize("killed_at", [0, 1, 3, 4, 7, 9])
@pytest.mark.parametrize("reaction", ["stop", "raise_replay", "keep_best"])
def test_a_monitor_decides_the_same_after_a_kill(
    tmp_path: Path, reaction: Reaction, killed_at: int
) -> None:
    whole, last, monitor = sitting(tmp_path / "a", reaction, nothing)
    if killed_at:
        with pytest.raises(KilledError):
            sitting(tmp_path / "b", reaction, stop_at(min(killed_at, last.step)))
    again, same, other = sitting(tmp_path / "b", reaction, nothing)
    assert same.step == last.step == (4 if reaction == "stop" else 10)
    assert torch.equal(whole.factor, again.factor)
    assert torch.equal(whole.row, again.row)
    assert monitor.raised == other.raised
    kept = kept_best(monitor.checkpoints)
    assert kept == kept_best(other.checkpoints)
    untimed = [
        [{key: row[key] for key in row if key != "seconds"} for row in rows_of(tmp_path / name)]
        for name in "ab"
    ]
    assert untimed[0] == untimed[1]
    sizes = {row["step"]: row[REPLAY_HELDOUT] for row in untimed[0] if REPLAY_HELDOUT in row}
    assert sizes[2] <= 1.03 < sizes[4]
    if reaction == "raise_replay":  # .2 becomes .4 from step 6 on, then .5 from step 8 on
        assert monitor.raised == [(10, 0.4), (14, 0.5)]
        shares = {row["step"]: row["replay_fraction"] for row in untimed[0] if RAISED in row}
        assert shares == {4: 0.4, 6: 0.5}
    elif reaction == "keep_best":
        files = [one.checkpoints / "best/toy.pt" for one in (monitor, other)]
        assert files[0].read_bytes() == files[1].read_bytes()
        assert (kept["step"], kept["score"][0]) == (2, False)


@pytest.mark.slow
def test_the_best_is_in_the_bound_and_best_in_the_new_language(tmp_path: Path) -> None:
    """Where all are within it, that is a step in the middle; where none is, the first asked."""
    for rise, name in ((10.0, HELDOUT), (1e-9, REPLAY_HELDOUT)):
        folder = tmp_path / name
        _, _, monitor = sitting(folder, "keep_best", nothing, rise)
        kept = kept_best(monitor.checkpoints)
        asked = {row["step"]: row for row in rows_of(folder) if HELDOUT in row and row["step"]}
        best = min(asked, key=lambda step, name=name: asked[step][name])  # type: ignore[misc]
        assert best == (4 if name == HELDOUT else 2)
        assert (kept["step"], kept[name]) == (best, asked[best][name])
        found = torch.load(monitor.checkpoints / "best/toy.pt", weights_only=True)
        assert float(found["row"].abs().max()) == pytest.approx(asked[best][REPLAY_HELDOUT] - 1)


def test_a_raised_share_is_the_share_of_the_blocks_to_come() -> None:
    number = 20_000
    own, spare = (np.full((number, 3), value, np.int32) for value in (1, 2))
    own[: number // 5] = 2
    own = np.random.default_rng(1).permutation(own)  # a fifth is replay from the start
    toy = watched(Toy(), Path("nowhere"), "raise_replay")
    turning = with_spare(Blocks(own, own, own), Blocks(spare, spare, spare), toy, seed=0)
    toy.raised[:] = [(5_000, 0.4), (10_000, 0.5)]
    found = np.stack([turning.input_ids[row] for row in range(number)])[:, 0] == 2
    assert np.array_equal(found[:5_000], own[:5_000, 0] == 2)
    assert found[5_000:10_000].mean() == pytest.approx(0.4, abs=0.02)
    assert found[10_000:].mean() == pytest.approx(0.5, abs=0.02)


class KilledError(Exception):
    """Stands for a kill: nothing is cleaned up."""


def stop_at(step: int) -> Callable[[Step], None]:
    def tell(progress: Step) -> None:
        if progress.step == step:
            raise KilledError

    return tell


@pytest.mark.slow
@pytest.mark.parametrize("step", [1, 3, 4, 5])
def test_a_run_stopped_anywhere_ends_with_the_same_numbers(tmp_path: Path, step: int) -> None:
    whole = Toy()
    train(make(whole), blocks(), folder=tmp_path / "a", optimization=RATES, on_step=nothing)
    first, second = Toy(), Toy()
    with pytest.raises(KilledError):
        train(
            make(first),
            blocks(),
            folder=tmp_path / "b",
            optimization=RATES,
            on_step=stop_at(step),
        )
    nn.init.zeros_(second.factor) if step > 2 else None
    train(make(second), blocks(), folder=tmp_path / "b", optimization=RATES, on_step=nothing)
    assert torch.equal(whole.factor, second.factor)
    assert torch.equal(whole.row, second.row)
    lines = [
        json.loads(line)["step"] for line in (tmp_path / "b/metrics.jsonl").read_text().splitlines()
    ]
    assert lines == [1, 2, 3, 4, 5]


@pytest.mark.slow
def test_a_checkpoint_cut_short_is_not_used(tmp_path: Path) -> None:
    with pytest.raises(KilledError):
        train(make(Toy()), blocks(), folder=tmp_path, optimization=RATES, on_step=stop_at(5))
    newest = tmp_path / "checkpoints/checkpoint-4"
    (newest / "whole").unlink()
    (newest / "toy.pt").write_bytes(b"half")
    told: list[Step] = []
    train(make(Toy()), blocks(), folder=tmp_path, optimization=RATES, on_step=told.append)
    assert told[0].step == 3


@pytest.mark.slow
@pytest.mark.parametrize("file", ["toy.pt", "optimizer.pt", "trainer_state.json"])
def test_a_full_disk_keeps_the_checkpoint_before(file: str, tmp_path: Path) -> None:
    """Real writes that fail: of the model, of the optimizer, and of the Trainer's own state."""
    alone = Toy()
    train(make(alone), blocks(), folder=tmp_path / "a", optimization=RATES, on_step=nothing)
    checkpoints = tmp_path / "b/checkpoints"
    before = resource.getrlimit(resource.RLIMIT_FSIZE)

    def fill_up(step: Step) -> None:
        if step.step == 3:
            most = (checkpoints / "checkpoint-2" / file).stat().st_size - 1
            resource.setrlimit(resource.RLIMIT_FSIZE, (most, before[1]))

    try:
        with pytest.raises(ResourceError, match=r"checkpoint-4: cannot be written: .* is kept"):
            train(make(Toy()), blocks(), folder=tmp_path / "b", optimization=RATES, on_step=fill_up)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert [one.name for one in checkpoints.iterdir()] == ["checkpoint-2"]
    told: list[Step] = []
    toy = Toy()
    train(make(toy), blocks(), folder=tmp_path / "b", optimization=RATES, on_step=told.append)
    assert told[0].step == 3
    assert torch.equal(toy.factor, alone.factor)


@pytest.mark.slow
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
            on_step=stop_at(5),
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
        on_step=nothing,
        probe=probe,
    )
    rows = [json.loads(line) for line in file.read_text(encoding="utf-8").split("\n")[:-1]]
    assert [row["step"] for row in rows] == [0, 1, 2, 3, 4, 5]
    assert {row["sample"] for row in rows} == {sample}
    assert [row["seconds"] for row in rows] == sorted(row["seconds"] for row in rows)
    assert file.read_text(encoding="utf-8").startswith(whole[: whole.index('{"step": 5')])


@pytest.mark.slow
@pytest.mark.parametrize("scale", ["nan", "inf", "-inf"])
def test_a_loss_that_is_not_a_number_names_its_step(scale: str, tmp_path: Path) -> None:
    toy = Toy()

    def break_it(progress: Step) -> None:
        if progress.step == 3:
            toy.scale = float(scale)

    with pytest.raises(HanpacaError, match=r"loss of step 4 is (nan|inf)"):
        train(make(toy), blocks(), folder=tmp_path, optimization=RATES, on_step=break_it)
    assert (tmp_path / "checkpoints/checkpoint-2/whole").exists()
    assert not (tmp_path / "checkpoints/checkpoint-4").exists()
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [1, 2, 3]
    toy.scale = 1.0
    train(make(toy), blocks(), folder=tmp_path, optimization=RATES, on_step=nothing)
    assert toy.factor.isfinite().all()


@pytest.mark.slow
def test_a_run_killed_after_its_last_step_is_finished_without_another(tmp_path: Path) -> None:
    """The last checkpoint was whole, but the stage was not done."""
    told: list[Step] = []
    whole, again = Toy(), Toy()
    before = train(make(whole), blocks(), folder=tmp_path, optimization=RATES, on_step=told.append)
    metrics = (tmp_path / "metrics.jsonl").read_bytes()
    after = train(make(again), blocks(), folder=tmp_path, optimization=RATES, on_step=told.append)
    assert torch.equal(whole.factor, again.factor)
    assert torch.equal(whole.row, again.row)
    assert len(told) == 5
    assert (after.step, after.num_steps, after.loss) == (5, 5, before.loss)
    assert after.seconds == pytest.approx(before.seconds, abs=1e-3)
    assert (tmp_path / "metrics.jsonl").read_bytes() == metrics


@pytest.mark.slow
def test_checkpoints_of_a_longer_training_are_refused(tmp_path: Path) -> None:
    train(make(Toy()), blocks(), folder=tmp_path, optimization=RATES, on_step=nothing)
    with pytest.raises(ArtifactError, match="checkpoints: not of this training"):
        train(make(Toy()), blocks(4), folder=tmp_path, optimization=RATES, on_step=nothing)


def rates(scheduler: torch.optim.lr_scheduler.LRScheduler, number: int = 40) -> list[float]:
    found = []
    for _ in range(number):
        found.append(float(scheduler.get_last_lr()[0]))
        scheduler.optimizer.step()
        scheduler.step()
    return found


def test_a_least_rate_is_that_of_transformers() -> None:
    def adam() -> torch.optim.Optimizer:
        return torch.optim.AdamW([nn.Parameter(torch.zeros(1))], lr=0.3)

    given = replace(RATES, schedule="cosine", warmup_fraction=0.1, min_rate_fraction=0.2)
    wanted = get_cosine_with_min_lr_schedule_with_warmup(adam(), 4, 40, min_lr_rate=0.2)
    assert rates(_scheduler(adam(), given, 40)) == pytest.approx(rates(wanted))
    given = replace(given, schedule="warmup_stable_decay", min_rate_fraction=0.0)
    wanted = get_wsd_schedule(adam(), 4, 8, 40, decay_type="1-sqrt")
    found = rates(_scheduler(adam(), given, 40))
    assert found == pytest.approx(rates(wanted))
    assert found[4:33] == [0.3] * 29
    assert found[-1] < 0.03
    for schedule in ("linear", "constant"):
        found = rates(
            _scheduler(adam(), replace(given, schedule=schedule, min_rate_fraction=0.5), 40)
        )
        assert found[:5] == pytest.approx([0.0, 0.075, 0.15, 0.225, 0.3])
        assert found[-1] == pytest.approx(0.3 if schedule == "constant" else 0.154, abs=1e-3)


@pytest.mark.slow
def test_weights_decay_by_their_rate(tmp_path: Path) -> None:
    moved = []
    for share in (0.0, 0.5):
        toy = Toy()
        before = toy.factor.detach().clone()
        given = replace(RATES, weight_decay=share)
        train(
            make(toy), blocks(2), folder=tmp_path / str(share), optimization=given, on_step=nothing
        )
        moved.append(toy.factor.detach() - before)
    torch.testing.assert_close(moved[1] - moved[0], -0.1 * 0.5 * before, rtol=1e-4, atol=1e-6)


def test_a_tracker_that_is_not_installed_is_named_with_its_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ResourceError, match="wandb is not installed: pip install wandb"):
        train(
            make(Toy()),
            blocks(),
            folder=tmp_path,
            optimization=replace(RATES, trackers=("wandb",)),
            on_step=nothing,
        )


@pytest.mark.slow
def test_blocks_read_ahead_by_another_process_are_the_same_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a GPU gets them, but for the pinning."""
    ahead = {**arguments_module._prefetching(True, ahead=True), "dataloader_pin_memory": False}
    found = []
    for name, given in (("plain", None), ("ahead", ahead)):
        if given:
            monkeypatch.setattr(arguments_module, "_prefetching", lambda *_, **__: ahead)
        toy = Toy()
        train(make(toy), blocks(), folder=tmp_path / name, optimization=RATES, on_step=nothing)
        found.append(toy.factor.detach())
    assert torch.equal(*found)


@pytest.mark.parametrize("stage", [2, 3])
def test_what_deepspeed_does_not_part_is_refused(stage: int) -> None:
    given: Any = SimpleNamespace(deepspeed_plugin=SimpleNamespace(zero_stage=stage))
    if stage == 2:
        arguments_module._check_deepspeed(given)
        return
    with pytest.raises(RecipeError, match=r"ZeRO-3 .*: take ZeRO-2, or set sharding= to full"):
        arguments_module._check_deepspeed(given)
