"""A merge reads what its parts say once, however many questions it asks of them."""

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from hanpaca.checkpoints.fingerprint import model_fingerprint
from tests.support.adapters import adapter_of

CODE = """
import collections, json, sys
from pathlib import Path
opened = collections.Counter()

def hook(event, arguments):
    # Headers and texts are read through io.open; rows through os.open, which has no mode.
    if event == "open" and isinstance(arguments[1], str) and "r" in arguments[1]:
        opened[str(arguments[0])] += 1

base, output, *adapters = map(Path, sys.argv[1:])
from hanpaca.merging.fit import fit
from hanpaca.steps.merge import merge
sys.addaudithook(hook)
merge(base, adapters, output, manifest=False)
merged = dict(opened)
opened.clear()
assert not fit(base, adapters).faults
print(json.dumps([merged, dict(opened)]))
"""


def times_read(base: Path, output: Path, *adapters: Path) -> list[Counter[str]]:
    """How often each file was opened to be read by a merge, and by asking whether it would do."""
    done = subprocess.run(
        [sys.executable, "-c", CODE, base, output, *adapters],
        check=True,
        capture_output=True,
        text=True,
    )
    return [Counter(one) for one in json.loads(done.stdout.splitlines()[-1])]


@pytest.mark.slow
def test_headers_of_base_and_adapter_are_read_once(pico_untied: Path, tmp_path: Path) -> None:
    """With an adapter that records its base, so that the base is hashed, too."""
    mark = model_fingerprint(pico_untied)
    adapter = adapter_of(pico_untied, tmp_path / "adapter", mark)
    for opened in times_read(pico_untied, tmp_path / "out", adapter):
        assert opened[str(pico_untied / "model.safetensors")] == 1
        assert opened[str(pico_untied / "config.json")] == 1
        assert opened[str(adapter / "adapter_model.safetensors")] == 1
        assert opened[str(adapter / "adapter_config.json")] == 1
