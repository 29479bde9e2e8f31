"""Bases in every format, and Meta's format as output, against its rules in plain torch."""

import json
import zipfile
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import LlamaConfig, LlamaForCausalLM

from hanpaca.checkpoints.model import read_tensors
from hanpaca.checkpoints.safetensors import INDEX
from hanpaca.errors import ArtifactError
from hanpaca.merging import MergeOptions, merge_adapters, plan_merge
from tests.support.formats import as_bin, joined, meta_names, unpermuted
from tests.support.merge_oracle import (
    check,
    expected,
    factors,
    load_base,
    prefixed,
    tables,
    write_adapter,
)

STATE = factors(seed=8) | tables(395, seed=9)


@pytest.fixture(scope="module")
def adapter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_adapter(tmp_path_factory.mktemp("formats") / "a", prefixed(STATE))


@pytest.mark.parametrize("num_files", [1, 3])
def test_a_bin_base_gives_the_same(
    num_files: int, adapter: Path, pico_untied: Path, tmp_path: Path
) -> None:
    base = as_bin(pico_untied, tmp_path / "bin", num_files)
    merge_adapters(base, [adapter], tmp_path / "out")
    check(tmp_path / "out", expected(load_base(pico_untied), STATE, 10 / 4))
    assert not list((tmp_path / "out").glob("*.bin*"))


def test_shards_are_as_large_as_asked(adapter: Path, pico_untied: Path, tmp_path: Path) -> None:
    merge_adapters(
        pico_untied, [adapter], tmp_path / "out", options=MergeOptions(max_shard_bytes=20_000)
    )
    files = sorted((tmp_path / "out").glob("*.safetensors"))
    wanted = expected(load_base(pico_untied), STATE, 10 / 4)
    assert len(files) > 3
    assert (tmp_path / "out" / INDEX).is_file()
    found = {name: tensor for file in files for name, tensor in load_file(file).items()}
    assert list(read_tensors(tmp_path / "out")) == list(wanted)
    assert all(torch.equal(found[name], tensor) for name, tensor in wanted.items())


@pytest.mark.parametrize("num_files", [1, 2])
def test_metas_format_follows_its_rules_and_leads_back(
    num_files: int, adapter: Path, pico_untied: Path, tmp_path: Path
) -> None:
    options = MergeOptions(format="pth", num_files=num_files, dtype="f16")
    merge_adapters(pico_untied, [adapter], tmp_path / "out", options=options)
    wanted = expected(load_base(pico_untied), STATE, 10 / 4, torch.float16)
    parts = [
        torch.load(tmp_path / "out" / f"consolidated.{n:02d}.pth", weights_only=True, mmap=mmap)
        for n in range(num_files)
        for mmap in [bool(n)]
    ]
    assert parts[0].keys() == {meta_names(name) for name in wanted}
    for name, tensor in wanted.items():
        theirs = meta_names(name)
        if theirs.endswith(("wq.weight", "wk.weight")):
            tensor = unpermuted(tensor, 4 if "wq" in theirs else 2)
        assert torch.equal(joined(theirs, [part[theirs] for part in parts]), tensor), name
    for file in (tmp_path / "out").glob("*.pth"):
        with zipfile.ZipFile(file) as archive:
            assert archive.testzip() is None
    if num_files == 2:
        assert [len(part["output.weight"]) for part in parts] == [197, 198]
    params = json.loads((tmp_path / "out/params.json").read_text())
    assert (params["dim"], params["n_heads"], params["n_kv_heads"]) == (32, 4, 2)
    assert params["vocab_size"] == -1

    merge_adapters(tmp_path / "out", [], tmp_path / "back")
    check(tmp_path / "back", wanted)
    before = json.loads((pico_untied / "config.json").read_text())
    after = json.loads((tmp_path / "back/config.json").read_text())
    for field in ("hidden_size", "intermediate_size", "num_key_value_heads", "rms_norm_eps"):
        assert after[field] == before[field], field


def test_a_tied_head_is_written_out_for_meta(pico_base: Path, tmp_path: Path) -> None:
    options = MergeOptions(format="pth")
    merge_adapters(pico_base, [], tmp_path / "out", options=options)
    found = torch.load(tmp_path / "out/consolidated.00.pth", weights_only=True)
    assert torch.equal(found["output.weight"], found["tok_embeddings.weight"])


def test_an_adapter_goes_onto_metas_format(
    adapter: Path, pico_untied: Path, tmp_path: Path
) -> None:
    for num_files in (1, 2):
        pth = tmp_path / f"pth{num_files}"
        options = MergeOptions(format="pth", num_files=num_files)
        merge_adapters(pico_untied, [], pth, options=options)
        merge_adapters(pth, [adapter], tmp_path / f"out{num_files}")
        wanted = expected(load_base(pico_untied), STATE, 10 / 4)
        check(tmp_path / f"out{num_files}", wanted)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rope_parameters": {"rope_type": "llama3", "rope_theta": 1e4}}, "rope scaling 'llama3'"),
        ({"model_type": "mistral"}, "mistral"),
        ({"attention_bias": True}, "biases"),
        ({"head_dim": 4}, "head size"),
    ],
)
def test_what_metas_format_cannot_say_is_refused(
    change: dict[str, object], message: str, pico_untied: Path, tmp_path: Path
) -> None:
    config = LlamaConfig.from_pretrained(pico_untied)
    config.update(
        {name: change[name] for name in change if name not in ("model_type", "rope_parameters")}
    )
    LlamaForCausalLM(config).save_pretrained(tmp_path / "base")
    file = tmp_path / "base/config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **change}))
    with pytest.raises(ArtifactError, match=message):
        plan_merge(tmp_path / "base", [], MergeOptions(format="pth"))


def test_heads_are_never_cut(pico_untied: Path) -> None:
    with pytest.raises(ArtifactError, match=r"k_proj.* cannot be cut into 4 files"):
        plan_merge(pico_untied, [], MergeOptions(format="pth", num_files=4))


def test_the_tokenizer_is_that_of_the_last_adapter_that_has_one(
    pico_untied: Path, tmp_path: Path
) -> None:
    state = prefixed(factors() | tables(395))
    first, second = write_adapter(tmp_path / "1", state), write_adapter(tmp_path / "2", state)
    (first / "tokenizer.model").write_bytes(b"\x0a\x03abc" * 395 + b"\x12\x00")
    merge_adapters(pico_untied, [first, second], tmp_path / "out")
    assert (tmp_path / "out/tokenizer.model").read_bytes() == (
        first / "tokenizer.model"
    ).read_bytes()
    assert not (tmp_path / "out/tokenizer.json").exists()
    (second / "tokenizer.model").write_bytes(b"\x0a\x03abc" * 396)
    with pytest.raises(ArtifactError, match="396 entries, the merged model 395"):
        plan_merge(pico_untied, [first, second], MergeOptions())
    (second / "tokenizer.model").write_bytes(b"\x0a\xff\xff\xff\xff\xff\xff")
    with pytest.raises(ArtifactError, match="no SentencePiece model"):
        plan_merge(pico_untied, [first, second], MergeOptions())
