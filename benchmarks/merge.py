"""Merging against `cp` of as many bytes and against peft, on a checkpoint made on the spot.

The checkpoint is a bfloat16 Llama of random weights; the adapter has rank 8 on all linear layers
and replaces embedding and head, from 32,000 rows to 49,954. Merge and copy run in turn with a cold
page cache (posix_fadvise DONTNEED after sync); every run has a process of its own. Seconds are
those of the work, without starting Python and importing torch; memory is the process's peak.

    python benchmarks/merge.py --keep                # 2 GB, peft too
    python benchmarks/merge.py --shape 7b --keep     # 13.5 GB, two adapters; needs 45 GB of disk

Seconds of a busy machine say little; CPU seconds, user and system together, are given beside them.
"""

import argparse
import json
import os
import platform
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import torch
from torch import Tensor

from hanpaca.checkpoints.safetensors import PlannedTensor, write_safetensors, write_weights
from hanpaca.merging import merge_adapters

RESULT = Path(__file__).parent / "results" / "merge.json"
OLD_ROWS, NEW_ROWS, RANK = 32_000, 49_954, 8
BLOCK = 1 << 24


class Shape(NamedTuple):
    """What is measured."""

    gb: float
    pairs: int
    adapters: int
    peft: bool


SHAPES = {"2gb": Shape(2.0, 5, 1, True), "7b": Shape(13.5, 1, 2, False)}


def make_base(folder: Path, num_bytes: int) -> dict[str, tuple[int, int]]:
    """Write a model of about this size; returns the shapes of its linear layers."""
    hidden, inner = (4096, 11008) if num_bytes > 8e9 else (2048, 5504)
    if num_bytes < 1e9:
        hidden, inner = 512, 1376
    layer = {
        **{f"self_attn.{name}_proj": (hidden, hidden) for name in "qkvo"},
        "mlp.gate_proj": (inner, hidden),
        "mlp.up_proj": (inner, hidden),
        "mlp.down_proj": (hidden, inner),
    }
    layer_bytes = 2 * sum(rows * columns for rows, columns in layer.values())
    num_layers = max(1, round((num_bytes - 4 * OLD_ROWS * hidden) / layer_bytes))
    linears = {
        f"model.layers.{number}.{name}": shape
        for number in range(num_layers)
        for name, shape in layer.items()
    }
    norms = [
        f"model.layers.{n}.{name}"
        for n in range(num_layers)
        for name in ("input_layernorm", "post_attention_layernorm")
    ]
    shapes: dict[str, tuple[int, ...]] = {
        "model.embed_tokens": (OLD_ROWS, hidden),
        "lm_head": (OLD_ROWS, hidden),
        **linears,
        **dict.fromkeys([*norms, "model.norm"], (hidden,)),
    }
    folder.mkdir()
    write_weights(folder, list(planned(shapes, torch.bfloat16, 0.02)), max_shard_bytes=10**9)
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": OLD_ROWS,
        "hidden_size": hidden,
        "intermediate_size": inner,
        "num_hidden_layers": num_layers,
        "num_attention_heads": hidden // 64,
        "tie_word_embeddings": False,
        "torch_dtype": "bfloat16",
    }
    (folder / "config.json").write_text(json.dumps(config))
    return linears


def make_adapter(folder: Path, linears: dict[str, tuple[int, int]]) -> None:
    """Write an adapter as peft does, in float16."""
    hidden = next(iter(linears.values()))[1]
    shapes: dict[str, tuple[int, ...]] = {
        "base_model.model.model.embed_tokens": (NEW_ROWS, hidden),
        "base_model.model.lm_head": (NEW_ROWS, hidden),
    }
    for name, (rows, columns) in linears.items():
        shapes[f"base_model.model.{name}.lora_A"] = (RANK, columns)
        shapes[f"base_model.model.{name}.lora_B"] = (rows, RANK)
    folder.mkdir()
    tensors = list(planned(shapes, torch.float16, 0.02))
    write_safetensors(folder / "adapter_model.safetensors", tensors, metadata={})
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "r": RANK,
        "lora_alpha": 32,
        "target_modules": sorted({name.rsplit(".", 1)[-1] for name in linears}),
        "modules_to_save": ["embed_tokens", "lm_head"],
    }
    (folder / "adapter_config.json").write_text(json.dumps(config))


def planned(
    shapes: dict[str, tuple[int, ...]], dtype: torch.dtype, std: float
) -> Iterator[PlannedTensor]:
    """Tensors cut from one block of normal draws: fast to make, and no two alike."""
    draws = (torch.randn(BLOCK, generator=torch.Generator().manual_seed(0)) * std).to(dtype)

    def make(shape: tuple[int, ...], number: int) -> Tensor:
        size = int(torch.Size(shape).numel())
        turned = draws.roll(number * 4097)
        return turned.repeat(-(-size // BLOCK))[:size].view(shape)

    for number, (name, shape) in enumerate(shapes.items()):
        yield PlannedTensor(
            f"{name}.weight",
            dtype,
            shape,
            lambda shape=shape, number=number: make(shape, number),  # type: ignore[misc]
        )


def chill(*folders: Path) -> None:
    """Put the files on the disk and drop them from the page cache."""
    os.sync()
    for folder in folders:
        for file in folder.iterdir():
            descriptor = os.open(file, os.O_RDONLY)
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(descriptor)


def run_ours(base: Path, adapters: list[Path], output: Path) -> None:
    """Merge with this project."""
    merge_adapters(base, adapters, output)


def run_peft(base: Path, adapters: list[Path], output: Path) -> None:
    """Merge with peft, all in memory."""
    from peft import PeftModel
    from transformers import LlamaForCausalLM

    model = LlamaForCausalLM.from_pretrained(base, dtype=torch.bfloat16)
    for adapter in adapters:
        model.resize_token_embeddings(NEW_ROWS, mean_resizing=False)
        model = PeftModel.from_pretrained(model, str(adapter)).merge_and_unload()
    model.save_pretrained(output)


def child(which: str, base: Path, adapters: list[Path], output: Path) -> None:
    """One run in a process of its own; tells seconds and peak memory."""
    began, worked = time.perf_counter(), time.process_time()
    if which == "peft":
        import peft  # noqa: F401
        import transformers  # noqa: F401

        began, worked = time.perf_counter(), time.process_time()
        run_peft(base, adapters, output)
    else:
        run_ours(base, adapters, output)
    seconds, cpu = time.perf_counter() - began, time.process_time() - worked
    print(json.dumps({"seconds": seconds, "cpu_seconds": cpu, "peak_mib": peak_kib() / 1024}))


def peak_kib() -> int:
    """Of this program; getrusage would count the parent's memory at the fork."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1])
    raise SystemExit("no VmHWM in /proc/self/status: measured on Linux only")


def measured(which: str, base: Path, adapters: list[Path], output: Path) -> dict[str, float]:
    """Run a child on a cold cache."""
    shutil.rmtree(output, ignore_errors=True)
    chill(base, *adapters)
    arguments = [which, str(base), *map(str, adapters), str(output)]
    done = subprocess.run(
        [sys.executable, __file__, "--child", *arguments],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def copied(source: Path, target: Path) -> dict[str, float]:
    """Seconds of `cp -r` on a cold cache."""
    shutil.rmtree(target, ignore_errors=True)
    chill(source)
    began, before = time.perf_counter(), children_seconds()
    subprocess.run(["cp", "-r", str(source), str(target)], check=True)
    return {
        "seconds": time.perf_counter() - began,
        "cpu_seconds": children_seconds() - before,
    }


def children_seconds() -> float:
    """CPU seconds of all ended children."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def compare(shape: Shape, pairs: int, folder: Path) -> dict[str, Any]:
    """All measurements, in turn."""
    base, merged = folder / "base", folder / "merged"
    linears = make_base(base, int(shape.gb * 1e9))
    adapters = [folder / f"adapter{number}" for number in range(shape.adapters)]
    for adapter in adapters:
        make_adapter(adapter, linears)
    measured("ours", base, adapters, merged)
    result: dict[str, Any] = {
        "base_gb": size_of(base),
        "adapters_gb": [size_of(adapter) for adapter in adapters],
        "merged_gb": size_of(merged),
    }
    ours, copies = [], []
    for number in range(pairs):
        copies.append(copied(merged, folder / "copy"))
        shutil.rmtree(folder / "copy")
        ours.append(measured("ours", base, adapters, merged))
        print(f"pair {number + 1}: cp {copies[-1]}, merge {ours[-1]}", file=sys.stderr)
    seconds = [run["seconds"] for run in ours]
    result |= {
        "cp_seconds": [run["seconds"] for run in copies],
        "cp_cpu_seconds": [run["cpu_seconds"] for run in copies],
        "merge_seconds": seconds,
        "merge_cpu_seconds": [run["cpu_seconds"] for run in ours],
        "load_average": os.getloadavg()[0],
        "merge_over_cp": median(seconds) / median(run["seconds"] for run in copies),
        "merge_peak_mib": max(run["peak_mib"] for run in ours),
    }
    if shape.peft:
        shutil.rmtree(merged)
        peft = measured("peft", base, adapters, folder / "peft")
        result |= {
            "peft_seconds": peft["seconds"],
            "peft_cpu_seconds": peft["cpu_seconds"],
            "peft_peak_mib": peft["peak_mib"],
            "peft_over_merge": peft["seconds"] / median(seconds),
        }
    return result


def size_of(folder: Path) -> float:
    """GB of a folder."""
    return sum(file.stat().st_size for file in folder.iterdir()) / 1e9


def main() -> None:
    """Measure; keep the result if asked."""
    if sys.argv[1:2] == ["--child"]:
        which, *folders = sys.argv[2:]
        base, *adapters, output = map(Path, folders)
        return child(which, base, adapters, output)
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shape", choices=SHAPES, default="2gb")
    parser.add_argument("--pairs", type=int, help="of copy and merge; default 5, or 1 for 7b")
    parser.add_argument("--keep", action="store_true", help=f"write {RESULT.name}")
    parser.add_argument("--folder", type=Path, help="where to work; default the temporary folder")
    arguments = parser.parse_args()
    shape = SHAPES[arguments.shape]
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        result = compare(shape, arguments.pairs or shape.pairs, Path(folder))
    result |= {
        "torch": torch.__version__,
        "processors": os.cpu_count(),
        "machine": platform.machine(),
    }
    print(json.dumps(result, indent=2))
    if arguments.keep:
        before = json.loads(RESULT.read_text()) if RESULT.exists() else {}
        RESULT.write_text(json.dumps({**before, arguments.shape: result}, indent=2) + "\n")
    return None


if __name__ == "__main__":
    main()
