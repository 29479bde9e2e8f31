"""Training against the recipe of Chinese-LLaMA-Alpaca's scripts and trl's packed SFTTrainer.

    hanpaca run quickstart --run runs/quickstart    # 05-data, 20-base are read
    python benchmarks/rivals.py runs/quickstart --instructions alpaca.jsonl

All train LoRA of rank 8 and alpha 32 on all linear layers on the same texts, in the same order, for
about as many steps. The scripts' recipe is rebuilt on today's Trainer and peft: `modules_to_save`
trains embedding and head whole, dropout is .05, rows of a batch are padded to the longest; as it
ships, it computes each layer twice (gradient checkpointing). trl gets what it offers for speed:
packing, no padding, its head that holds no scores (needs trl and datasets). Each arm is a process
of its own, the arms take turns, and ratios are of medians. Speed is counted in the processor's own
seconds, so that other work of the machine is not in it; memory is what a process takes above its
imports, at most; the loss is of texts held out, by the same function for all.
"""

import argparse
import json
import platform
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, cast

import torch
from peft import LoraConfig, get_peft_model
from transformers import Trainer, TrainerCallback, TrainingArguments

from hanpaca.data.conversations import read_conversations
from hanpaca.data.named_templates import NAMED
from hanpaca.data.pack import IGNORED, BlocksInMemory, Sequence_, document_sequence, pack
from hanpaca.data.templates import Writer, encode_conversation
from hanpaca.lora_settings import LoraSettings
from hanpaca.model.attention import use_attention
from hanpaca.model.load import end_token, load_model, load_tokenizer, start_token
from hanpaca.model.lora import add_lora, add_new_rows, trainable_groups
from hanpaca.model.loss import NextTokenLoss
from hanpaca.training.arguments import Optimization
from hanpaca.training.begun import num_new_rows
from hanpaca.training.train import BlockDataset, Trainable, train

RESULT = Path(__file__).parent / "results" / "rivals.json"
TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
BLOCK = 512
RATES = {"pretrain": 2e-4, "sft": 1e-4}
"""Of the scripts."""
ROWS_A_STEP = 4
"""Conversations of a step of the scripts' recipe."""
HELDOUT = 16
GOALS = {
    "speed": {"pretrain": 1.8, "sft": 2.5, "trl": 1.3},
    "memory": 0.6,
    "loss": 1.01,
}
"""Of hanpaca over the reference's recipe: at least the speed, at most the others."""


class Clock(TrainerCallback):
    """Processor's seconds when each step ended: what else the machine does is not in them."""

    def __init__(self) -> None:
        self.moments: list[float] = []

    def on_step_end(self, *_: Any, **__: Any) -> None:
        """Note it."""
        self.moments.append(time.process_time())


def material(given: argparse.Namespace) -> tuple[list[Sequence_], list[Sequence_]]:
    """Ids and labels to learn from, enough for all steps, and those held out."""
    base = given.run / "20-base"
    tokenizer = load_tokenizer(base)
    found: list[Sequence_] = []
    if given.task == "pretrain":
        lines = (given.run / "05-data" / "text.jsonl").read_text(encoding="utf-8").split("\n")
        start, end = start_token(tokenizer), end_token(tokenizer)
        for line in lines[:-1]:
            ids = tokenizer.encode(json.loads(line)["text"], add_special_tokens=False)
            found.append(document_sequence(ids, start_id=start, end_id=end))
        wanted = BLOCK * given.steps
    else:
        tokenizer.chat_template = NAMED["alpaca-training"]
        writer = Writer.of(tokenizer)
        talks = [talk for talk, _ in read_conversations([given.instructions])]
        for talk in random.Random(0).sample(talks, HELDOUT + ROWS_A_STEP * given.steps):
            found += [
                (ids[:BLOCK], labels[:BLOCK]) for ids, labels in encode_conversation(talk, writer)
            ]
        return found[HELDOUT:], found[:HELDOUT]
    size, number = 0, HELDOUT
    while size < wanted:
        size += len(found[number][0])
        number += 1
    return found[HELDOUT:number], found[:HELDOUT]


class Rows(torch.utils.data.Dataset[dict[str, list[int]]]):
    """Sequences as they are."""

    def __init__(self, sequences: Sequence[Sequence_]) -> None:
        self.sequences = sequences

    def __len__(self) -> int:
        return len(self.sequences)

    def __getitem__(self, index: int) -> dict[str, list[int]]:
        ids, labels = self.sequences[index]
        return {"input_ids": list(ids), "labels": list(labels)}


def padded(rows: list[dict[str, list[int]]]) -> dict[str, torch.Tensor]:
    """The scripts' collator: to the longest row, and a mask."""
    size = max(len(row["input_ids"]) for row in rows)

    def filled(name: str, pad: int) -> torch.Tensor:
        return torch.tensor([row[name] + [pad] * (size - len(row[name])) for row in rows])

    mask = [[1] * len(row["input_ids"]) + [0] * (size - len(row["input_ids"])) for row in rows]
    return {
        "input_ids": filled("input_ids", 0),
        "labels": filled("labels", IGNORED),
        "attention_mask": torch.tensor(mask),
    }


def joined(sequences: Sequence[Sequence_]) -> list[Sequence_]:
    """The scripts' blocks: documents one after the other, without their ends, and cut."""
    ids = [one for found, _ in sequences for one in list(found)[:-1]]
    blocks = [ids[at : at + BLOCK] for at in range(0, len(ids) - BLOCK + 1, BLOCK)]
    return [(block, block) for block in blocks]


def common(folder: str, given: argparse.Namespace, batch: int, *, bf16: bool) -> dict[str, Any]:
    """Settings of both other trainers."""
    return {
        "output_dir": folder,
        "per_device_train_batch_size": batch,
        "num_train_epochs": 1,
        "learning_rate": RATES[given.task],
        "lr_scheduler_type": "cosine",
        "warmup_steps": 0.05,
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "bf16": bf16,
        "use_cpu": not torch.cuda.is_available(),
        "train_sampling_strategy": "sequential",
        "dataloader_pin_memory": False,
    }


def reference(
    given: argparse.Namespace, sequences: Sequence[Sequence_], clock: Clock, *, bf16: bool = False
) -> torch.nn.Module:
    """The scripts' recipe."""
    model = load_model(given.run / "20-base", dtype=torch.float32)
    config = LoraConfig(
        r=8,
        lora_alpha=32,
        lora_dropout=0.05,
        target_modules=TARGETS,
        modules_to_save=["embed_tokens", "lm_head"],
    )
    wrapped = cast(torch.nn.Module, get_peft_model(model, config))
    is_pretrain = given.task == "pretrain"
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            **common(folder, given, 1 if is_pretrain else ROWS_A_STEP, bf16=bf16),
            weight_decay=0.01 if is_pretrain else 0.0,
            gradient_checkpointing="shipped" in given.arm,
            activation_checkpointing_kwargs={"use_reentrant": False},
            remove_unused_columns=False,
        )
        trainer = Trainer(
            model=wrapped,
            args=arguments,
            train_dataset=Rows(joined(sequences) if is_pretrain else sequences),
            data_collator=padded,
            callbacks=[clock],
        )
        begin(clock)
        trainer.train()
    return wrapped


def with_trl(
    given: argparse.Namespace,
    sequences: Sequence[Sequence_],
    clock: Clock,
    *,
    dtype: torch.dtype,
) -> torch.nn.Module:
    """The SFTTrainer of trl with the best it offers here."""
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    base = given.run / "20-base"
    model = load_model(base, dtype=dtype)
    # Its head takes no rows of its own (`TrainableTokensWrapper` has no bias): LoRA alone.
    config = LoraConfig(r=8, lora_alpha=32, lora_dropout=0.05, target_modules=TARGETS)
    columns = {
        "input_ids": [list(ids) for ids, _ in sequences],
        "labels": [list(labels) for _, labels in sequences],
    }
    with tempfile.TemporaryDirectory() as folder:
        trainer = SFTTrainer(
            model=model,
            processing_class=load_tokenizer(base),
            args=SFTConfig(
                **common(folder, given, blocks_a_step(given, sequences), bf16=False),
                max_length=BLOCK,
                packing=True,
                gradient_checkpointing=False,
                shuffle_dataset=False,
            ),
            train_dataset=Dataset.from_dict(columns),
            peft_config=config,
            callbacks=[clock],
        )
        begin(clock)
        trainer.train()
    return cast(torch.nn.Module, trainer.model)


def hanpaca(
    given: argparse.Namespace,
    sequences: Sequence[Sequence_],
    clock: Clock,
    *,
    dtype: torch.dtype,
    rows: bool = True,
) -> torch.nn.Module:
    """This package's training."""
    base = given.run / "20-base"
    model = load_model(base, dtype=dtype)
    torch.manual_seed(0)
    add_lora(model, LoraSettings(rank=8, alpha=32, dropout=0.05))
    if rows:
        add_new_rows(model, num_new_rows(base))
    use_attention(model, "auto")
    factors, new_rows = trainable_groups(model)
    blocks = packed(sequences, base)
    with tempfile.TemporaryDirectory() as folder:
        begin(clock)
        train(
            Trainable(NextTokenLoss(model), factors, new_rows, save=_nothing, load=_nothing),
            BlockDataset(blocks.input_ids, blocks.labels, blocks.position_ids),
            folder=Path(folder),
            optimization=Optimization(
                RATES[given.task],
                1e-3,
                batch_blocks=blocks_a_step(given, sequences),
                checkpoint_steps=10**6,
            ),
            on_step=lambda step: clock.on_step_end(),
        )
    return model


def _nothing(place: Path) -> None:
    place.mkdir(exist_ok=True)


def packed(sequences: Sequence[Sequence_], base: Path) -> BlocksInMemory:
    """Blocks of this package."""
    return pack(sequences, block_tokens=BLOCK, pad_id=end_token(load_tokenizer(base)))


def blocks_a_step(given: argparse.Namespace, sequences: Sequence[Sequence_]) -> int:
    """As many as give about the steps of the scripts' recipe."""
    blocks = sum(len(ids) for ids, _ in sequences) / BLOCK
    return max(1, round(blocks / int(given.steps)))


Arm = Callable[..., torch.nn.Module]
FULL, HALF = torch.float32, torch.bfloat16
ARMS: dict[str, Arm] = {
    "hanpaca, float32": partial(hanpaca, dtype=FULL),
    "reference, float32": reference,
    "reference as shipped, float32": reference,
    "hanpaca, bfloat16": partial(hanpaca, dtype=HALF),
    "reference, bfloat16": partial(reference, bf16=True),
    "hanpaca, LoRA alone, float32": partial(hanpaca, dtype=FULL, rows=False),
    "trl, LoRA alone, float32": partial(with_trl, dtype=FULL),
    "hanpaca, LoRA alone, bfloat16": partial(hanpaca, dtype=HALF, rows=False),
    "trl, LoRA alone, bfloat16": partial(with_trl, dtype=HALF),
}
RIVALS = [
    ("hanpaca, bfloat16", "reference, float32"),
    ("hanpaca, bfloat16", "reference as shipped, float32"),
    ("hanpaca, bfloat16", "reference, bfloat16"),
    ("hanpaca, float32", "reference, float32"),
    ("hanpaca, LoRA alone, bfloat16", "trl, LoRA alone, bfloat16"),
    ("hanpaca, LoRA alone, float32", "trl, LoRA alone, float32"),
]
"""What is held against what."""


def begin(clock: Clock) -> None:
    """Everything is loaded: what memory peaks at from here on is of the training."""
    if Path("/proc/self/clear_refs").exists():
        Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")
    clock.moments.append(time.process_time())


def kilobytes(name: str) -> int:
    """Of this process, as Linux tells."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return int(next(line for line in lines if line.startswith(name)).split()[1])


@torch.no_grad()
def heldout_nats(model: torch.nn.Module, sequences: Sequence[Sequence_]) -> float:
    """Mean nats of a label, one text at a time."""
    model.train(False)
    total, number = 0.0, 0
    for ids, labels in sequences:
        scores = model(input_ids=torch.tensor([ids]), use_cache=False).logits[0, :-1].float()
        wanted = torch.tensor(labels[1:])
        nats = torch.nn.functional.cross_entropy(
            scores, wanted, ignore_index=IGNORED, reduction="sum"
        )
        total, number = total + float(nats), number + int((wanted != IGNORED).sum())
    return total / number


def measured(given: argparse.Namespace) -> dict[str, float]:
    """One arm, in this process."""
    sequences, heldout = material(given)
    if given.arm.startswith("trl"):
        import trl  # noqa: F401  # its imports are not its training
    before = kilobytes("VmRSS")
    clock = Clock()
    model = ARMS[given.arm](given, sequences, clock)
    peak = kilobytes("VmHWM") - before
    steps = len(clock.moments) - 1
    seconds = clock.moments[-1] - clock.moments[2]
    tokens = sum(len(ids) for ids, _ in sequences)
    return {
        "tokens_per_cpu_second": tokens * (steps - 2) / steps / seconds,
        "megabytes": peak / 1024,
        "heldout_nats": heldout_nats(model, heldout),
        "steps": steps,
        "tokens": tokens,
    }


def one_arm(name: str, task: str, given: argparse.Namespace) -> dict[str, float]:
    """One arm in a process of its own."""
    command = [sys.executable, __file__, str(given.run), "--arm", name, "--task", task]
    command += ["--steps", str(given.steps), "--instructions", str(given.instructions)]
    ended = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return cast(dict[str, float], json.loads(ended.stdout.splitlines()[-1]))


def all_arms(given: argparse.Namespace) -> list[dict[str, Any]]:
    """Each arm of each task in turn, in a process of its own; what was found before is kept."""
    found: list[dict[str, Any]] = []
    if given.log.exists():
        found = [json.loads(line) for line in given.log.read_text("utf-8").splitlines()]
    for number in range(given.rounds):
        for task in RATES:
            for name in given.only:
                row: dict[str, Any] = {"round": number, "task": task, "arm": name}
                if any(row.items() <= one.items() for one in found):
                    continue
                found.append(row | one_arm(name, task, given))
                with given.log.open("a", encoding="utf-8") as stream:
                    stream.write(json.dumps(found[-1]) + "\n")
    return found


def compared(task: str, found: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """What all arms of one task come to."""
    arms = {}
    for name in ARMS:
        if not (runs := [one for one in found if (one["task"], one["arm"]) == (task, name)]):
            continue
        arms[name] = {
            key: round(median(one[key] for one in runs), 4)
            for key in ("tokens_per_cpu_second", "megabytes", "heldout_nats", "steps", "tokens")
        }
    ratios = {
        f"{own} / {name}": {
            key: round(arms[own][measure] / arms[name][measure], 4)
            for key, measure in (
                ("speed", "tokens_per_cpu_second"),
                ("memory", "megabytes"),
                ("loss", "heldout_nats"),
            )
        }
        for own, name in RIVALS
        if own in arms and name in arms
    }
    return {"arms": arms, "ratios": ratios}


def main() -> None:
    """Measure all, print, and write what was found."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("--instructions", type=Path, required=True, help="Alpaca rows")
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--log", type=Path, default=Path("rivals.jsonl"), help="goes on from it")
    parser.add_argument("--only", nargs="+", choices=list(ARMS), default=list(ARMS))
    parser.add_argument("--arm", choices=list(ARMS))
    parser.add_argument("--task", choices=list(RATES), default="pretrain")
    given = parser.parse_args()
    if given.arm:
        print(json.dumps(measured(given)))
        return
    found = all_arms(given)
    tree: dict[str, Any] = {
        "command": "python benchmarks/rivals.py runs/quickstart --instructions ROWS",
        "machine": f"{platform.machine()}, {torch.get_num_threads()} threads",
        "torch": torch.__version__,
        "rounds": given.rounds,
        "goals": GOALS,
        **{task: compared(task, found) for task in RATES},
    }
    RESULT.write_text(json.dumps(tree, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(tree, indent=2))


if __name__ == "__main__":
    main()
