import pytest
import torch

from hanpaca.model import dtype as dtype_module
from hanpaca.model.dtype import faster_dtype


def test_the_faster_one_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for fast in (torch.bfloat16, torch.float32):
        monkeypatch.setattr(dtype_module, "_seconds", lambda one, fast=fast: float(one != fast))
        assert faster_dtype() == fast


def test_it_measures_on_this_machine() -> None:
    assert faster_dtype() in (torch.bfloat16, torch.float32)
