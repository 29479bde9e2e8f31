import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from hanpaca.errors import ArtifactError
from hanpaca.pipeline.base import check_old_rows

EMBEDDING = "model.embed_tokens.weight"


@pytest.fixture
def grown(pico_base: Path, tmp_path: Path) -> Path:
    """The base with two rows more."""
    folder = Path(shutil.copytree(pico_base, tmp_path / "grown"))
    return changed(folder, **{EMBEDDING: torch.cat([weight(folder, EMBEDDING), torch.ones(2, 32)])})


def weight(folder: Path, name: str) -> torch.Tensor:
    return load_file(folder / "model.safetensors")[name].clone()


def changed(folder: Path, **changes: torch.Tensor) -> Path:
    file = folder / "model.safetensors"
    tensors = load_file(file) | {name: new.bfloat16() for name, new in changes.items()}
    save_file(tensors, file, metadata={"format": "pt"})
    return folder


def test_new_rows_are_no_change(pico_base: Path, grown: Path) -> None:
    check_old_rows(pico_base, grown, 394)


@pytest.mark.parametrize("name", [EMBEDDING, "model.layers.1.mlp.up_proj.weight"])
def test_one_changed_bit_of_an_old_weight_is_found(name: str, pico_base: Path, grown: Path) -> None:
    flipped = weight(grown, name)
    flipped[3].view(torch.uint8)[5] ^= 1
    with pytest.raises(ArtifactError, match=f"{name} is no longer what it was"):
        check_old_rows(pico_base, changed(grown, **{name: flipped}), 394)


def test_a_tied_head_and_old_constants_in_the_bases_files_are_no_change(
    pico_base: Path, grown: Path, tmp_path: Path
) -> None:
    """Some bases hold the tied head twice; conversions of LLaMA 1 hold the rotary frequencies."""
    base = Path(shutil.copytree(pico_base, tmp_path / "base"))
    head = weight(base, EMBEDDING)
    inv_freq = {"model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(4)}
    changed(base, **{"lm_head.weight": head, **inv_freq})
    check_old_rows(base, grown, 394)
    head[0] += 1
    with pytest.raises(ArtifactError, match="lm_head"):
        check_old_rows(changed(base, **{"lm_head.weight": head}), grown, 394)
