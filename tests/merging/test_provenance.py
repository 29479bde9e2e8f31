"""Adapters know what they were trained on: the base, or the result of the adapters before."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from hanpaca.checkpoints.fingerprint import model_fingerprint, tokenizer_fingerprint
from hanpaca.errors import ArtifactError
from hanpaca.merging import MergeOptions, merge_adapters, plan_merge
from tests.support.formats import as_bin
from tests.support.merge_oracle import Q, factors, grown_adapter, load_base, prefixed, write_adapter

BASE_KEY, TOKENIZER_KEY = "hanpaca.base.fingerprint", "hanpaca.tokenizer.fingerprint"


def marked(adapter: Path, **marks: str) -> Path:
    file = adapter / "adapter_model.safetensors"
    save_file(
        load_file(file), file, metadata={key.replace("_", "."): v for key, v in marks.items()}
    )
    return adapter


def test_the_same_weights_have_one_fingerprint_in_every_format(
    pico_untied: Path, tmp_path: Path
) -> None:
    wanted = model_fingerprint(pico_untied)
    folders = [as_bin(pico_untied, tmp_path / f"bin{n}", n) for n in (1, 3)]
    for number in (1, 2):
        folder = tmp_path / f"meta{number}"
        options = MergeOptions(format="pth", num_files=number)
        merge_adapters(pico_untied, [], folder, options=options)
        folders.append(folder)
    shards = MergeOptions(max_shard_bytes=20_000)
    merge_adapters(pico_untied, [], tmp_path / "shards", options=shards)
    for folder in [*folders, tmp_path / "shards"]:
        assert model_fingerprint(folder) == wanted, folder.name
    merge_adapters(pico_untied, [], tmp_path / "f32", options=MergeOptions(dtype="f32"))
    assert model_fingerprint(tmp_path / "f32") != wanted


@pytest.mark.parametrize("place", range(3))
def test_a_changed_element_anywhere_changes_the_fingerprint(
    place: int, pico_untied: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(pico_untied, tmp_path / "base")
    before, state = model_fingerprint(folder), load_base(pico_untied)
    tensor = list(state.values())[place].view(-1)
    tensor[-1] = tensor[-1] + 1
    save_file(state, folder / "model.safetensors")
    assert model_fingerprint(folder) != before


def test_a_second_adapter_fits_what_the_first_makes_of_the_base(
    pico_untied: Path, tmp_path: Path
) -> None:
    first = grown_adapter(tmp_path / "first", 1, model_fingerprint(pico_untied))
    merge_adapters(pico_untied, [first], tmp_path / "once")
    second = grown_adapter(tmp_path / "second", 2, model_fingerprint(tmp_path / "once"), rows=400)
    merge_adapters(tmp_path / "once", [second], tmp_path / "twice")
    third = grown_adapter(tmp_path / "third", 3, model_fingerprint(tmp_path / "twice"), rows=400)
    plan = plan_merge(pico_untied, [first, second, third], MergeOptions(dtype="f32"))
    assert not any("records no" in warning or "add up" in warning for warning in plan.warnings)
    with pytest.raises(ArtifactError, match=r"second/.* in the order of their training"):
        plan_merge(pico_untied, [grown_adapter(tmp_path / "other", 9), second], MergeOptions())
    with pytest.raises(ArtifactError, match=r"second/.*give the model it was trained on"):
        plan_merge(pico_untied, [second], MergeOptions())
    again = grown_adapter(tmp_path / "again", 4, model_fingerprint(pico_untied))
    assert (
        "their changes add up"
        in plan_merge(pico_untied, [first, again], MergeOptions()).warnings[0]
    )


def test_a_recorded_base_is_compared_with_a_bin_base_too(pico_untied: Path, tmp_path: Path) -> None:
    adapter = grown_adapter(tmp_path / "a", 1, model_fingerprint(pico_untied))
    base = as_bin(pico_untied, tmp_path / "bin", 1)
    warnings = plan_merge(base, [adapter], MergeOptions()).warnings
    assert not any("records no" in warning or "add up" in warning for warning in warnings)
    state = torch.load(base / "pytorch_model.bin")
    state[f"{Q}.weight"][0, 0] += 1
    torch.save(state, base / "pytorch_model.bin")
    with pytest.raises(ArtifactError, match="trained on another model"):
        plan_merge(base, [adapter], MergeOptions())


def test_the_tokenizer_must_be_the_one_of_the_training(pico_base: Path, tmp_path: Path) -> None:
    adapter = write_adapter(tmp_path / "a", prefixed(factors()))
    marked(adapter, hanpaca_tokenizer_fingerprint=tokenizer_fingerprint(pico_base))
    plan_merge(pico_base, [adapter], MergeOptions())
    base = shutil.copytree(pico_base, tmp_path / "base")
    tree = json.loads((base / "tokenizer.json").read_text())
    tree["normalizer"] = {"type": "NFKC"}
    (base / "tokenizer.json").write_text(json.dumps(tree))
    with pytest.raises(ArtifactError, match=r"base: another tokenizer than .*a was trained with"):
        plan_merge(base, [adapter], MergeOptions())
    shutil.copy(pico_base / "tokenizer.json", adapter)
    plan_merge(base, [adapter], MergeOptions())
