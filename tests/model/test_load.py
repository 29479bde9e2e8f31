import json
import shutil
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from hanpaca.errors import ArtifactError
from hanpaca.model.load import load_model, load_tokenizer

QUERY = "model.layers.1.self_attn.q_proj.weight"


@pytest.fixture
def model(pico_base: Path, tmp_path: Path) -> Path:
    """A copy that may be damaged."""
    return Path(shutil.copytree(pico_base, tmp_path / "model"))


def reweighed(folder: Path, **changes: torch.Tensor | None) -> Path:
    """The same with other weights; None takes one out."""
    file = folder / "model.safetensors"
    tensors = {**load_file(file), **changes}
    kept = {name: tensor for name, tensor in tensors.items() if tensor is not None}
    save_file(kept, file, metadata={"format": "pt"})
    return folder


def test_a_missing_weight_is_not_made_up(model: Path) -> None:
    """Transformers fills it with random numbers and only warns."""
    with pytest.raises(ArtifactError, match=f"{QUERY} is missing"):
        load_model(reweighed(model, **{QUERY: None}))


def test_a_weight_without_a_place_is_not_dropped(model: Path) -> None:
    bias = QUERY.replace("weight", "bias")
    with pytest.raises(ArtifactError, match=f"{bias} has no place"):
        load_model(reweighed(model, **{bias: torch.zeros(32)}))


def test_constants_of_old_conversions_and_a_doubled_head_do_no_harm(model: Path) -> None:
    before = load_model(model).state_dict()
    head = load_file(model / "model.safetensors")["model.embed_tokens.weight"].clone()
    extra = {"model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(4), "lm_head.weight": head}
    after = load_model(reweighed(model, **extra)).state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)


@pytest.mark.parametrize("kept", [0, 7, 100, 5_000, -1])
def test_cut_weights_are_refused(kept: int, model: Path) -> None:
    file = model / "model.safetensors"
    file.write_bytes(file.read_bytes()[:kept])
    with pytest.raises(ArtifactError, match=r"truncated|damaged"):
        load_model(model)


@pytest.mark.parametrize(
    "content",
    [b"", b"5", b"[]", b"{}", b'\xff\xfe{"a": 1}', b"[" * 100_000, b'{"model_type": []}'],
)
def test_a_damaged_configuration_is_one_line(content: bytes, model: Path) -> None:
    (model / "config.json").write_bytes(content)
    with pytest.raises(ArtifactError, match=r"config\.json: cannot be read") as error:
        load_model(model)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "changes",
    [
        {"hidden_size": "32"},
        {"hidden_size": 64},
        {"num_attention_heads": 0},
        {"num_attention_heads": 5},
        {"num_hidden_layers": 3},
        {"num_hidden_layers": 1},
        {"vocab_size": 10},
        {"rms_norm_eps": None},
        {"hidden_act": "no such"},
        {"rope_parameters": {"rope_type": "no such"}},
        {"dtype": "no such"},
    ],
)
def test_a_configuration_of_another_model_is_refused(
    changes: Mapping[str, object], model: Path
) -> None:
    file = model / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))
    with pytest.raises(ArtifactError, match=str(model)) as error:
        load_model(model)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("tokenizer.json", b""),
        ("tokenizer.json", b"[]"),
        ("tokenizer.json", b"{}"),
        ("tokenizer.json", b"\xff" * 100_000),
        # What a newer tokenizers library writes is a bare Exception to an older one.
        ("tokenizer.json", b'{"added_tokens": [], "model": {"type": "Newer"}}'),
        ("tokenizer_config.json", b""),
        ("tokenizer_config.json", b"[]"),
        ("tokenizer_config.json", b"\xff\xfe{}"),
        ("tokenizer_config.json", b'{"bos_token": 5}'),
    ],
)
def test_a_damaged_tokenizer_is_one_line(file: str, content: bytes, model: Path) -> None:
    (model / file).write_bytes(content)
    with pytest.raises(ArtifactError, match="the tokenizer cannot be loaded") as error:
        load_tokenizer(model)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 400 + len(str(model))


def test_a_padding_token_beyond_the_rows_is_one_line(model: Path) -> None:
    config = json.loads((model / "config.json").read_text(encoding="utf-8"))
    (model / "config.json").write_text(json.dumps(config | {"pad_token_id": 9_999}))
    with pytest.raises(ArtifactError, match="cannot be loaded: AssertionError: Padding_idx"):
        load_model(model)
