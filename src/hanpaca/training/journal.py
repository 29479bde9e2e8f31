"""What a training run tells while it goes: a line a step, its rate, and probes of the model."""

import json
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from hanpaca.errors import HanpacaError

WHOLE = "whole"
"""Marks a checkpoint folder as completely written."""


@dataclass(frozen=True)
class Progress:
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


class Journal(TrainerCallback):
    """Writes `metrics.jsonl`, tells progress, probes, and stops a run that diverges."""

    def __init__(
        self,
        path: Path,
        *,
        tokens_per_step: int,
        on_progress: Callable[[Progress], None],
        probe: Probe | None,
    ) -> None:
        self.path = path
        self.tokens_per_step = tokens_per_step
        self.on_progress = on_progress
        self.probe = probe
        self.last: Progress | None = None
        self.seconds = 0.0
        self.sitting_seconds = 0.0
        self.sitting_steps = 0
        self.step_began = 0.0

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Drop the lines written after the checkpoint training goes on from."""
        # Not splitlines(): a sample may hold U+2028 or U+0085, which JSON does not escape.
        lines = self.path.read_text(encoding="utf-8").split("\n") if self.path.exists() else []
        kept = [
            line
            for line in lines
            if _is_json(line) and json.loads(line)["step"] <= state.global_step
        ]
        self.path.write_text("".join(line + "\n" for line in kept), encoding="utf-8")
        if kept:
            row = json.loads(kept[-1])
            self.seconds = float(row["seconds"])
            self.last = _progress(row, state.max_steps) if row["step"] else None
        elif self.probe:
            self._append({"step": 0, "seconds": 0.0, **self.probe.ask()})

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
                "it is kept; lower learning_rate (or row_learning_rate) in the recipe"
            )
        speed = self.sitting_steps / max(self.sitting_seconds, 1e-9)
        self.last = Progress(
            step=step,
            num_steps=state.max_steps,
            loss=loss,
            tokens_per_second=speed * self.tokens_per_step,
            seconds=self.seconds + self.sitting_seconds,
            seconds_left=(state.max_steps - step) / max(speed, 1e-9),
        )
        line = {
            "step": step,
            "loss": loss,
            "grad_norm": float(logs.get("grad_norm", math.nan)),
            "learning_rate": float(logs["learning_rate"]),
            "tokens": step * self.tokens_per_step,
            "seconds": round(self.last.seconds, 3),
        }
        if self.probe and (step % self.probe.every_steps == 0 or step == state.max_steps):
            line |= dict(self.probe.ask())
        self._append(line)
        self.on_progress(self.last)

    def on_save(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Mark the checkpoint as whole, now that everything of it is written."""
        folder = Path(str(args.output_dir)) / f"checkpoint-{state.global_step}"
        (folder / WHOLE).touch()

    def _append(self, line: Mapping[str, Any]) -> None:
        with self.path.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(line, ensure_ascii=False) + "\n")


def _is_json(line: str) -> bool:
    """Whether a line was written whole (a kill can cut the last one short)."""
    try:
        json.loads(line)
    except json.JSONDecodeError:
        return False
    return True


def _progress(row: Mapping[str, Any], num_steps: int) -> Progress:
    """What an earlier sitting told with this line; there may be no step left to tell of."""
    speed = row["tokens"] / max(row["seconds"], 1e-9)
    left = (num_steps - row["step"]) * row["seconds"] / row["step"]
    return Progress(row["step"], num_steps, row["loss"], speed, row["seconds"], left)
