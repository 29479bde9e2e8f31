import hashlib
import json
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import peft
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import LlamaForCausalLM
from typer.testing import CliRunner

from hanpaca.cli import app
from hanpaca.errors import ArtifactError
from hanpaca.model.fingerprint import model_fingerprint, tokenizer_fingerprint
from hanpaca.pipeline import catalogue
from hanpaca.pipeline.preflight import Fit, check_fit

P = "base_model.model."
Q = "model.layers.0.self_attn.q_proj"
LLAMA, ALPACA = 49_953, 49_954


def write_holes(file: Path, shapes: Mapping[str, tuple[int, ...]]) -> None:
    """A safetensors file of any size that takes no room."""
    file.parent.mkdir(parents=True, exist_ok=True)
    header: dict[str, Any] = {}
    at = 0
    for name, shape in shapes.items():
        end = at + 2 * int(np.prod(shape))
        header[name] = {"dtype": "F16", "shape": shape, "data_offsets": [at, end]}
        at = end
    text = json.dumps(header).encode()
    with file.open("wb") as stream:
        stream.write(len(text).to_bytes(8, "little") + text)
        stream.truncate(8 + len(text) + at)


def base_of(folder: Path, *, rows: int = 32_000, hidden: int = 4096) -> Path:
    write_holes(
        folder / "model.safetensors",
        {
            "model.embed_tokens.weight": (rows, hidden),
            f"{Q}.weight": (hidden, hidden),
            "lm_head.weight": (rows, hidden),
        },
    )
    return folder


def released(folder: Path, *, rank: int, rows: int, hidden: int = 4096) -> Path:
    """An adapter of the sizes of a released one."""
    write_holes(
        folder / "adapter_model.safetensors",
        {
            f"{P}{Q}.lora_A.weight": (rank, hidden),
            f"{P}{Q}.lora_B.weight": (hidden, rank),
            f"{P}model.embed_tokens.weight": (rows, hidden),
            f"{P}lm_head.weight": (rows, hidden),
        },
    )
    config = {"peft_type": "LORA", "r": rank, "lora_alpha": 4 * rank}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    return folder


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


def has(lines: tuple[str, ...], text: str) -> bool:
    return any(text in line for line in lines)


def check(base: Path, *adapters: Path, **settings: Any) -> Fit:
    return check_fit(base, adapters, **settings)


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


def adapter_of(base: Path, folder: Path, fingerprint: str | None = None, **settings: Any) -> Path:
    model = LlamaForCausalLM.from_pretrained(base)
    config = peft.LoraConfig(**{"r": 4, "target_modules": ["q_proj"], **settings})
    peft.get_peft_model(model, config).save_pretrained(str(folder))
    if fingerprint:
        file = folder / "adapter_model.safetensors"
        metadata = {"hanpaca.base.fingerprint": fingerprint}
        save_file(load_file(file), file, metadata=metadata)
    return folder


def test_an_adapter_that_records_its_base_fits_it_and_no_other(
    pico_base: Path, pico_untied: Path, tmp_path: Path
) -> None:
    adapter = adapter_of(pico_base, tmp_path / "a", model_fingerprint(pico_base))
    assert check(pico_base, adapter) == Fit((), ())
    fit = check(pico_untied, adapter)
    assert has(fit.faults, "was trained on another model")
    assert has(fit.faults, "give the model it was trained on")
    assert check(pico_untied, adapter, read_content=False).faults == ()


def test_recorded_bases_tell_the_order(pico_base: Path, tmp_path: Path) -> None:
    mark = model_fingerprint(pico_base)
    first = adapter_of(pico_base, tmp_path / "first", mark)
    second = adapter_of(pico_base, tmp_path / "second", "0" * 64)
    assert check(pico_base, first, second) == Fit((), ())
    assert has(check(pico_base, second, first).faults, f"pass {first} first")
    assert has(check(pico_base, first, first).warnings, "was trained on the base alone")


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
    (fault,) = check(pico_base, adapter).faults
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


def test_too_little_room_is_a_fault_before_a_byte_is_written(
    seven: Seven, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Path] = []

    def usage(place: Path) -> Any:
        asked.append(place)
        return shutil._ntuple_diskusage(10**9, 0, 8 * 10**8)

    monkeypatch.setattr(shutil, "disk_usage", usage)
    output = tmp_path / "a" / "b"
    assert has(
        check(seven.base, seven.alpaca, output=output).faults, "takes 0.85 GB, on its disk 0.80"
    )
    assert asked == [tmp_path]
    assert check(seven.base, output=output).faults == ()
    assert list(tmp_path.iterdir()) == []


def test_a_base_that_is_not_whole_or_no_model_is_a_fault(pico_base: Path, tmp_path: Path) -> None:
    adapter = adapter_of(pico_base, tmp_path / "a")
    save_file({"w": torch.zeros(2)}, tmp_path / "w.safetensors")
    assert has(check(tmp_path / "w.safetensors", adapter).faults, "no Llama-style model")
    shutil.copytree(pico_base, tmp_path / "b")
    (tmp_path / "b" / "model.safetensors").rename(tmp_path / "b" / "model-1.safetensors")
    names = [*load_file(pico_base / "model.safetensors")]
    index = dict.fromkeys(names, "model-1.safetensors") | {"lost": "model-2.safetensors"}
    text = json.dumps({"weight_map": index})
    (tmp_path / "b" / "model.safetensors.index.json").write_text(text)
    fit = check(tmp_path / "b", adapter, read_content=False)
    assert has(fit.faults, "not whole: model-2.safetensors")


def test_the_command_exits_with_4_on_a_fault(pico_base: Path, tmp_path: Path, seven: Seven) -> None:
    runner = CliRunner()
    adapter = adapter_of(pico_base, tmp_path / "a", model_fingerprint(pico_base))
    good = runner.invoke(app, ["inspect", str(pico_base), "--adapter", str(adapter), "--hash"])
    assert good.exit_code == 0
    assert good.stdout.startswith("fits ")
    bad = runner.invoke(app, ["inspect", str(seven.base), "--adapter", str(adapter), "--json"])
    assert isinstance(bad.exception, ArtifactError)
    assert json.loads(bad.stdout)["faults"]
