"""Writing GGUF files against llama-quantize, and adapters folded on the way against merge first.

The checkpoint is a bfloat16 Llama of random weights, as wide as TinyLlama, with an adapter of rank
8 on all linear layers and a longer embedding and head. llama-quantize starts from a bfloat16 GGUF
file of the same model, which someone has to write first; that time is given apart. All runs have a
process of their own and take turns; the bytes of both are compared, tensor by tensor.

    python -m benchmarks.write_gguf build/bin/llama-quantize --keep
"""

import argparse
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import torch

from benchmarks.merge import chill, make_adapter, peak_kib, planned
from hanpaca.checkpoints.gguf import read_header
from hanpaca.checkpoints.safetensors import write_weights
from hanpaca.merging import merge_adapters
from hanpaca.steps.write_gguf import model_to_gguf
from tests.support.tokenizers import make_pico_tokenizer

RESULT = Path(__file__).parent / "results" / "write_gguf.json"
HIDDEN, INNER, HEADS, KV_HEADS, ROWS = 2048, 5632, 32, 4, 32_000
TYPES = ("f16", "q8_0", "q4_k_m")


def make_base(folder: Path, num_layers: int) -> dict[str, tuple[int, int]]:
    """Write the model; returns the shapes of its linear layers."""
    values = HIDDEN * KV_HEADS // HEADS
    layer = {
        "self_attn.q_proj": (HIDDEN, HIDDEN),
        "self_attn.k_proj": (values, HIDDEN),
        "self_attn.v_proj": (values, HIDDEN),
        "self_attn.o_proj": (HIDDEN, HIDDEN),
        "mlp.gate_proj": (INNER, HIDDEN),
        "mlp.up_proj": (INNER, HIDDEN),
        "mlp.down_proj": (HIDDEN, INNER),
    }
    linears = {
        f"model.layers.{number}.{name}": shape
        for number in range(num_layers)
        for name, shape in layer.items()
    }
    norms = [
        f"model.layers.{number}.{name}"
        for number in range(num_layers)
        for name in ("input_layernorm", "post_attention_layernorm")
    ]
    tables = {"model.embed_tokens": (ROWS, HIDDEN), "lm_head": (ROWS, HIDDEN)}
    vectors = dict.fromkeys([*norms, "model.norm"], (HIDDEN,))
    make_pico_tokenizer(folder)
    write_weights(folder, list(planned({**tables, **linears, **vectors}, torch.bfloat16, 0.02)))
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": ROWS,
        "hidden_size": HIDDEN,
        "intermediate_size": INNER,
        "num_hidden_layers": num_layers,
        "num_attention_heads": HEADS,
        "num_key_value_heads": KV_HEADS,
        "max_position_embeddings": 2048,
        "rms_norm_eps": 1e-5,
        "tie_word_embeddings": False,
        "dtype": "bfloat16",
    }
    (folder / "config.json").write_text(json.dumps(config))
    return linears


def child(job: dict[str, Any]) -> None:
    """One run in a process of its own; tells seconds and peak memory."""
    base, adapters = Path(job["base"]), [Path(adapter) for adapter in job["adapters"]]
    outputs = {kind: Path(job["output"]) / f"m.{kind}.gguf" for kind in job["types"]}
    began = time.perf_counter()
    if job["merge_first"]:
        merge_adapters(base, adapters, Path(job["output"]) / "merged")
        base, adapters = Path(job["output"]) / "merged", []
    model_to_gguf(base, outputs, adapters=adapters, metadata={})
    seconds = time.perf_counter() - began
    print(json.dumps({"seconds": seconds, "peak_mib": peak_kib() / 1024}))


def ours(base: Path, types: tuple[str, ...], **job: Any) -> dict[str, float]:
    """Run a child on a cold cache."""
    usual = {"adapters": [], "merge_first": False}
    adapters = [Path(adapter) for adapter in job.get("adapters", [])]
    chill(base, *adapters)
    with tempfile.TemporaryDirectory(dir=base.parent) as output:
        text = json.dumps({"base": str(base), "types": types, "output": output} | usual | job)
        command = [sys.executable, "-m", "benchmarks.write_gguf", "--child", text]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def theirs(quantizer: Path, source: Path, kind: str, output: Path) -> dict[str, float]:
    """llama-quantize on a cold cache; its peak counts pages of the mapped source."""
    chill(source.parent)
    output.unlink(missing_ok=True)
    command = [str(quantizer), str(source), str(output), kind.upper(), str(os.cpu_count())]
    began, peak = time.perf_counter(), 0
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as run:
        while run.poll() is None:
            status = Path(f"/proc/{run.pid}/status").read_text()
            found = re.search(r"VmHWM:\s+(\d+)", status)
            peak = max(peak, int(found[1]) if found else 0)
            time.sleep(0.02)
    assert run.returncode == 0
    return {"seconds": time.perf_counter() - began, "peak_mib": peak / 1024}


def num_different(ours: Path, theirs: Path) -> int:
    """Tensors that are not the same in both files."""
    tensors = [read_header(file).tensors for file in (ours, theirs)]
    assert tensors[0].keys() == tensors[1].keys()
    different = 0
    with ours.open("rb") as left, theirs.open("rb") as right:
        for name, one in tensors[0].items():
            other = tensors[1][name]
            left.seek(one.begin)
            right.seek(other.begin)
            same = left.read(one.num_bytes) == right.read(other.num_bytes)
            different += not (same and one.kind == other.kind)
    return different


def measure(quantizer: Path, folder: Path, num_layers: int, rounds: int) -> dict[str, Any]:
    """All measurements, in turn."""
    base, adapter, source = folder / "base", folder / "adapter", folder / "source" / "m.gguf"
    make_adapter(adapter, make_base(base, num_layers))
    began = time.perf_counter()
    model_to_gguf(base, {"bf16": source}, metadata={})
    result: dict[str, Any] = {"bf16_seconds": time.perf_counter() - began}
    runs: dict[str, list[float]] = {}
    peaks: dict[str, float] = {}

    def keep(name: str, found: dict[str, float]) -> None:
        runs.setdefault(name, []).append(found["seconds"])
        peaks[name] = max(peaks.get(name, 0), found["peak_mib"])
        print(f"{name}: {found}", file=sys.stderr)

    output, with_adapter = folder / "theirs.gguf", {"adapters": [str(adapter)]}
    for _ in range(rounds):
        for kind in TYPES:
            keep(f"llama-quantize {kind}", theirs(quantizer, source, kind, output))
        keep("q4_k_m", ours(base, ("q4_k_m",)))
        keep("f16, q8_0, q4_k_m", ours(base, TYPES))
        for kind in ("q4_k_m", "q8_0"):
            keep(f"adapter, {kind}", ours(base, (kind,), **with_adapter))
            keep(f"merge first, {kind}", ours(base, (kind,), **with_adapter, merge_first=True))
    model_to_gguf(base, {"q4_k_m": folder / "ours.gguf"}, metadata={})
    best = {name: median(seconds) for name, seconds in runs.items()}
    together = sum(best[f"llama-quantize {kind}"] for kind in TYPES)
    return result | {
        "seconds": runs,
        "peak_mib": peaks,
        "q4_k_m_over_llama_quantize": best["q4_k_m"] / best["llama-quantize q4_k_m"],
        "three_types_over_llama_quantize": best["f16, q8_0, q4_k_m"] / together,
        "q4_k_m_adapter_over_merge_first": best["adapter, q4_k_m"] / best["merge first, q4_k_m"],
        "q8_0_adapter_over_merge_first": best["adapter, q8_0"] / best["merge first, q8_0"],
        "tensors_that_differ": num_different(folder / "ours.gguf", output),
    }


def main() -> None:
    """Measure; keep the result if asked."""
    if sys.argv[1:2] == ["--child"]:
        return child(json.loads(sys.argv[2]))
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("llama_quantize", type=Path)
    parser.add_argument("--layers", type=int, default=22)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--keep", action="store_true", help=f"write {RESULT.name}")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        quantizer = arguments.llama_quantize.resolve()
        result = measure(quantizer, Path(folder), arguments.layers, arguments.rounds)
    result |= {
        "command": f"python -m benchmarks.write_gguf LLAMA_QUANTIZE --layers {arguments.layers}",
        "load_average": os.getloadavg()[0],
        "processors": os.cpu_count(),
        "machine": platform.machine(),
    }
    print(json.dumps(result, indent=2))
    if arguments.keep:
        RESULT.write_text(json.dumps(result, indent=2) + "\n")
    return None


if __name__ == "__main__":
    main()
