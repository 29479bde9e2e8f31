"""What one GPU makes of a training, in about ten minutes: losses, speed, share of its rate.

    python benchmarks/gpu.py                # SmolLM2's shape, and Llamas of 1 and 7 billion weights
    python benchmarks/gpu.py --trl          # against trl's SFTTrainer too; needs trl
    python benchmarks/gpu.py --ways plain flex compile 8bit nf4   # and with these settings
    python benchmarks/gpu.py --cpu --pico   # the script itself, in seconds

Models are of random weights: shapes decide speed. First each step's loss on this device is held
against float32 on the CPU. Then each model trains LoRA of rank 32 on packed blocks, in bfloat16,
and the tokens of a second are told, and their share of what this device does in one large product
of matrices (model FLOPs: forward and the gradient of activations, 4 a weight and token, as frozen
weights need none of their own; attention's scores are not counted). A way that this machine does
not have is told and left out.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM

from hanpaca.data.pack import BlocksInMemory, document_sequence, pack
from hanpaca.errors import ResourceError
from hanpaca.lora_settings import LoraSettings
from hanpaca.model.attention import use_attention
from hanpaca.model.devices import compile_layers
from hanpaca.model.lora import add_lora, trainable_groups
from hanpaca.model.loss import NextTokenLoss
from hanpaca.model.quantized import Bits
from hanpaca.training.arguments import Optimization
from hanpaca.training.journal import Step
from hanpaca.training.train import BlockDataset, Trainable, train

TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
RESULT = Path(__file__).parent / "results" / "gpu.json"
# hidden, intermediate, layers, heads, key/value heads, vocabulary, blocks a step
SHAPES = {
    "SmolLM2-135M": (576, 1536, 30, 9, 3, 49_152, 16),
    "1B": (2048, 8192, 16, 32, 8, 128_256, 8),
    "7B": (4096, 11_008, 32, 32, 32, 32_000, 4),
}
PICO = {"pico": (32, 64, 2, 4, 2, 400, 2)}
WAYS: dict[str, dict[str, Any]] = {
    "plain": {},
    "flex": {"attention": "flex"},
    "flash": {"attention": "flash"},
    "compile": {"compiled": True},
    "8bit": {"bits": "8bit"},
    "nf4": {"bits": "nf4"},
}
"""Settings of a training, by name."""
BF16_BOUND = 0.02
"""Share of the loss by which bfloat16 may differ from float32: 2.5 units of its last place."""


def llama(shape: tuple[int, ...], device: torch.device, dtype: torch.dtype) -> LlamaForCausalLM:
    """A Llama of random weights, the same for the same shape."""
    hidden, inner, layers, heads, groups, vocabulary, _ = shape
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=hidden,
        intermediate_size=inner,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=groups,
        max_position_embeddings=4096,
    )
    torch.manual_seed(0)
    with torch.device("cpu" if hidden < 1000 else device):
        model = LlamaForCausalLM(config)
    model.requires_grad_(False)
    return nn.Module.to(model, device=device, dtype=dtype)


def packed(vocabulary: int, num_blocks: int, block_tokens: int) -> BlocksInMemory:
    """Texts of random tokens and lengths."""
    chance = np.random.default_rng(0)
    lengths = chance.integers(8, block_tokens // 2, size=8 * num_blocks)
    texts = [chance.integers(3, vocabulary, size=length).tolist() for length in lengths]
    sequences = (document_sequence(ids, start_id=1, end_id=2) for ids in texts)
    found = pack(sequences, block_tokens=block_tokens, pad_id=2)
    return BlocksInMemory(
        *(column[:num_blocks] for column in (found.input_ids, found.labels, found.position_ids))
    )


def losses_and_seconds(
    model: LlamaForCausalLM,
    blocks: BlocksInMemory,
    batch_blocks: int,
    attention: str,
    *,
    compiled: bool = False,
    bits: Bits = "none",
) -> tuple[list[float], float]:
    """Train LoRA on all blocks; each step's loss, and the median seconds of the later ones."""
    torch.manual_seed(0)
    add_lora(model, LoraSettings(rank=32, alpha=64), bits=bits)
    use_attention(model, attention)
    if compiled:
        compile_layers(model)
    factors, rows = trainable_groups(model)
    losses: list[float] = []
    moments: list[float] = []

    def tell(step: Step) -> None:
        losses.append(step.loss)
        moments.append(time.perf_counter())

    with tempfile.TemporaryDirectory() as folder:
        train(
            Trainable(
                NextTokenLoss(model),
                factors,
                rows,
                save=lambda place: place.mkdir(exist_ok=True),
                load=lambda place: None,
            ),
            BlockDataset(blocks.input_ids, blocks.labels, blocks.position_ids),
            folder=Path(folder),
            optimization=Optimization(
                2e-4, 1e-3, batch_blocks=batch_blocks, warmup_fraction=0.0, checkpoint_steps=10**6
            ),
            on_step=tell,
        )
    return losses, median(np.diff(moments).tolist())


def products_per_second(device: torch.device, size: int) -> float:
    """FLOPs a second of one large product in bfloat16."""
    left = torch.ones(size, size, dtype=torch.bfloat16, device=device)
    seconds = []
    for _ in range(5):
        began = time.perf_counter()
        (left @ left).sum().item()
        seconds.append(time.perf_counter() - began)
    return 2 * size**3 / min(seconds)


def trl_seconds(
    model: LlamaForCausalLM, blocks: BlocksInMemory, batch_blocks: int, attention: str
) -> float:
    """The same steps by trl's SFTTrainer with peft's layers; it is given blocks as they are."""
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import TrainerCallback
    from trl import SFTConfig, SFTTrainer

    moments: list[float] = []

    class Clock(TrainerCallback):
        def on_step_end(self, *_: Any, **__: Any) -> None:
            moments.append(time.perf_counter())

    use_attention(model, attention)
    with tempfile.TemporaryDirectory() as folder:
        SFTTrainer(
            model=model,
            args=SFTConfig(
                output_dir=folder,
                per_device_train_batch_size=batch_blocks,
                num_train_epochs=1,
                save_strategy="no",
                report_to="none",
                bf16=True,
                max_length=None,
                gradient_checkpointing=False,
                dataset_kwargs={"skip_prepare_dataset": True},
            ),
            train_dataset=Dataset.from_dict({"input_ids": blocks.input_ids.tolist()}),
            peft_config=LoraConfig(r=32, lora_alpha=64, target_modules=TARGETS),
            callbacks=[Clock()],
        ).train()
    return median(np.diff(moments).tolist())


def measured(
    name: str, way: str, shape: tuple[int, ...], device: torch.device, given: argparse.Namespace
) -> dict[str, Any]:
    """Tokens a second of one shape, trained in one way."""
    batch_blocks, size = shape[-1], given.block_tokens
    blocks = packed(shape[5], batch_blocks * given.steps, size)
    model = llama(shape, device, torch.bfloat16)
    num_weights = sum(one.numel() for one in model.parameters()) - shape[0] * shape[5]
    settings = {"attention": given.attention, **WAYS[way]}
    on_gpu = device.type == "cuda"
    if on_gpu:
        torch.cuda.reset_peak_memory_stats()
    try:
        losses, seconds = losses_and_seconds(model, blocks, batch_blocks, **settings)
    except ResourceError as error:
        return {"model": name, "way": way, "left_out": str(error)}
    speed = batch_blocks * size / seconds
    rate = products_per_second(device, 512 if given.pico else 8192)
    row: dict[str, Any] = {
        "model": name,
        "way": way,
        "losses": losses,
        "tokens_per_second": round(speed, 1),
        "mfu": round(4 * num_weights * speed / rate, 4),
    }
    if on_gpu:
        row["gigabytes"] = round(torch.cuda.max_memory_allocated() / 1e9, 2)
    if given.trl and way == "plain":
        del model
        model = llama(shape, device, torch.bfloat16)
        theirs = batch_blocks * size / trl_seconds(model, blocks, batch_blocks, given.attention)
        row |= {"trl_tokens_per_second": round(theirs, 1), "times_trl": round(speed / theirs, 2)}
    return row


def step_losses(
    shape: tuple[int, ...], device: torch.device, dtype: torch.dtype, given: argparse.Namespace
) -> list[float]:
    """Losses of a short training of a shape."""
    blocks = packed(shape[5], 2 * given.steps, 128)
    return losses_and_seconds(llama(shape, device, dtype), blocks, 2, given.attention)[0]


def reference_losses(given: argparse.Namespace) -> list[float]:
    """The same in float32 in a process that sees no GPU."""
    command = [sys.executable, __file__, "--cpu", "--losses", "--steps", str(given.steps)]
    found = subprocess.run(
        [*command, *(["--pico"] if given.pico else [])],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    return [float(one) for one in json.loads(found.stdout.splitlines()[-1])]


def main() -> None:
    """Measure, print, and keep what was found."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--cpu", action="store_true", help="on the CPU: nothing is kept")
    parser.add_argument("--pico", action="store_true", help="one tiny model in place of the three")
    parser.add_argument("--trl", action="store_true", help="against trl's SFTTrainer")
    parser.add_argument("--attention", default="auto")
    parser.add_argument("--ways", nargs="+", choices=list(WAYS), default=["plain"])
    parser.add_argument("--block-tokens", type=int, default=2048)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--losses", action="store_true", help="print losses in float32, and end")
    given = parser.parse_args()
    if given.cpu:
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    if not given.cpu and not torch.cuda.is_available():
        parser.error("there is no GPU; --cpu --pico tries the script")
    device = torch.device("cpu" if given.cpu else "cuda")
    shapes = PICO if given.pico else SHAPES
    first = next(iter(shapes.values()))
    if given.losses:
        print(json.dumps(step_losses(first, device, torch.float32, given)))
        return
    wanted = np.array(reference_losses(given))
    found = np.array(step_losses(first, device, torch.bfloat16, given))
    difference = float(np.max(np.abs(found - wanted) / wanted))
    rows = []
    for name, shape in shapes.items():
        for way in given.ways:
            rows.append(measured(name, way, shape, device, given))
            print(json.dumps(rows[-1]), flush=True)
    print(f"largest difference of a loss from float32 on the CPU: {difference:.2%}")
    if not given.cpu:
        name = torch.cuda.get_device_name()
        tree = {"device": name, "torch": torch.__version__, "difference": difference, "rows": rows}
        RESULT.write_text(json.dumps(tree, indent=2) + "\n", encoding="utf-8")
    if not difference <= BF16_BOUND:
        raise SystemExit(f"losses differ by more than {BF16_BOUND:.0%}")


if __name__ == "__main__":
    main()
