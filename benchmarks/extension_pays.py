"""Does extending the vocabulary pay? LoRA without new pieces against extensions of several sizes.

Every arm trains on the same Chinese and English text, and is asked for bits per character of
held-out text on the way. Needs the 05-data stage of a quickstart run:

    python -m benchmarks.extension_pays train runs/quickstart   # arm by arm; goes on where it was
    python -m benchmarks.extension_pays time runs/quickstart    # seconds a step, on a quiet machine
    python -m benchmarks.extension_pays report

`train` counts steps and characters, which other work on the machine cannot disturb; `time` measures
seconds a step of every size in turn, and `report` puts both together: curves over seconds and over
characters, and where they cross.

`--long` is for hours: thousands of steps of one arm, in as many sittings as it takes (see
extension_long.py).

    python -m benchmarks.extension_pays train runs/quickstart --long 0 --steps 4000
    python -m benchmarks.extension_pays report --long 0
"""

import argparse
import json
import platform
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from torch import nn

from benchmarks import extension_long
from benchmarks.curves import draw_bits
from benchmarks.extension_arms import (
    RECIPE,
    Arm,
    Material,
    asked,
    bits_by_kind,
    blocks_of,
    characters_in,
    learn,
    optimizer_of,
    prepared,
    read_material,
)
from hanpaca.data.pack import Blocks
from hanpaca.lora_settings import LoraSettings
from hanpaca.model.attention import use_grouped_attention
from hanpaca.model.dtype import faster_dtype
from hanpaca.model.load import CausalLM, load_model, load_tokenizer
from hanpaca.model.lora import add_lora, add_new_rows
from hanpaca.model.loss import NextTokenLoss
from hanpaca.runs.base import resolve_base
from hanpaca.runs.recipe import load_recipe

RESULT = Path(__file__).parent / "results" / "extension_pays.json"
LEVERS_RESULT = Path(__file__).parent / "results" / "extension_levers.json"
PLOT = Path(__file__).parent / "results" / "extension_pays.{}.svg"
SIZES = (0, 250, 500, 1000, 2000, 4000)
LONG = 120
DRAWN_BLOCKS = 1_000
"""So that the order of the text is the same however long an arm trains."""
PROBED_STEPS = (0, 20, 40, 80)


ARMS = (
    Arm(0, LONG),
    Arm(1000, LONG),
    Arm(250),
    Arm(500),
    Arm(2000),
    Arm(1000, method="mean"),
    Arm(1000, row_learning_rate=1e-2),
    Arm(1000, fit_output_passes=1),
    Arm(1000, shared=1.0),
    Arm(4000),
    Arm(1000, fit_output_passes=1, fit_input_steps=40),
    Arm(1000, row_learning_rate=1e-3),
    Arm(1000, learning_rate=2e-3),
)
LEVERS = (
    Arm(1000, rotated=True),
    Arm(1000, rotated=True, glosses="input"),
    Arm(1000, shared_updates=True, glosses="both"),
    Arm(1000, rotated=True, whitened=0.5),
    Arm(1000, rotated=True, own=0.7),
)
"""One at a time; `--levers`."""
LONG_ARMS = (
    Arm(0),
    Arm(1000),
    Arm(0, seed=1),
    Arm(1000, seed=1),
    Arm(1000, shared_updates=True),
    Arm(1000, shared_updates=True, rotated=True),
    Arm(500, shared_updates=True),
    Arm(1000, shared_updates=True, glosses="both"),
    Arm(1000, glosses="both"),
    Arm(1000, rotated=True, glosses="both"),
    Arm(1000, rotated=True, shared_updates=True, glosses="both"),
    Arm(500, rotated=True),
    Arm(250, rotated=True),
    Arm(1000, rotated=True),
    Arm(1000, twins=True),
    Arm(1000, twins=True, shared_updates=True),
    Arm(1000, twins=True, shared_updates=True, rotated=True),
    Arm(1000, rotated=True, floored=True),
    Arm(1000, twins=True, shared_updates=True, rotated=True, floored=True),
    Arm(1000, twins=True, twin_words="any", shared_updates=True, rotated=True),
    Arm(500, twins=True, shared_updates=True, rotated=True),
    Arm(1000, twins=True, shared_updates=True, rotated=True, seed=1),
)
LONG_HELP = "an arm for hours, by number: " + "; ".join(
    f"{number} is {arm.name}" for number, arm in enumerate(LONG_ARMS)
)


def train(
    model: CausalLM, blocks: Blocks, arm: Arm, probe: Callable[[int], None], num_steps: int
) -> list[float]:
    """Train, and ask on the way; the seconds of each step."""
    loss_of, optimizer = NextTokenLoss(model), optimizer_of(model, arm)
    seconds = []
    for step in range(num_steps):
        if step in PROBED_STEPS:
            probe(step)
        began = time.perf_counter()
        learn(loss_of, optimizer, blocks, step, arm)
        seconds.append(time.perf_counter() - began)
    probe(num_steps)
    return seconds


def run_arm(material: Material, arm: Arm) -> dict[str, Any]:
    """Train one arm and measure it on the way."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = prepared(material, arm, folder)
        tokenizer = load_tokenizer(folder)
        blocks = blocks_of(material, folder, DRAWN_BLOCKS, seed=arm.seed)
        characters_per_block = characters_in(tokenizer, blocks) / len(blocks)
        points: list[dict[str, float]] = []

        def probe(step: int) -> None:
            score = asked(model, tokenizer, material.heldout)
            points.append(
                {
                    "step": step,
                    "characters": round(step * arm.batch_blocks * characters_per_block),
                    "zh": round(score.bits_per_character, 4),
                }
            )
            print(arm.name, points[-1], flush=True)

        train(model, blocks, arm, probe, arm.num_steps)
        english = asked(model, tokenizer, material.english).bits_per_character
        score = asked(model, tokenizer, material.heldout)
        first_id = len(load_tokenizer(material.base))
        split = bits_by_kind(model, tokenizer, first_id, material.heldout)
    return {
        "arm": asdict(arm),
        "tokens_per_han_character": round(score.tokens_per_character, 4),
        "english_at_end": round(english, 4),
        "points": points,
        "bits_by_kind": split,
    }


def time_steps(base: Path, rounds: int) -> dict[str, float]:
    """Median seconds of a step of 2 x 256 tokens for each size, in turn; ids and rows are any."""
    found: dict[int, list[float]] = {size: [] for size in SIZES}
    ids = np.random.default_rng(0).integers(3, 49_000, size=(8, 256)).astype(np.int32)
    blocks = Blocks(ids, ids, np.tile(np.arange(256, dtype=np.int32), (8, 1)))
    for _ in range(rounds):
        for size in SIZES:
            model = load_model(base, dtype=faster_dtype())
            table_vd = model.model.embed_tokens.weight
            grown_vd = torch.cat([table_vd, table_vd[:size]])
            rows, hidden = grown_vd.shape
            model.model.embed_tokens = nn.Embedding(rows, hidden, _weight=grown_vd)
            if size:
                model.lm_head.weight = nn.Parameter(grown_vd.clone(), requires_grad=False)
            add_lora(model, LoraSettings(rank=32, alpha=64))
            if size:
                add_new_rows(model, size)
            use_grouped_attention(model)
            found[size] += train(model, blocks, Arm(size), lambda step: None, 4)[1:]
    return {str(size): round(median(values), 3) for size, values in found.items()}


def seconds_of(entry: dict[str, Any], step: float, result: dict[str, Any]) -> float:
    """Training time up to a step; what fitting rows before takes does not count."""
    arm = entry["arm"]
    each = result["seconds_per_step"][str(arm["num_pieces"])] * arm["batch_blocks"] / 2
    return float(step * each)


def value_at(points: Sequence[tuple[float, float]], x: float) -> float | None:
    """Linear between measured points; None beyond them."""
    for (x0, y0), (x1, y1) in pairwise(points):
        if x0 <= x <= x1:
            return y0 + (y1 - y0) * (x - x0) / (x1 - x0)
    return None


def crossing(
    plain: Sequence[tuple[float, float]], extended: Sequence[tuple[float, float]], last: int
) -> float:
    """Where two curves meet if each goes on as a line through its `last` points over log x."""

    def line(points: Sequence[tuple[float, float]]) -> tuple[float, float]:
        logs = np.log2([x for x, _ in points[-last:]])
        slope, start = np.polyfit(logs, [y for _, y in points[-last:]], 1)
        return float(start), float(slope)

    (plain_start, plain_slope), (start, slope) = line(plain), line(extended)
    return float(2 ** ((start - plain_start) / (plain_slope - slope)))


def report(result: dict[str, Any]) -> None:
    """Print the table, draw the plots, and say where lines cross."""
    curves: dict[str, dict[str, list[tuple[float, float]]]] = {"seconds": {}, "characters": {}}
    base_ratio = result["arms"]["N=0"]["tokens_per_han_character"]
    for name, entry in result["arms"].items():
        curves["seconds"][name] = [
            (seconds_of(entry, p["step"], result), p["zh"]) for p in entry["points"]
        ]
        curves["characters"][name] = [(p["characters"], p["zh"]) for p in entry["points"]]
        at_60 = value_at(curves["seconds"][name], 60.0)
        at_8k = value_at(curves["characters"][name], 8_000)
        entry["summary"] = {
            "fewer_tokens": round(base_ratio / entry["tokens_per_han_character"], 2),
            "zh_at_start": entry["points"][0]["zh"],
            "zh_at_60_seconds": at_60 and round(at_60, 3),
            "zh_at_8000_characters": at_8k and round(at_8k, 3),
            "english_at_end": entry["english_at_end"],
        }
        print(f"{name:34}", entry["summary"])
    result["crossing"] = {
        f"{axis}, through the last {last} points": float(
            f"{crossing(lines['N=0'], lines['N=1000'], last):.2g}"
        )
        for axis, lines in curves.items()
        for last in (3, 4)
    }
    print(result["crossing"])
    for axis, lines in curves.items():
        plain = [(name, line) for name, line in lines.items() if "," not in name]
        chosen = sorted(plain, key=lambda one: int(one[0].removeprefix("N=")))
        draw_bits(axis, chosen, Path(str(PLOT).format(axis)))


def main() -> None:
    """Train, time or report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["train", "time", "report"])
    parser.add_argument("run", type=Path, nargs="?", default=Path("runs/quickstart"))
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--long", type=int, nargs="?", const=0, metavar="ARM", help=LONG_HELP)
    parser.add_argument("--steps", type=int, default=4_000, help="of a long arm, in all")
    parser.add_argument("--levers", action="store_true", help="train what was tried to gain")
    parser.add_argument("--cedict", type=Path, help="CC-CEDICT's file, for arms with glosses")
    options = parser.parse_args()
    if options.long is not None:
        arm = LONG_ARMS[options.long]
        if options.what == "train":
            kept = options.run / "extension-long" / extension_long.slug(arm)
            extension_long.train_long(
                read_material(options.run, options.cedict), arm, kept, options.steps
            )
        else:
            extension_long.report_long(seed=0)
        return
    file = LEVERS_RESULT if options.levers else RESULT
    result: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {"arms": {}}
    result["machine"] = f"{platform.machine()}, {torch.get_num_threads()} threads"
    match options.what:
        case "train":
            material = read_material(options.run, options.cedict)
            for arm in LEVERS if options.levers else ARMS:
                if arm.name not in result["arms"]:
                    result["arms"][arm.name] = run_arm(material, arm)
                    file.write_text(json.dumps(result, indent=1) + "\n")
        case "time":
            base = resolve_base(load_recipe(RECIPE), print)[0]
            result["seconds_per_step"] = time_steps(base, options.rounds)
        case _ if options.levers:
            for name, entry in result["arms"].items():
                told = ", ".join(f"{p['step']} {p['zh']:.3f}" for p in entry["points"])
                print(f"{name}: {told}; English {entry['english_at_end']}")
                print(entry.get("bits_by_kind", ""))
        case _:
            report(result)
    file.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
