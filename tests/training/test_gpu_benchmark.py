"""The script that proves a GPU in ten minutes, tried on what is here."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[2]
SCRIPT = str(ROOT / "benchmarks/gpu.py")


@pytest.mark.slow
def test_it_runs_on_a_cpu_with_a_pico_model() -> None:
    command = [sys.executable, SCRIPT, "--cpu", "--pico", "--steps", "4", "--block-tokens", "64"]
    command += ["--ways", "flex", "plain"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert ended.returncode == 0, ended.stderr
    left, row, told = ended.stdout.splitlines()[-3:]
    assert "attention flex trains on GPUs only" in json.loads(left)["left_out"]
    found = json.loads(row)
    assert found["model"] == "pico"
    assert len(found["losses"]) == 4
    assert found["tokens_per_second"] > 0
    assert 0 < found["mfu"] < 1
    assert told.startswith("largest difference of a loss from float32 on the CPU: ")


@pytest.mark.gpu
@pytest.mark.slow
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
def test_a_gpu_has_the_losses_of_the_cpu() -> None:
    command = [sys.executable, SCRIPT, "--pico", "--steps", "8", "--block-tokens", "128"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert ended.returncode == 0, ended.stderr
