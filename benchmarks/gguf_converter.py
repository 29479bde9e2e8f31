"""Write what llama.cpp's own converter makes of small models: tests/golden/gguf_converter.json.

    python benchmarks/gguf_converter.py PATH/TO/llama.cpp

Needs the packages that llama.cpp's convert_hf_to_gguf.py needs. The converter knows the splitting
rule of a byte-level vocabulary only by a hash of ids, which made-up vocabularies do not have, so it
is told the rule; all else is its own.
"""

import argparse
import hashlib
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import gguf

sys.path.insert(0, str(Path(__file__).parents[1]))
from tests.support.gguf_models import MODELS, make_golden_model

GOLDEN = Path(__file__).parents[1] / "tests" / "golden" / "gguf_converter.json"
_LONGEST = 16
_CALL = """
import sys
sys.path[:0] = [{root!r}, {root!r} + "/gguf-py"]
from conversion.base import TextModel
TextModel.get_vocab_base_pre = lambda self, tokenizer: {rule!r}
import convert_hf_to_gguf
sys.argv = ["convert", {model!r}, "--outfile", {output!r}, "--outtype", "f16"]
convert_hf_to_gguf.main()
"""


def described(file: Path) -> dict[str, Any]:
    """Everything a file says, long lists and data as their hashes."""
    reader = gguf.GGUFReader(file)
    return {
        "fields": {
            name: _short(field.contents())
            for name, field in reader.fields.items()
            if not name.startswith("GGUF.")
        },
        "tensors": {
            tensor.name: [
                tensor.tensor_type.name,
                [int(size) for size in tensor.shape],
                hashlib.sha256(tensor.data.tobytes()).hexdigest(),
            ]
            for tensor in reader.tensors
        },
    }


def _short(value: object) -> object:
    if isinstance(value, list) and len(value) > _LONGEST:
        return hashlib.sha256(json.dumps(value).encode()).hexdigest()
    return value


def main() -> None:
    """Convert every model, and keep what came of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("llama_cpp", type=Path)
    root = str(parser.parse_args().llama_cpp)
    found = {}
    with tempfile.TemporaryDirectory() as name:
        for model, (rule, _) in MODELS.items():
            folder, output = make_golden_model(model, Path(name) / model), Path(name) / "m.gguf"
            call = _CALL.format(root=root, rule=rule, model=str(folder), output=str(output))
            subprocess.run([sys.executable, "-c", call], check=True)
            found[model] = described(output)
    GOLDEN.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
