"""What is done where the old language suffers: the training ends, replays more, or keeps its best.

A decision follows from what a probe answered, and stands in `metrics.jsonl` or beside the
checkpoints: a training that goes on after a kill comes to the same decisions.
"""

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from hanpaca.data.pack import BlockColumn, Blocks, Ints
from hanpaca.files import read_json, remove
from hanpaca.progress import Progress, Tell

HELDOUT = "heldout_bits_per_character"
"""What a probe calls its score."""
REPLAY_HELDOUT = "replay_heldout_bits_per_character"
"""And that of the old language."""
TEXT_BITS = {HELDOUT: "heldout_text_bits", REPLAY_HELDOUT: "replay_heldout_text_bits"}
"""What a probe calls the bits of each text beside a score, in their order."""
RAISED = "replay_fraction"
"""In a line of `metrics.jsonl`: the share that replay was raised to."""
MOST_REPLAY = 0.5
"""Share that replay is raised to at most."""
BEST, _BETTER, _ABOUT = "best", "better", "about.json"
Reaction = Literal["stop", "raise_replay", "keep_best"]


@dataclass
class Monitor:
    """Judges every probe but the one before the first step; only the first process' is asked."""

    max_rise: float
    """Share by which the old language's bits may rise."""
    reaction: Reaction
    replay_fraction: float
    """Share of replay that the training begins with."""
    batch_blocks: int
    checkpoints: Path
    """Has the folder of the best adapter so far, under `keep_best`."""
    save: Callable[[Path], None]
    """Writes the adapter as it is into a folder."""
    tell: Tell
    raised: list[tuple[int, float]] = field(default_factory=list)
    """From which block on replay has which share."""
    ended: bool = False

    def restore(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Take up what was decided by these lines of `metrics.jsonl`."""
        self.raised[:] = [self._from(row["step"], row[RAISED]) for row in rows if RAISED in row]

    def judge(
        self, step: int, num_steps: int, before: Mapping[str, Any], now: Mapping[str, Any]
    ) -> dict[str, float]:
        """Decide what follows from a probe.

        Args:
            step: After which it was asked.
            num_steps: Of the training.
            before: What it answered before the first step.
            now: What it answers now.

        Returns:
            What of the decision belongs into `metrics.jsonl`.
        """
        most = (1 + self.max_rise) * before[REPLAY_HELDOUT]
        is_over = bool(now[REPLAY_HELDOUT] > most)
        if self.reaction == "keep_best":
            self._keep(step, now, is_over=is_over)
        elif is_over and step < num_steps:
            if self.reaction == "raise_replay":
                return self._raise(step)
            self.ended = True
        return {}

    def _from(self, step: int, share: float) -> tuple[int, float]:
        # The blocks of the next step are read already.
        return (step + 1) * self.batch_blocks, share

    def _raise(self, step: int) -> dict[str, float]:
        now = self.raised[-1][1] if self.raised else self.replay_fraction
        share = min(2 * now, max(MOST_REPLAY, now))
        if share == now:
            return {}
        self.raised.append(self._from(step, share))
        note = (
            f"step {step}: the old language suffers, and replay has {share:.0%} of the blocks now"
        )
        self.tell(Progress(0, note=note))
        return {RAISED: share}

    def _keep(self, step: int, now: Mapping[str, Any], *, is_over: bool) -> None:
        """Of those within the bound the best in the new language; else the best in the old one."""
        bits = {name: float(now[name]) for name in (HELDOUT, REPLAY_HELDOUT) if name in now}
        score = [is_over, bits[REPLAY_HELDOUT if is_over else HELDOUT]]
        if (kept := kept_best(self.checkpoints)) and kept["score"] <= score:
            return
        best = self.checkpoints / BEST
        better = self.checkpoints / _BETTER
        remove(better)
        better.mkdir(parents=True)
        self.save(better)
        about = {"step": step, "score": score, **bits}
        (better / _ABOUT).write_text(json.dumps(about), encoding="utf-8")
        remove(best)
        better.rename(best)


def kept_best(checkpoints: Path) -> dict[str, Any]:
    """Step, score and bits of the adapter that is the best so far; nothing where there is none."""
    file = checkpoints / BEST / _ABOUT
    return read_json(file) if file.exists() else {}


def with_spare(blocks: Blocks, spare: Blocks, monitor: Monitor, *, seed: int) -> Blocks:
    """Blocks that turn into replay, some here and there, as a monitor raises its share.

    Args:
        blocks: As they are without.
        spare: As many of replay.
        monitor: Is asked whenever a block is read.
        seed: Of which are the first to turn.
    """
    chance = np.random.default_rng(seed).random(len(blocks))
    return Blocks(
        *(
            _Turning(getattr(blocks, one.name), getattr(spare, one.name), chance, monitor)
            for one in fields(Blocks)
        )
    )


@dataclass(frozen=True)
class _Turning:
    """One column of such blocks."""

    own: BlockColumn
    spare: BlockColumn
    chance: NDArray[np.float64]
    monitor: Monitor

    @property
    def shape(self) -> tuple[int, ...]:
        shape: tuple[int, ...] = self.own.shape
        return shape

    @property
    def size(self) -> int:
        return self.own.size

    def __len__(self) -> int:
        return len(self.own)

    def __getitem__(self, row: int, /) -> Ints:
        shares = [share for begin, share in self.monitor.raised if begin <= row]
        first = self.monitor.replay_fraction
        # Of blocks that are replay already some turn too, and stay what they are.
        turning = (shares[-1] - first) / (1 - first) if shares else 0.0
        found: Ints = (self.spare if self.chance[row] < turning else self.own)[row]
        return found
