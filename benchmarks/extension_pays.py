"""Does extending the vocabulary pay? LoRA without new pieces against extensions of several sizes.

Every arm trains on the same Chinese and English text, and is asked for bits per character of
held-out text on the way. Needs the 05-data stage of a quickstart run:

    python benchmarks/extension_pays.py train runs/quickstart   # arm by arm; goes on where it was
    python benchmarks/extension_pays.py time runs/quickstart    # seconds a step, on a quiet machine
    python benchmarks/extension_pays.py report

`train` counts steps and characters, which other work on the machine cannot disturb; `time` measures
seconds a step of every size in turn, and `report` puts both together: curves over seconds and over
characters, and where they cross.
"""

import argparse
import json
import platform
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any, Literal, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize
from transformers import PreTrainedTokenizerFast

from hanpaca.data.pack import Blocks, mix
from hanpaca.evals.bits import score_texts
from hanpaca.evals.svg import line_chart
from hanpaca.model.attention import use_grouped_attention
from hanpaca.model.dtype import faster_dtype
from hanpaca.model.fit import fit_input_rows, fit_output_rows, spell_out
from hanpaca.model.load import CausalLM, load_model, load_tokenizer, start_token
from hanpaca.model.lora import add_lora, add_new_rows
from hanpaca.model.loss import NextTokenLoss
from hanpaca.model.rows import (
    first_piece_rows,
    grow_model,
    log_rest_given_first,
    mean_hidden_state,
    mean_rows,
)
from hanpaca.model.score import negative_log_likelihoods
from hanpaca.pipeline.jsonl import read_texts
from hanpaca.pipeline.pretrain import pack_texts
from hanpaca.pipeline.source import resolve_base
from hanpaca.recipe import PretrainSection, load_recipe
from hanpaca.tokenizer import extend_tokenizer, write_extension

RESULT = Path(__file__).parent / "results" / "extension_pays.json"
PLOT = Path(__file__).parent / "results" / "extension_pays.{}.svg"
RECIPE = Path(__file__).parents[1] / "recipes" / "quickstart.yaml"
TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
SIZES = (0, 250, 500, 1000, 2000, 4000)
WARMUP_STEPS = 4
SHORT, LONG = 40, 120
PROBED_STEPS = (0, 20, 40, 80)
HELDOUT_CHARACTERS, ENGLISH_CHARACTERS = 3_000, 4_000
FIT_TEXTS = 3_000


@dataclass(frozen=True)
class Arm:
    """One way to start and train."""

    num_pieces: int
    num_steps: int = SHORT
    method: Literal["mean", "first_piece"] = "first_piece"
    row_learning_rate: float = 3e-3
    learning_rate: float = 1e-3
    fit_input_steps: int = 0
    fit_output_passes: int = 0
    shared: float = 0.0
    """Share of each character's row that the words it is part of move with."""
    batch_blocks: int = 2

    @property
    def name(self) -> str:
        """What differs from the plainest arm of this size."""
        plain = asdict(Arm(self.num_pieces, self.num_steps))
        changed = {k: v for k, v in asdict(self).items() if v != plain[k]}
        return ", ".join([f"N={self.num_pieces}", *(f"{k}={v}" for k, v in changed.items())])


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


@dataclass(frozen=True)
class Material:
    """What all arms share."""

    base: Path
    text: list[str]
    replay: list[str]
    heldout: list[str]
    english: list[str]


def read_material(run: Path) -> Material:
    """Read what the run's 05-data stage wrote."""
    data = run / "05-data"
    return Material(
        resolve_base(load_recipe(RECIPE), print)[0],
        read_texts(data / "text.jsonl"),
        read_texts(data / "replay.jsonl"),
        _up_to(read_texts(data / "text.heldout.jsonl"), HELDOUT_CHARACTERS),
        _up_to(read_texts(data / "replay.heldout.jsonl"), ENGLISH_CHARACTERS),
    )


def _up_to(texts: Sequence[str], num_characters: int) -> list[str]:
    kept: list[str] = []
    while sum(map(len, kept)) < num_characters:
        kept.append(texts[len(kept)][:2_000])
    return kept


def extended(material: Material, num_pieces: int, folder: Path) -> list[list[int]]:
    """Write the tokenizer with `num_pieces` more into `folder`; the pieces' spellings."""
    if num_pieces == 0:
        load_tokenizer(material.base).save_pretrained(folder)
        return []
    extension = extend_tokenizer(material.base, material.text, num_pieces=num_pieces)
    write_extension(extension, material.base, folder)
    return [list(spelling) for spelling in extension.spellings]


def start_rows(
    model: CausalLM, material: Material, arm: Arm, folder: Path, spellings: list[list[int]]
) -> tuple[Tensor, Tensor]:
    """Input and output rows of the new pieces before training."""
    old, new = load_tokenizer(material.base), load_tokenizer(folder)
    head = model.lm_head.weight.detach()
    input_rows, output_rows = mean_rows(head, spellings), mean_rows(head, spellings)
    texts = material.text[:5_000]
    if arm.method == "first_piece":
        base_counts = Counter(i for ids in _encoded(old, texts) for i in ids)
        counts = Counter(i for ids in _encoded(new, texts) for i in ids)
        sample = [[start_token(old), *ids] for ids in _encoded(old, texts[:100])]
        output_rows = first_piece_rows(
            head,
            spellings,
            log_rest=log_rest_given_first(
                spellings, [counts[len(old) + n] for n in range(len(spellings))], base_counts
            ),
            mean_hidden_d=mean_hidden_state(model, sample),
            nats=2.0,
        )
    fit_texts = [
        spell_out([start_token(new), *ids], spellings, first_id=len(old))
        for ids in _encoded(new, material.text[:FIT_TEXTS])
    ]
    if arm.fit_output_passes:
        output_rows = fit_output_rows(
            model, output_rows, fit_texts[:600], num_passes=arm.fit_output_passes
        )
    if arm.fit_input_steps:
        input_rows = fit_input_rows(model, input_rows, fit_texts, num_steps=arm.fit_input_steps)
    return input_rows, output_rows


def _encoded(tokenizer: PreTrainedTokenizerFast, texts: Sequence[str]) -> list[list[int]]:
    return cast(list[list[int]], tokenizer(list(texts), add_special_tokens=False).input_ids)


class Shared(nn.Module):
    """Rows as mixtures of parameters: a word's row moves with those of its characters."""

    def __init__(self, mixture_nn: Tensor) -> None:
        super().__init__()
        self.register_buffer("mixture_nn", mixture_nn)
        self.mixture_nn: Tensor

    def forward(self, parameters_nd: Tensor) -> Tensor:
        """Rows from parameters."""
        rows_nd: Tensor = self.mixture_nn @ parameters_nd
        return rows_nd

    def right_inverse(self, rows_nd: Tensor) -> Tensor:
        """Parameters from rows, for the start."""
        parameters_nd: Tensor = torch.linalg.solve(self.mixture_nn, rows_nd)
        return parameters_nd


def mixture_of_characters(
    tokenizer: PreTrainedTokenizerFast, first_id: int, share: float
) -> Tensor:
    """Identity plus, for words, `share` spread over the new pieces that are their characters."""
    texts = [tokenizer.decode([number]) for number in range(first_id, len(tokenizer))]
    place = {text: number for number, text in enumerate(texts) if len(text) == 1}
    mixture_nn = torch.eye(len(texts))
    for number, text in enumerate(texts):
        parts = [place[c] for c in text if c in place] if len(text) > 1 else []
        for part in parts:
            mixture_nn[number, part] += share / len(parts)
    return mixture_nn


def prepared(material: Material, arm: Arm, folder: Path) -> CausalLM:
    """The model ready to train; its tokenizer is written into `folder`."""
    spellings = extended(material, arm.num_pieces, folder)
    model = load_model(material.base, dtype=faster_dtype())
    if spellings:
        rows = start_rows(model, material, arm, folder, spellings)
        grow_model(
            model,
            folder,
            num_old=len(load_tokenizer(material.base)),
            input_rows=rows[0],
            output_rows=rows[1],
        )
        model = load_model(folder, dtype=faster_dtype())
    torch.manual_seed(0)
    add_lora(model, rank=32, alpha=64, dropout=0.0, targets=TARGETS)
    if spellings:
        add_new_rows(model, len(spellings))
    use_grouped_attention(model)
    return model


def blocks_of(material: Material, folder: Path, num_blocks: int) -> Blocks:
    """Chinese with 15 % English, packed, in the order of training."""
    tokenizer = load_tokenizer(folder)
    settings = PretrainSection(num_tokens=10_000)
    return mix(
        pack_texts(tokenizer, material.text, settings),
        pack_texts(tokenizer, material.replay, settings),
        num_blocks=num_blocks,
        share=0.15,
        seed=0,
    )


def train(
    model: CausalLM, blocks: Blocks, arm: Arm, probe: Callable[[int], None], num_steps: int
) -> list[float]:
    """Train with constant rates after a warm-up; the seconds of each step."""
    loss_of = NextTokenLoss(model)
    factors = [p for n, p in model.named_parameters() if p.requires_grad and "new_rows" not in n]
    rows = [p for n, p in model.named_parameters() if p.requires_grad and "new_rows" in n]
    rates = [arm.learning_rate, arm.row_learning_rate]
    groups = [{"params": factors}] + ([{"params": rows}] if rows else [])
    optimizer = torch.optim.AdamW(groups, lr=0.0, weight_decay=0.0, betas=(0.9, 0.99), fused=True)
    seconds = []
    for step in range(num_steps):
        if step in PROBED_STEPS:
            probe(step)
        began = time.perf_counter()
        for group, rate in zip(optimizer.param_groups, rates, strict=False):
            group["lr"] = rate * min(1.0, (step + 1) / WARMUP_STEPS)
        part = slice(step * arm.batch_blocks, (step + 1) * arm.batch_blocks)
        loss = loss_of(
            *(
                torch.from_numpy(column[part].astype(np.int64))
                for column in (blocks.input_ids, blocks.labels, blocks.position_ids)
            )
        )["loss"]
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_([*factors, *rows], 1.0)
        optimizer.step()
        seconds.append(time.perf_counter() - began)
    probe(num_steps)
    return seconds


def bits(model: CausalLM, tokenizer: PreTrainedTokenizerFast, texts: list[str], han: bool) -> Any:  # noqa: ANN401
    """The score of texts, each by itself."""
    return score_texts(
        texts,
        encode=lambda text: list(tokenizer.encode(text, add_special_tokens=False)),
        negative_log_likelihoods=partial(negative_log_likelihoods, model),
        start_token=start_token(tokenizer),
        scripts=("Han",) if han else (),
    )


def run_arm(material: Material, arm: Arm) -> dict[str, Any]:
    """Train one arm and measure it on the way."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = prepared(material, arm, folder)
        tokenizer = load_tokenizer(folder)
        first_id = len(load_tokenizer(material.base))
        if arm.shared:
            mixture = mixture_of_characters(tokenizer, first_id, arm.shared)
            for module in (model.model.embed_tokens, model.lm_head):
                parametrize.register_parametrization(module, "new_rows", Shared(mixture))
        blocks = blocks_of(material, folder, arm.num_steps * arm.batch_blocks)
        characters_per_block = _characters(tokenizer, blocks) / len(blocks)
        points: list[dict[str, float]] = []

        def probe(step: int) -> None:
            model.train(False)
            score = bits(model, tokenizer, material.heldout, han=True)
            points.append(
                {
                    "step": step,
                    "characters": round(step * arm.batch_blocks * characters_per_block),
                    "zh": round(score.bits_per_character, 4),
                }
            )
            print(arm.name, points[-1], flush=True)
            model.train()

        train(model, blocks, arm, probe, arm.num_steps)
        model.train(False)
        english = bits(model, tokenizer, material.english, han=False).bits_per_character
        score = bits(model, tokenizer, material.heldout, han=True)
    return {
        "arm": asdict(arm),
        "tokens_per_han_character": round(score.tokens_per_character, 4),
        "english_at_end": round(english, 4),
        "points": points,
    }


def _characters(tokenizer: PreTrainedTokenizerFast, blocks: Blocks) -> int:
    """Chinese characters in the blocks, estimated from the first 200."""
    texts = tokenizer.batch_decode(blocks.input_ids[:200])
    seen = sum(not character.isascii() for text in texts for character in text)
    return seen * len(blocks) // len(texts)


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
            add_lora(model, rank=32, alpha=64, dropout=0.0, targets=TARGETS)
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
        chosen = [(name, line) for name, line in lines.items() if "," not in name]
        svg = line_chart(
            f"Held-out bits per character over {axis}", chosen, x_name=axis, y_name="bits/char"
        )
        Path(str(PLOT).format(axis)).write_text(svg, encoding="utf-8")


def main() -> None:
    """Train, time or report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["train", "time", "report"])
    parser.add_argument("run", type=Path, nargs="?", default=Path("runs/quickstart"))
    parser.add_argument("--rounds", type=int, default=2)
    options = parser.parse_args()
    result: dict[str, Any] = json.loads(RESULT.read_text()) if RESULT.exists() else {"arms": {}}
    result["machine"] = f"{platform.machine()}, {torch.get_num_threads()} threads"
    match options.what:
        case "train":
            material = read_material(options.run)
            for arm in ARMS:
                if arm.name not in result["arms"]:
                    result["arms"][arm.name] = run_arm(material, arm)
                    RESULT.write_text(json.dumps(result, indent=1) + "\n")
        case "time":
            base = resolve_base(load_recipe(RECIPE), print)[0]
            result["seconds_per_step"] = time_steps(base, options.rounds)
        case _:
            report(result)
    RESULT.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
