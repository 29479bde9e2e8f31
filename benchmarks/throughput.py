"""Training speed: frozen bfloat16 with cast-down factors against autocast with peft's own layers.

Both train the same LoRA and the same new rows on the same blocks through transformers.Trainer, in
turn, in one process. Needs the model that a quickstart run leaves in 20-base:

    python benchmarks/throughput.py runs/quickstart/20-base
"""

import argparse
import json
import platform
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any, cast

import numpy as np
import torch
from peft import LoraConfig, get_peft_model
from transformers import Trainer, TrainingArguments

from hanpaca.model.load import load_model
from hanpaca.model.lora import add_lora, add_new_rows
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


def main() -> None:
    """Measure in turn, print, and write the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("--new-rows", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=5)
    options = parser.parse_args()
    chance = np.random.default_rng(0)
    num_rows = load_model(options.model).config.vocab_size
    ids = chance.integers(3, num_rows, size=(2 * options.steps, 256)).astype(np.int64)
    blocks = BlockDataset(ids, ids, np.tile(np.arange(256), (len(ids), 1)))
    found: dict[str, list[float]] = {"hanpaca": [], "autocast + trainable_token_indices": []}
    for _ in range(options.rounds):
        ours = load_model(options.model)
        add_lora(ours, rank=32, alpha=64, dropout=0.0, targets=TARGETS)
        add_new_rows(ours, options.new_rows)
        found["hanpaca"].append(tokens_per_second(ours, blocks, bf16=False))
        del ours
        rival = load_model(options.model, dtype=torch.float32)
        new_ids = list(range(num_rows - options.new_rows, num_rows))
        tied = bool(rival.config.tie_word_embeddings)
        config = LoraConfig(
            r=32,
            lora_alpha=64,
            target_modules=TARGETS,
            trainable_token_indices={"embed_tokens": new_ids}
            | ({} if tied else {"lm_head": new_ids}),
        )
        peft_model = get_peft_model(rival, config)
        found["autocast + trainable_token_indices"].append(
            tokens_per_second(cast(torch.nn.Module, peft_model), blocks, bf16=True)
        )
        del rival, peft_model
    ours_speed, rival_speed = (median(speeds) for speeds in found.values())
    result = {
        "command": "python benchmarks/throughput.py runs/quickstart/20-base --steps 4",
        "machine": f"{platform.machine()}, {torch.get_num_threads()} threads",
        "torch": torch.__version__,
        "tokens_per_second": {
            name: [round(s, 1) for s in speeds] for name, speeds in found.items()
        },
        "ratio": round(ours_speed / rival_speed, 3),
    }
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
