from pathlib import Path

import pytest
import torch

from hanpaca.pipeline import adapter
from hanpaca.recipe import PretrainSection


def test_a_resumed_training_keeps_the_type_it_began_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = PretrainSection(num_tokens=1_000)
    monkeypatch.setattr(adapter, "faster_dtype", lambda: torch.float32)
    assert adapter._dtype(settings, tmp_path) == torch.float32
    monkeypatch.setattr(adapter, "faster_dtype", lambda: torch.bfloat16)
    assert adapter._dtype(settings, tmp_path) == torch.float32
    assert adapter._dtype(settings, tmp_path / "another") == torch.bfloat16


def test_the_recipe_decides_where_it_says_so(tmp_path: Path) -> None:
    settings = PretrainSection(num_tokens=1_000, dtype="bfloat16")
    assert adapter._dtype(settings, tmp_path) == torch.bfloat16
    assert not list(tmp_path.iterdir())
