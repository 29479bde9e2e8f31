"""Long curves of two arms, and where they meet, if they do.

An arm's training is kept beside the run that gives its text, so that it goes on where it was
stopped; what was measured on the way is one file an arm in `results/extension_long/`. Seconds are
steps times the seconds a step of each size took on a quiet machine (`extension_pays.json`), so that
other work during the hours does not count.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.curves import draw_bits
from benchmarks.extension_arms import (
    Arm,
    Material,
    asked,
    blocks_of,
    characters_in,
    learn,
    optimizer_of,
    prepared,
)
from hanpaca.files import whole, write_atomically
from hanpaca.model.load import load_tokenizer
from hanpaca.model.loss import NextTokenLoss
from hanpaca.report.charts import Line

RESULTS = Path(__file__).parent / "results" / "extension_long"
TIMES = Path(__file__).parent / "results" / "extension_pays.json"
MOST_STEPS = 4_096
"""The order of the text is drawn for as many, however many are trained."""
CHECKPOINT_STEPS = 20
REDRAWS = 2_000
Floats = NDArray[np.float64]


def probed(step: int) -> bool:
    """Whether held-out text is asked after so many steps: 10, 20, 40, 80, 120, 160, 240, and on."""
    return step == 10 or any(step == times << power for times in (20, 120) for power in range(8))


def train_long(material: Material, arm: Arm, kept: Path, num_steps: int) -> None:
    """Train up to a step, from where an earlier sitting ended.

    Args:
        material: Of all arms.
        arm: What is trained; its `num_steps` does not count.
        kept: Folder for the tokenizer and the checkpoint.
        num_steps: Optimizer steps in all, at most `MOST_STEPS`.
    """
    kept.mkdir(parents=True, exist_ok=True)
    model = prepared(material, arm, kept)
    tokenizer = load_tokenizer(kept)
    blocks = blocks_of(material, kept, MOST_STEPS * arm.batch_blocks, seed=arm.seed)
    loss_of, optimizer = NextTokenLoss(model), optimizer_of(model, arm)
    checkpoint, result_file = kept / "checkpoint.pt", RESULTS / f"{slug(arm)}.json"
    result: dict[str, Any] = {
        "arm": {key: value for key, value in asdict(arm).items() if key != "num_steps"},
        "characters_per_step": characters_in(tokenizer, blocks) / len(blocks) * arm.batch_blocks,
        "heldout_characters": [len(text) for text in material.heldout],
        "points": [],
    }
    done = 0
    if checkpoint.exists():
        state = torch.load(checkpoint, weights_only=True)
        done, result = state["step"], state["result"]
        model.load_state_dict(state["trained"], strict=False)
        optimizer.load_state_dict(state["optimizer"])
    trained = [name for name, one in model.named_parameters() if one.requires_grad]
    for step in range(done, num_steps + 1):
        if step > done:
            learn(loss_of, optimizer, blocks, step - 1, arm)
        if step > done and (probed(step) or step == num_steps):
            heldout = asked(model, tokenizer, material.heldout)
            english = asked(model, tokenizer, material.english)
            result["tokens_per_han_character"] = heldout.tokens_per_character
            result["points"].append(
                {
                    "step": step,
                    "zh": heldout.bits_per_character,
                    "english": english.bits_per_character,
                    "heldout_bits": [round(bits, 2) for bits in heldout.per_text_bits],
                }
            )
            print(f"{arm.name}: {step} {heldout.bits_per_character:.4f}", flush=True)
        elif step % CHECKPOINT_STEPS or step == done:
            continue
        weights = model.state_dict()
        state = {
            "step": step,
            "result": result,
            "trained": {name: weights[name] for name in trained},
            "optimizer": optimizer.state_dict(),
        }
        with whole(checkpoint, replace=True) as path:
            torch.save(state, path)
        RESULTS.mkdir(exist_ok=True)
        write_atomically(result_file, json.dumps(result, indent=1) + "\n")


def slug(arm: Arm) -> str:
    """The arm's name as a file's."""
    return arm.name.replace(", ", "_").replace("=", "")


def report_long(*, seed: int) -> None:
    """Draw what was measured, and say where each extended arm meets the plain one of its seed."""
    times = json.loads(TIMES.read_text())["seconds_per_step"]
    found = [json.loads(file.read_text()) for file in sorted(RESULTS.glob("N*.json"))]
    results = [one for one in found if one["points"]]
    for one in results:
        size, blocks = str(one["arm"]["num_pieces"]), one["arm"]["batch_blocks"]
        one["seconds_per_step"] = times[size] * blocks / 2
    plain = {one["arm"]["seed"]: one for one in results if not one["arm"]["num_pieces"]}
    _draw(results, plain)
    summary = {
        f"{_name(one)} against {_name(plain[one['arm']['seed']])}": {
            axis: meeting(plain[one["arm"]["seed"]], one, axis, seed=seed)
            for axis in ("seconds", "characters")
        }
        for one in results
        if one["arm"]["num_pieces"] and one["arm"]["seed"] in plain
    }
    print(json.dumps(summary, indent=1))
    write_atomically(RESULTS / "crossing.json", json.dumps(summary, indent=1) + "\n")


def meeting(
    plain: Mapping[str, Any], extended: Mapping[str, Any], axis: str, *, seed: int, last: int = 4
) -> dict[str, Any]:
    """Where two curves meet over an axis, or how far apart they are at the end of what both have.

    Curves that have not met are drawn on as straight lines over log x through the last points.
    Intervals are of redraws of the held-out texts: they do not tell how much training runs differ.

    Args:
        plain: Of the arm without new pieces.
        extended: Of the other.
        axis: "seconds" or "characters".
        seed: Of the redraws.
        last: Points that a line is drawn through.
    """
    lengths_t = np.asarray(plain["heldout_characters"], dtype=float)
    draws = np.random.default_rng(seed).multinomial(
        len(lengths_t), np.full(len(lengths_t), 1 / len(lengths_t)), size=REDRAWS
    )
    weights_rt = np.concatenate([np.ones((1, len(lengths_t))), draws])
    x, gaps_rx = gaps(plain, extended, axis, weights_rt)
    places = [crossing(x, gaps_x, last) for gaps_x in gaps_rx]
    met = [place for place in places[1:] if place is not None and place <= x[-1]]
    return {
        "last_common": round(float(x[-1])),
        "gap_there": round(float(gaps_rx[0, -1]), 3),
        "gap_interval": _middle(gaps_rx[1:, -1], digits=3),
        "met": _shown(places[0] if places[0] and places[0] <= x[-1] else None),
        "share_of_redraws_that_met": round(len(met) / REDRAWS, 3),
        "met_or_drawn_on": _shown(places[0]),
        "interval": _middle([np.inf if place is None else place for place in places[1:]]),
    }


def gaps(
    plain: Mapping[str, Any], extended: Mapping[str, Any], axis: str, weights_rt: Floats
) -> tuple[Floats, Floats]:
    """Bits per character that the extended arm is behind, where both curves are known.

    Returns:
        The extended arm's places on the axis, (places,), and for every weighting of the held-out
        texts the gap at each, (weightings, places).
    """
    lengths_t = np.asarray(plain["heldout_characters"], dtype=float)
    (x_plain, plain_rp), (x, extended_rx) = (
        (
            np.array([point["step"] for point in one["points"]]) * one[f"{axis}_per_step"],
            weights_rt
            @ np.array([point["heldout_bits"] for point in one["points"]]).T
            / (weights_rt @ lengths_t)[:, None],
        )
        for one in (plain, extended)
    )
    # The last place may differ by how long a step of each takes.
    both = (x >= x_plain[0] * 0.95) & (x <= x_plain[-1] * 1.05)
    there_rx = np.stack([np.interp(np.log(x[both]), np.log(x_plain), row) for row in plain_rp])
    return x[both], extended_rx[:, both] - there_rx


def crossing(x: Floats, gaps_x: Floats, last: int) -> float | None:
    """Where a gap closes for good, on log x: between measured places, or drawn on; None: never."""
    logs = np.log2(x)
    if gaps_x[-1] <= 0:
        above = np.flatnonzero(gaps_x > 0)
        if not len(above):
            return float(x[0])
        k = int(above[-1])
        share = gaps_x[k] / (gaps_x[k] - gaps_x[k + 1])
        return float(2 ** (logs[k] + share * (logs[k + 1] - logs[k])))
    slope, start = np.polyfit(logs[-last:], gaps_x[-last:], 1)
    if slope >= 0 or -start / slope > 60:
        return None
    return float(2 ** max(-start / slope, logs[-1]))


def _middle(values: Sequence[float] | Floats, *, digits: int | None = None) -> list[Any]:
    """The middle four fifths; None for an end that lies at infinity."""
    ends = np.quantile(np.asarray(values), [0.1, 0.9], method="nearest").tolist()
    return [round(end, digits) if digits is not None else _shown(end) for end in ends]


def _shown(place: float | None) -> float | None:
    return None if place is None or np.isinf(place) else float(f"{place:.2g}")


def _name(one: Mapping[str, Any]) -> str:
    return Arm(**one["arm"]).name


def _draw(results: Sequence[dict[str, Any]], plain: Mapping[int, Mapping[str, Any]]) -> None:
    """Curves over both axes, each named with how much fewer tokens it writes."""
    for axis in ("seconds", "characters"):
        lines: list[Line] = []
        for one in results:
            base = plain.get(one["arm"]["seed"])
            speed = (
                base["tokens_per_han_character"] / one["tokens_per_han_character"] if base else 1
            )
            points = [(p["step"] * one[f"{axis}_per_step"], p["zh"]) for p in one["points"]]
            lines.append((f"{_name(one)}: writes {speed:.2f} x as fast", points))
        draw_bits(axis, lines, RESULTS / f"{axis}.svg")
