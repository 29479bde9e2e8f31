import hashlib
import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from hanpaca.checkpoints import released as catalogue
from hanpaca.checkpoints.fingerprint import model_fingerprint, tokenizer_fingerprint
from hanpaca.cli import app
from hanpaca.errors import ArtifactError
from hanpaca.merging import merge_adapters
from hanpaca.merging.fit import Fit, fit
from tests.support.adapters import P, Q, adapter_of, base_of, marked, released
from tests.support.merge_oracle import factors, prefixed, write_adapter

LLAMA, ALPACA = 49_953, 49_954


class Seven(NamedTuple):
    """The 7B family, by its sizes."""

    base: Path
    llama_plus: Path
    alpaca: Path
    alpaca_plus: Path


@pytest.fixture(scope="module")
def seven(tmp_path_factory: pytest.TempPathFactory) -> Seven:
    folder = tmp_path_factory.mktemp("seven")
    return Seven(
        base_of(folder / "base"),
        released(folder / "llama-plus", rank=8, rows=LLAMA),
        released(folder / "alpaca", rank=8, rows=ALPACA),
        released(folder / "alpaca-plus", rank=64, rows=ALPACA),
    )


def has(lines: Sequence[object], text: str) -> bool:
    return any(text in str(line) for line in lines)


def check(base: Path, *adapters: Path, **settings: Any) -> Fit:
    return fit(base, adapters, **settings)


def test_the_right_chain_has_no_fault_and_no_word_on_the_order(seven: Seven) -> None:
    for chain in ([seven.llama_plus, seven.alpaca_plus], [seven.alpaca], [seven.llama_plus]):
        fit = check(seven.base, *chain)
        assert fit.faults == ()
        assert not has(fit.warnings, "by its sizes")


def test_alpaca_plus_on_raw_llama_is_told_what_to_pass_first(seven: Seven) -> None:
    fit = check(seven.base, seven.alpaca_plus)
    assert has(fit.warnings, "was trained on chinese-llama-plus-7b merged; pass that adapter first")


def test_alpaca_plus_on_merged_llama_plus_is_right(seven: Seven, tmp_path: Path) -> None:
    fit = check(base_of(tmp_path / "b", rows=LLAMA), seven.alpaca_plus)
    assert fit.faults == ()
    assert not has(fit.warnings, "by its sizes")


def test_two_adapters_that_each_hold_everything_are_not_stacked(seven: Seven) -> None:
    fit = check(seven.base, seven.llama_plus, seven.alpaca)
    assert has(fit.warnings, "was trained on LLaMA-7B alone; leave out chinese-llama-7b or")


def test_the_wrong_order_is_a_fault(seven: Seven) -> None:
    fit = check(seven.base, seven.alpaca_plus, seven.llama_plus)
    assert has(fit.faults, "pass the adapter with the smaller vocabulary first")
    assert has(fit.warnings, "comes before chinese-alpaca-plus-7b or")


def test_an_adapter_of_13b_does_not_fit_7b(seven: Seven, tmp_path: Path) -> None:
    fit = check(seven.base, released(tmp_path / "a", rank=8, rows=ALPACA, hidden=5120))
    assert has(fit.faults, "made for a model of hidden size 5120, the base has 4096")


def test_a_published_hash_makes_the_wrong_order_a_fault(
    seven: Seven, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "a"
    folder.mkdir()
    factors = {
        f"{P}{Q}.lora_A.weight": torch.zeros(64, 4096).half(),
        f"{P}{Q}.lora_B.weight": torch.zeros(4096, 64).half(),
    }
    torch.save(factors, folder / "adapter_model.bin")
    shutil.copy(seven.alpaca_plus / "adapter_config.json", folder)
    sha256 = hashlib.sha256((folder / "adapter_model.bin").read_bytes()).hexdigest()
    real = catalogue.releases()
    name = "chinese-alpaca-plus-7b"
    known = {**real, name: replace(real[name], adapter_sha256=sha256)}
    monkeypatch.setattr(catalogue, "releases", lambda: known)
    fit = check(seven.base, folder)
    expected = f"this adapter, {name}, was trained on chinese-llama-plus-7b merged; pass that"
    assert has(fit.faults, expected)
    assert not has(check(seven.base, folder, read_content=False).faults, expected)
    assert check(seven.base, seven.llama_plus, folder).faults == ()


def test_an_adapter_that_records_its_base_fits_it_and_no_other(
    pico_base: Path, pico_untied: Path, tmp_path: Path
) -> None:
    adapter = adapter_of(pico_base, tmp_path / "a", model_fingerprint(pico_base))
    fitting = check(pico_base, adapter)
    assert (fitting.faults, fitting.warnings) == ((), ())
    fit = check(pico_untied, adapter)
    assert has(fit.faults, "was trained on another model")
    assert has(fit.faults, "give the model it was trained on")
    assert check(pico_untied, adapter, read_content=False).faults == ()


def test_recorded_bases_tell_the_order(pico_base: Path, tmp_path: Path) -> None:
    mark = model_fingerprint(pico_base)
    first = write_adapter(tmp_path / "first", prefixed(factors()))
    marked(first, base=mark)
    merge_adapters(pico_base, [first], tmp_path / "once")
    second = adapter_of(pico_base, tmp_path / "second", model_fingerprint(tmp_path / "once"))
    right = check(pico_base, first, second)
    assert (right.faults, right.warnings) == ((), ())
    assert has(check(pico_base, second, first).faults, f"pass {first} first")
    assert has(check(pico_base, first, first).warnings, "their changes add up")
    other = adapter_of(pico_base, tmp_path / "other", "0" * 64)
    assert has(check(pico_base, first, other).faults, "in the order of their training")


def test_an_adapter_without_a_record_is_a_warning(pico_base: Path, tmp_path: Path) -> None:
    fit = check(pico_base, adapter_of(pico_base, tmp_path / "a"))
    assert fit.faults == ()
    assert has(fit.warnings, "it records no base")


@pytest.mark.parametrize(
    ("ids", "fault"),
    [
        ([390, 393], ""),
        ([394, 395], ""),
        ([395], "the rows between are nowhere"),
    ],
)
def test_new_rows_must_follow_on_the_vocabulary(
    pico_base: Path, tmp_path: Path, ids: list[int], fault: str
) -> None:
    usable = [390 + n for n in range(len(ids))]
    adapter = adapter_of(
        pico_base, tmp_path / "a", trainable_token_indices={"embed_tokens": usable}
    )
    file = adapter / "adapter_config.json"
    tree = json.loads(file.read_text()) | {"trainable_token_indices": {"embed_tokens": ids}}
    file.write_text(json.dumps(tree))
    fit = check(pico_base, adapter)
    assert has(fit.faults, fault) if fault else fit.faults == ()
    assert has(fit.warnings, "the merged model 396 rows") == (ids == [394, 395])
    file.write_text(json.dumps(tree | {"trainable_token_indices": {"embed_tokens": [*ids, 1]}}))
    assert has(check(pico_base, adapter).faults, "copy its own adapter_config.json")


def test_half_of_a_grown_vocabulary_is_a_fault(pico_untied: Path, tmp_path: Path) -> None:
    adapter = adapter_of(pico_untied, tmp_path / "a")
    file = adapter / "adapter_model.safetensors"
    grown = load_file(file) | {f"{P}model.embed_tokens.weight": torch.zeros(400, 32)}
    save_file(grown, file)
    assert has(check(pico_untied, adapter).faults, "not the other matrix of the vocabulary")
    save_file(grown | {f"{P}lm_head.weight": torch.zeros(400, 32)}, file)
    assert check(pico_untied, adapter).faults == ()


def test_tensors_that_cannot_be_merged_are_named(pico_base: Path, tmp_path: Path) -> None:
    adapter = adapter_of(pico_base, tmp_path / "a")
    file = adapter / "adapter_model.safetensors"
    tensors = load_file(file)
    save_file(tensors | {f"{P}{Q}.bias": torch.zeros(32)}, file)
    assert has(check(pico_base, adapter).faults, f"{Q}.bias is of a kind that cannot be merged")
    save_file(tensors | {f"{P}model.extra.weight": torch.zeros(3)}, file)
    assert has(check(pico_base, adapter).faults, "model.extra.weight [3] is not in the base")
    save_file({}, file)
    assert has(check(pico_base, adapter).faults, "the adapter is empty")


def test_matrices_of_another_shape_are_one_line(pico_base: Path, tmp_path: Path) -> None:
    adapter = adapter_of(pico_base, tmp_path / "a")
    file = adapter / "adapter_model.safetensors"
    wider = {
        name: torch.zeros(48, 4) if "lora_B" in name else tensor
        for name, tensor in load_file(file).items()
    }
    save_file(wider, file)
    (fault,) = map(str, check(pico_base, adapter).faults)
    assert "is [32, 32] in the base, [48, 32] in the adapter (2 such matrices" in fault


def test_the_tokenizer_that_fits_is_named(pico_base: Path, tmp_path: Path) -> None:
    adapter = adapter_of(pico_base, tmp_path / "a")
    shutil.copy(pico_base / "tokenizer.json", adapter)
    tree = json.loads((adapter / "tokenizer.json").read_text())
    tree["added_tokens"].append({"content": "[PAD]", "id": 394})
    (adapter / "tokenizer.json").write_text(json.dumps(tree))
    fit = check(pico_base, adapter)
    assert has(fit.faults, "has 395 entries, the merged model 394 rows")
    assert has(fit.faults, f"give the one of {pico_base}")
    assert check(pico_base, adapter, tokenizer=pico_base).faults == ()
    assert has(check(pico_base, adapter, tokenizer=tmp_path).warnings, "no tokenizer")


def test_another_tokenizer_of_the_same_size_is_a_fault(pico_base: Path, tmp_path: Path) -> None:
    adapter = adapter_of(pico_base, tmp_path / "a")
    file = adapter / "adapter_model.safetensors"
    mark = {"hanpaca.tokenizer.fingerprint": tokenizer_fingerprint(pico_base)}
    save_file(load_file(file), file, metadata=mark)
    assert check(pico_base, adapter).faults == ()
    tree = json.loads((pico_base / "tokenizer.json").read_text())
    tree["model"]["merges"] = tree["model"]["merges"][:-1]
    (tmp_path / "t").mkdir()
    (tmp_path / "t" / "tokenizer.json").write_text(json.dumps(tree))
    assert has(check(pico_base, adapter, tokenizer=tmp_path / "t").faults, "another tokenizer")


def test_a_base_that_is_not_whole_or_no_model_is_a_fault(pico_base: Path, tmp_path: Path) -> None:
    adapter = adapter_of(pico_base, tmp_path / "a")
    odd = tmp_path / "odd"
    odd.mkdir()
    save_file({"w": torch.zeros(2)}, odd / "model.safetensors")
    shutil.copy(pico_base / "config.json", odd)
    with pytest.raises(ArtifactError, match="1 weights are too few"):
        check(odd, adapter)
    shutil.copytree(pico_base, tmp_path / "b")
    (tmp_path / "b" / "model.safetensors").rename(tmp_path / "b" / "model-1.safetensors")
    names = [*load_file(pico_base / "model.safetensors")]
    index = dict.fromkeys(names, "model-1.safetensors") | {"lost": "model-2.safetensors"}
    text = json.dumps({"weight_map": index})
    (tmp_path / "b" / "model.safetensors.index.json").write_text(text)
    with pytest.raises(ArtifactError, match=r"model-2\.safetensors"):
        check(tmp_path / "b", adapter, read_content=False)


def test_the_command_exits_with_4_on_a_fault(pico_base: Path, tmp_path: Path, seven: Seven) -> None:
    runner = CliRunner()
    adapter = adapter_of(pico_base, tmp_path / "a", model_fingerprint(pico_base))
    good = runner.invoke(app, ["inspect", str(pico_base), "--adapter", str(adapter), "--hash"])
    assert good.exit_code == 0
    assert good.stdout.startswith("fits ")
    bad = runner.invoke(app, ["inspect", str(seven.base), "--adapter", str(adapter), "--json"])
    assert isinstance(bad.exception, ArtifactError)
    assert json.loads(bad.stdout)["faults"]
