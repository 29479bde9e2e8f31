r"""Which arm wins in an evening: LoRA without new pieces, or the recipe's extension?

Both are the recipe `evening` on the same text, for as many steps; a second or third way to start is
a run with other overrides. A run is compared with the first one given that has its held-out text:

    hanpaca run evening --run runs/plain tokenizer.num_pieces=0 pretrain.row_updates=apart
    hanpaca run evening --run runs/twins-2000
    hanpaca run evening --run runs/twins-500 tokenizer.num_pieces=500
    hanpaca run evening --run runs/shipped rows.input=mean rows.output=first_piece \
        rows.dictionary=null pretrain.row_updates=apart
    python -m benchmarks.evening runs/plain runs/twins-2000 runs/shipped runs/twins-500

`data.heldout_documents` draws the texts anew. How long a step takes is measured of short runs on a
quiet core, one after the other, of the same names and given by `--timed`:
`pretrain.num_tokens=18_432`.

Where two curves meet is told with an interval of redraws of the probed texts (the middle four
fifths; of the gaps at the end nine tenths), over steps, characters of training text and, of arms
that were timed, seconds; `pretrain.probed_texts=64` makes it narrow. A pair
of 4,000 steps, into `results/evening_long.json`:

    hanpaca run evening --run runs/long-plain tokenizer.num_pieces=0 pretrain.row_updates=apart \
        pretrain.num_tokens=2_048_000 pretrain.probed_texts=64 pretrain.sample_steps=200
    hanpaca run evening --run runs/long-twins-2000 \
        pretrain.num_tokens=2_048_000 pretrain.probed_texts=64 pretrain.sample_steps=200
    python -m benchmarks.evening runs/long-plain runs/long-twins-2000 \
        --timed timed/long-plain timed/long-twins-2000 --result evening_long

Only what is there after pretraining (40-merged) is asked: bits per character of the held-out text
of both languages, with intervals of redraws of the texts (they do not tell how much training runs
differ). Curves are of the probes on the way, which are of fewer texts; of a run that was stopped
while it trained there is only its curve.
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from benchmarks.curves import draw_bits
from benchmarks.extension_long import meeting
from hanpaca.data.jsonl import read_jsonl, read_texts
from hanpaca.manifests import read_manifest
from hanpaca.model.load import load_tokenizer
from hanpaca.steps.text_scores import known_score
from hanpaca.training.adapter import PROBED_CHARACTERS
from hanpaca.training.monitor import HELDOUT, REPLAY_HELDOUT, TEXT_BITS

RESULTS = Path(__file__).parent / "results"
REDRAWS = 2_000
_MOST = PROBED_CHARACTERS[HELDOUT]
MEASURED: tuple[tuple[str, int, tuple[str, ...]], ...] = (
    ("text.heldout.jsonl", 20_000, ("Han",)),
    ("replay.heldout.jsonl", 20_000, ()),
)
"""Files of 05-data, characters of them, and scripts that tokens per character are counted in."""


def measured(run: Path) -> dict[str, Any]:
    """Curve and seconds a step; of a whole one, bits of each held-out text after pretraining."""
    whole = (run / "40-merged").is_dir()
    training = "30-pretrain" if whole else "30-pretrain.partial"
    rows = list(read_jsonl(run / training / "metrics.jsonl"))
    tokenizer = read_manifest(run / "10-tokenizer").metrics
    return {
        "rows": read_manifest(run / "20-base").config,
        "num_pieces": tokenizer["num_pieces"],
        "tokens_per_character": tokenizer["tokens_per_character_after"],
        "points": [
            {
                "step": row["step"],
                "zh": round(row[HELDOUT], 4),
                "en": round(row[REPLAY_HELDOUT], 4),
                **({"text_bits": row[TEXT_BITS[HELDOUT]]} if TEXT_BITS[HELDOUT] in row else {}),
            }
            for row in rows
            if HELDOUT in row
        ],
        **_probed(run, len(rows[-1].get(TEXT_BITS[HELDOUT], rows[0].get(TEXT_BITS[HELDOUT], [])))),
        **(_scored(run) if whole else {}),
    }


def _probed(run: Path, number: int) -> dict[str, Any]:
    """Of the texts that were probed: their lengths, and tokens of all held-out text a character."""
    texts = [text[:_MOST] for text in read_texts(run / "05-data" / "text.heldout.jsonl")]
    tokenizer = load_tokenizer(run / "10-tokenizer")
    num_tokens = sum(len(ids) for ids in tokenizer(texts, add_special_tokens=False)["input_ids"])
    return {
        "probed_characters": [len(text) for text in texts[:number]],
        "training_tokens_per_character": (num_tokens + 2 * len(texts)) / sum(map(len, texts)),
    }


def seconds_per_step(training: Path) -> float:
    """The median of a training's steps."""
    seconds = [row["seconds"] for row in read_jsonl(training / "metrics.jsonl")]
    return round(float(median(np.diff(seconds))), 4)


def _scored(run: Path) -> dict[str, Any]:
    heldout, replay = (
        known_score(
            run / "40-merged",
            _texts(run / "05-data" / name, most),
            scripts=scripts,
            cache=run.parent / "known",
        )[0]
        for name, most, scripts in MEASURED
    )
    return {
        "config": read_manifest(run / "30-pretrain").config,
        "tokens_per_han_character": round(heldout.tokens_per_character, 4),
        "zh": round(heldout.bits_per_character, 4),
        "en": round(replay.bits_per_character, 4),
        "heldout_bits": [round(bits, 2) for bits in heldout.per_text_bits],
        "heldout_characters": list(heldout.per_text_characters),
    }


def _texts(file: Path, most: int) -> list[str]:
    kept: list[str] = []
    for text in read_texts(file):
        if sum(map(len, kept)) >= most:
            break
        kept.append(text[:2_000])
    return kept


def gap(plain: Mapping[str, Any], other: Mapping[str, Any], *, seed: int = 0) -> dict[str, Any]:
    """Bits per character by which an arm is behind at the end, with the middle nine tenths."""
    lengths = np.asarray(plain["heldout_characters"], dtype=float)
    more = np.asarray(other["heldout_bits"]) - np.asarray(plain["heldout_bits"])
    draws = np.random.default_rng(seed).integers(len(lengths), size=(REDRAWS, len(lengths)))
    gaps = more[draws].sum(axis=1) / lengths[draws].sum(axis=1)
    low, high = np.quantile(gaps, [0.05, 0.95])
    return {
        "zh": round(float(more.sum() / lengths.sum()), 4),
        "interval": [round(float(low), 4), round(float(high), 4)],
        "fewer_tokens": round(
            plain["tokens_per_han_character"] / other["tokens_per_han_character"], 3
        ),
    }


def axes(
    arms: Mapping[str, Mapping[str, Any]], times: Mapping[str, float]
) -> dict[str, dict[str, float]]:
    """How far a step goes on each axis, of the arms for which it is known."""
    text = {
        name: one["config"]["block_tokens"]
        * one["config"]["batch_blocks"]
        * (1 - one["config"]["replay_fraction"])
        / one["training_tokens_per_character"]
        for name, one in arms.items()
        if "config" in one
    }
    return {"steps": dict.fromkeys(arms, 1.0), "characters": text, "seconds": dict(times)}


def meetings(
    plain: str,
    other: str,
    arms: Mapping[str, Mapping[str, Any]],
    lasts: Mapping[str, Mapping[str, float]],
) -> dict[str, Any]:
    """Where two curves meet on each axis that both are known on; see `extension_long.meeting`."""
    found = {}
    for axis, last in lasts.items():
        if {plain, other} <= last.keys():
            first, second = (
                {
                    "heldout_characters": arms[name]["probed_characters"],
                    f"{axis}_per_step": last[name],
                    "points": [
                        {"step": point["step"], "heldout_bits": point["text_bits"]}
                        for point in arms[name]["points"]
                        if point["step"]
                    ],
                }
                for name in (plain, other)
            )
            found[axis] = meeting(first, second, axis, seed=0)
    return found


def draw(
    arms: Mapping[str, Mapping[str, Any]],
    lasts: Mapping[str, Mapping[str, float]],
    gaps: Mapping[str, Mapping[str, Any]],
    result: str,
) -> None:
    """Curves over each axis, each named with how much faster it writes than what it is beside."""
    for axis, last in lasts.items():
        lines = []
        for name, one in arms.items():
            if name in last:
                faster = gaps[name]["fewer_tokens"] if name in gaps else None
                told = f"{name}: {faster:.2f} x fewer tokens" if faster else name
                lines.append((told, [(p["step"] * last[name], p["zh"]) for p in one["points"]]))
        if lines:
            draw_bits(axis, lines, RESULTS / f"{result}.{axis}.svg")


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure the runs, and compare each with the first."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", type=Path, nargs="+")
    parser.add_argument("--timed", type=Path, nargs="*", default=[], help="for seconds a step")
    parser.add_argument("--result", default="evening", help="name of the files in results/")
    options = parser.parse_args(arguments)
    arms = {run.name: measured(run) for run in options.runs}
    times = {run.name: seconds_per_step(run / "30-pretrain") for run in options.timed}
    lasts = axes(arms, times)
    gaps, met = {}, {}
    for name, one in arms.items():
        first = next(at for at, other in arms.items() if _of_one_text(one, other))
        if first != name:
            gaps[name] = {"than": first, **gap(arms[first], one)}
            if all("text_bits" in point for at in (first, name) for point in arms[at]["points"]):
                met[name] = meetings(first, name, arms, lasts)
        print(name, one.get("zh"), one.get("en"), gaps.get(name, ""), met.get(name, ""))
    result = {"arms": arms, "gaps": gaps, "meetings": met, "seconds_per_step": times}
    text = json.dumps(result, indent=1) + "\n"
    (RESULTS / f"{options.result}.json").write_text(text, encoding="utf-8")
    draw(arms, lasts, gaps, options.result)


def _of_one_text(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    name = "heldout_characters"
    return one is other or (name in one and one[name] == other.get(name))


if __name__ == "__main__":
    main()
