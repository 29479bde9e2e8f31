from pathlib import Path

import pytest
import torch

from hanpaca.settings import PretrainSettings
from hanpaca.training import adapter


def test_a_resumed_training_keeps_the_type_it_began_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = PretrainSettings(num_tokens=1_000)
    monkeypatch.setattr(adapter, "faster_dtype", lambda: torch.float32)
    assert adapter.training_dtype(settings, tmp_path) == torch.float32
    monkeypatch.setattr(adapter, "faster_dtype", lambda: torch.bfloat16)
    assert adapter.training_dtype(settings, tmp_path) == torch.float32
    assert adapter.training_dtype(settings, tmp_path / "another") == torch.bfloat16


def test_the_recipe_decides_where_it_says_so(tmp_path: Path) -> None:
    settings = PretrainSettings(num_tokens=1_000, dtype="bfloat16")
    assert adapter.training_dtype(settings, tmp_path) == torch.bfloat16
    assert not list(tmp_path.iterdir())
