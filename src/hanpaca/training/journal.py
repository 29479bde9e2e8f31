"""What a training run tells while it goes: a line a step, its rate, and probes of the model."""

import json
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from hanpaca.errors import HanpacaError
from hanpaca.together import leads, num_processes
from hanpaca.training.monitor import Monitor

METRICS = "metrics.jsonl"
WHOLE = "whole"
"""Marks a checkpoint folder as completely written."""


@dataclass(frozen=True)
class Step:
    """Where training stands after a step."""

    step: int
    num_steps: int
    loss: float
    """Mean nats a label of this step's batch."""
    tokens_per_second: float
    seconds: float
    """Spent on training steps, over all sittings; probes and checkpoints not counted."""
    seconds_left: float


@dataclass(frozen=True)
class Probe:
    """Something to ask the model while it trains; it must leave the random state alone."""

    ask: Callable[[], Mapping[str, Any]]
    """What it returns (a held-out score, a sample of text) goes into `metrics.jsonl`."""
    every_steps: int
    """Asked before the first step, every so many steps, and after the last."""
    monitor: Monitor | None = None
    """Decides what follows from the answers."""

    @property
    def changing(self) -> bool:
        """Whether the blocks to come may change, so that none is read long before its step."""
        return self.monitor is not None and self.monitor.reaction == "raise_replay"


class Journal(TrainerCallback):
    """Writes `metrics.jsonl`, tells progress, probes, and stops a run that diverges.

    Of several processes the first does so; the others only stop when it stops.
    """

    def __init__(
        self,
        path: Path,
        *,
        tokens_per_step: int,
        on_step: Callable[[Step], object],
        probe: Probe | None,
        measures: Callable[[], Mapping[str, float]] = dict,
    ) -> None:
        self.path = path
        self.tokens_per_step = tokens_per_step
        self.on_step = on_step
        self.probe = probe
        self.measures = measures
        self.before: Mapping[str, Any] = {}
        """What the probe answered before the first step."""
        self.last: Step | None = None
        self.seconds = 0.0
        self.sitting_seconds = 0.0
        self.sitting_steps = 0
        self.step_began = 0.0

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Drop the lines written after the checkpoint training goes on from."""
        if not leads():
            self.last = Step(state.global_step, state.max_steps, math.nan, 0.0, 0.0, 0.0)
            self._agree()
            return
        # Not splitlines(): a sample may hold U+2028 or U+0085, which JSON does not escape.
        lines = self.path.read_text(encoding="utf-8").split("\n") if self.path.exists() else []
        kept = [
            line
            for line in lines
            if _is_json(line) and json.loads(line)["step"] <= state.global_step
        ]
        self.path.write_text("".join(line + "\n" for line in kept), encoding="utf-8")
        if kept:
            self.before = json.loads(kept[0])
            row = json.loads(kept[-1])
            self.seconds = float(row["seconds"])
            self.last = _step(row, state.max_steps) if row["step"] else None
        elif self.probe:
            self.before = self.probe.ask()
            self._append({"step": 0, "seconds": 0.0, **self.before})
        if self.probe and self.probe.monitor:
            self.probe.monitor.restore(map(json.loads, kept))
        self._agree()

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Start the step's clock."""
        self.step_began = time.perf_counter()

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Stop the step's clock."""
        self.sitting_seconds += time.perf_counter() - self.step_began
        self.sitting_steps += 1

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **_: Any,
    ) -> None:
        """Record the step."""
        if not logs or "loss" not in logs:
            return
        step, loss = state.global_step, float(logs["loss"])
        if not math.isfinite(loss):
            raise HanpacaError(
                f"training diverged: the loss of step {step} is {loss}; the last checkpoint before "
                "it is kept",
                "lower {learning_rate} or {row_learning_rate}",
            )
        speed = self.sitting_steps / max(self.sitting_seconds, 1e-9)
        self.last = Step(
            step=step,
            num_steps=state.max_steps,
            loss=loss,
            tokens_per_second=speed * self.tokens_per_step,
            seconds=self.seconds + self.sitting_seconds,
            seconds_left=(state.max_steps - step) / max(speed, 1e-9),
        )
        asked = self.probe and (step % self.probe.every_steps == 0 or step == state.max_steps)
        measured = self.measures()  # of all processes together
        if leads():
            self._record(logs, measured, self.last, asked=bool(asked))
        if asked:
            self._end(state, control)

    def _record(
        self,
        logs: Mapping[str, float],
        measured: Mapping[str, float],
        last: Step,
        *,
        asked: bool,
    ) -> None:
        line = {
            "step": last.step,
            "loss": last.loss,
            "grad_norm": float(logs.get("grad_norm", math.nan)),
            "learning_rate": float(logs["learning_rate"]),
            "tokens": last.step * self.tokens_per_step,
            "seconds": round(last.seconds, 3),
            "num_steps": last.num_steps,
            **measured,
        }
        if self.probe and asked:
            line |= (answers := dict(self.probe.ask()))
            if self.probe.monitor:
                judged = self.probe.monitor.judge(last.step, last.num_steps, self.before, answers)
                line |= judged
        self._append(line)
        self.on_step(last)

    def _end(self, state: TrainerState, control: TrainerControl) -> None:
        """Let all processes know what was decided, and end their training where that is it.

        No checkpoint is kept of this step: what is killed goes on before it, to end here again.
        """
        self._agree()
        if self.ended:
            control.should_training_stop = True
            control.should_save = False

    def _agree(self) -> None:
        """Give every process the decisions of the first one's monitor."""
        if num_processes() > 1 and self.probe and (monitor := self.probe.monitor):
            decided = [(monitor.ended, monitor.raised)]
            torch.distributed.broadcast_object_list(decided)
            monitor.ended, monitor.raised[:] = decided[0]

    @property
    def ended(self) -> bool:
        """Whether the training was ended before its last step."""
        return bool(self.probe and self.probe.monitor and self.probe.monitor.ended)

    def on_save(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Mark the checkpoint as whole, now that everything of it is written."""
        if num_processes() > 1:  # each writes its own random state
            torch.distributed.barrier()
        if leads():
            folder = Path(str(args.output_dir)) / f"checkpoint-{state.global_step}"
            (folder / WHOLE).touch()

    def _append(self, line: Mapping[str, Any]) -> None:
        with self.path.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(line, ensure_ascii=False) + "\n")


def first_and_last(file: Path, name: str) -> tuple[float, float] | None:
    """What a probe answered before the first step and after the last, where it did."""
    lines = file.read_text(encoding="utf-8").split("\n")
    found = [
        float(row[name]) for line in lines if _is_json(line) and name in (row := json.loads(line))
    ]
    return (found[0], found[-1]) if len(found) > 1 else None


def _is_json(line: str) -> bool:
    """Whether a line was written whole (a kill can cut the last one short)."""
    try:
        json.loads(line)
    except json.JSONDecodeError:
        return False
    return True


def _step(row: Mapping[str, Any], num_steps: int) -> Step:
    """What an earlier sitting told with this line; there may be no step left to tell of."""
    speed = row["tokens"] / max(row["seconds"], 1e-9)
    left = (num_steps - row["step"]) * row["seconds"] / row["step"]
    return Step(row["step"], num_steps, row["loss"], speed, row["seconds"], left)
