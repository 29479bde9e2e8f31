"""Training speed against peft's own layers, with autocast to bfloat16 and in plain float32.

All train the same LoRA and the same new rows on the same blocks through transformers.Trainer, in
turn, in one process. Needs the model that a quickstart run leaves in 20-base:

    python benchmarks/throughput.py runs/quickstart/20-base
"""

import argparse
import json
import platform
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, cast

import numpy as np
import torch
from peft import LoraConfig, get_peft_model
from transformers import Trainer, TrainingArguments

from hanpaca.lora_settings import LoraSettings
from hanpaca.model.attention import use_grouped_attention
from hanpaca.model.dtype import faster_dtype
from hanpaca.model.load import load_model
from hanpaca.model.lora import add_lora, add_new_rows
from hanpaca.model.loss import NextTokenLoss
from hanpaca.training.train import BlockDataset

TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
RESULT = Path(__file__).parent / "results" / "throughput.json"


def tokens_per_second(model: torch.nn.Module, blocks: BlockDataset, *, bf16: bool) -> float:
    """Train on all blocks, two at a time; the first step is warm-up and not counted."""
    seconds: list[float] = []

    class Timed(Trainer):
        def training_step(self, *arguments: Any, **keywords: Any) -> torch.Tensor:
            began = time.perf_counter()
            loss = super().training_step(*arguments, **keywords)
            seconds.append(time.perf_counter() - began)
            return loss

    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            output_dir=folder,
            per_device_train_batch_size=2,
            num_train_epochs=1,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            bf16=bf16,
            use_cpu=not torch.cuda.is_available(),
            remove_unused_columns=False,
            dataloader_pin_memory=False,
        )
        Timed(model=model, args=arguments, train_dataset=blocks).train()
    num_tokens = 2 * int(blocks.columns["input_ids"].shape[1])
    return num_tokens / median(seconds[1:])


def hanpaca(folder: Path, blocks: BlockDataset, num_new_rows: int) -> float:
    """Our layers and loss, in the type that is faster here."""
    model = load_model(folder, dtype=faster_dtype())
    add_lora(model, LoraSettings(rank=32, alpha=64))
    add_new_rows(model, num_new_rows)
    use_grouped_attention(model)
    return tokens_per_second(NextTokenLoss(model), blocks, bf16=False)


def peft(folder: Path, blocks: BlockDataset, num_new_rows: int, *, autocast: bool) -> float:
    """Layers of peft and `trainable_token_indices`, float32 weights."""
    model = load_model(folder, dtype=torch.float32)
    num_rows = model.config.vocab_size
    new_ids = list(range(num_rows - num_new_rows, num_rows))
    tied = bool(model.config.tie_word_embeddings)
    config = LoraConfig(
        r=32,
        lora_alpha=64,
        target_modules=TARGETS,
        trainable_token_indices={"embed_tokens": new_ids} | ({} if tied else {"lm_head": new_ids}),
    )
    wrapped = cast(torch.nn.Module, get_peft_model(model, config))
    return tokens_per_second(wrapped, blocks, bf16=autocast)


def main() -> None:
    """Measure in turn, print, and write the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("--new-rows", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=5)
    options = parser.parse_args()
    chance = np.random.default_rng(0)
    num_rows = json.loads((options.model / "config.json").read_text())["vocab_size"]
    ids = chance.integers(3, num_rows, size=(2 * options.steps, 256)).astype(np.int64)
    blocks = BlockDataset(ids, ids, np.tile(np.arange(256), (len(ids), 1)))
    arms: dict[str, Callable[[Path, BlockDataset, int], float]] = {
        "hanpaca": hanpaca,
        "peft, autocast to bfloat16": partial(peft, autocast=True),
        "peft, float32": partial(peft, autocast=False),
    }
    found: dict[str, list[float]] = {name: [] for name in arms}
    for _ in range(options.rounds):
        for name, arm in arms.items():
            found[name].append(arm(options.model, blocks, options.new_rows))
    speeds = {name: median(values) for name, values in found.items()}
    result = {
        "command": "python benchmarks/throughput.py runs/quickstart/20-base",
        "machine": f"{platform.machine()}, {torch.get_num_threads()} threads",
        "torch": torch.__version__,
        "hanpaca_dtype": str(faster_dtype()),
        "tokens_per_second": {
            name: [round(s, 1) for s in values] for name, values in found.items()
        },
        "ratio": {
            f"hanpaca / {name}": round(speeds["hanpaca"] / speed, 3)
            for name, speed in speeds.items()
            if name != "hanpaca"
        },
    }
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
