"""Models in GGUF files that are damaged, or are not what their header says."""

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hanpaca.checkpoints.gguf_model import open_gguf
from hanpaca.checkpoints.gguf_names import hf_name, to_halves
from hanpaca.errors import ArtifactError
from hanpaca.model.load import load_model, load_tokenizer
from hanpaca.steps.write_gguf import folder_to_gguf, gguf_to_folder
from hanpaca.tokenizer.conversion.gguf_side import gguf_vocabulary

Kinds = gguf.GGUFValueType
KINDS = {bool: Kinds.BOOL, int: Kinds.INT64, float: Kinds.FLOAT32, str: Kinds.STRING}
QUERY = "blk.1.attn_q.weight"


@pytest.fixture(scope="module")
def whole(pico_untied: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("whole") / "m.gguf"
    folder_to_gguf(pico_untied, file, file_type="q8_0", metadata={})
    return file


def rewritten(
    source: Path,
    target: Path,
    *,
    fields: Mapping[str, Any] | None = None,
    tensors: Mapping[str, np.ndarray | None] | None = None,
) -> Path:
    """A copy with other values, written by gguf-py; None takes one out."""
    reader = gguf.GGUFReader(source)
    writer = gguf.GGUFWriter(target, "")
    kept = {name: one for name, one in reader.fields.items() if not name.startswith("GGUF.")}
    writer.kv_data[0].clear()
    for name in dict.fromkeys((*kept, *(fields or {}))):
        if not fields or name not in fields:
            old = kept[name]
            writer.add_key_value(name, old.contents(), *old.types)
        elif (value := fields[name]) is not None:
            one = value[0] if isinstance(value, list) else value
            kinds = [Kinds.ARRAY] if isinstance(value, list) else []
            kinds.append(KINDS[type(one)])
            writer.add_key_value(name, value, *kinds)
    for tensor in reader.tensors:
        if tensors and tensor.name in tensors:
            continue
        writer.add_tensor(tensor.name, tensor.data, raw_dtype=tensor.tensor_type)
    for name, values in (tensors or {}).items():
        if values is not None:
            writer.add_tensor(name, values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return target


def test_a_rewritten_file_is_the_same_model(whole: Path, tmp_path: Path) -> None:
    again = open_gguf(rewritten(whole, tmp_path / "m.gguf"))
    before = open_gguf(whole)
    assert again.config == before.config
    assert gguf_vocabulary(again) == gguf_vocabulary(before)
    for name in before.tensors:
        assert np.array_equal(again.weight(name), before.weight(name))


def test_weights_are_what_gguf_py_dequantizes(whole: Path) -> None:
    model = open_gguf(whole)
    reader = gguf.GGUFReader(whole)
    assert len(reader.tensors) == len(model.tensors) == 21
    for tensor in reader.tensors:
        expected = gguf.dequantize(tensor.data, tensor.tensor_type)
        for ending, heads in ((".attn_q.weight", 4), (".attn_k.weight", 2)):
            if tensor.name.endswith(ending):
                expected = to_halves(expected, heads)
        found = model.weight(str(hf_name(tensor.name)))
        assert found.dtype == np.float32
        assert np.array_equal(found, expected), tensor.name


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"general.architecture": "gpt2"}, "architecture 'gpt2'"),
        ({"general.architecture": None}, "architecture None"),
        ({"general.architecture": 5}, "architecture 5"),
        ({"llama.block_count": None}, "lacks 'llama.block_count'"),
        ({"llama.block_count": 3}, "blk.2.attn_q.weight is missing"),
        ({"llama.block_count": 1}, "blk.1.*not there"),
        ({"llama.block_count": 2**32 - 1}, "cannot make 4294967295 layers"),
        ({"llama.block_count": 0}, "at least 1"),
        ({"llama.block_count": [2, 2]}, "should be of type int"),
        ({"llama.embedding_length": 64}, "token_embd.weight"),
        ({"llama.feed_forward_length": "64"}, "should be of type int"),
        ({"llama.attention.head_count": 0}, "at least 1"),
        ({"llama.attention.head_count": 8}, "attn_q.weight"),
        ({"llama.attention.head_count": 3}, "do not fit"),
        ({"llama.attention.head_count_kv": 4}, "attn_k.weight"),
        ({"llama.attention.key_length": 7}, "do not fit"),
        ({"llama.attention.layer_norm_rms_epsilon": None}, "layer_norm_rms_epsilon"),
        ({"llama.attention.layer_norm_rms_epsilon": 1}, "should be of type float"),
        ({"llama.rope.scaling.type": "yarn"}, "llama.rope.scaling.factor is None"),
        ({"tokenizer.ggml.model": "bert"}, "only byte-level BPE"),
        ({"tokenizer.ggml.pre": None}, "lacks 'tokenizer.ggml.pre'"),
        ({"tokenizer.ggml.tokens": None}, "lacks 'tokenizer.ggml.tokens'"),
        ({"tokenizer.ggml.tokens": ["a", "b"]}, "token"),
        ({"tokenizer.ggml.tokens": [1, 2]}, "tokenizer.ggml.tokens.*damaged"),
        ({"tokenizer.ggml.token_type": [1, 1]}, "one entry a token"),
        ({"tokenizer.ggml.merges": None}, "lacks 'tokenizer.ggml.merges'"),
        ({"tokenizer.ggml.merges": ["Ġt"]}, "the merge 'Ġt'"),
        ({"tokenizer.ggml.merges": ["h e l"]}, "the merge 'h e l'"),
        ({"tokenizer.ggml.merges": ["q x"]}, "the merge 'q x'"),
        ({"tokenizer.ggml.bos_token_id": 394}, "there are 394 tokens"),
        ({"tokenizer.ggml.bos_token_id": -1}, "there are 394 tokens"),
        ({"tokenizer.ggml.eos_token_id": "2"}, "should be of type int"),
        ({"tokenizer.ggml.add_bos_token": 1}, "should be of type bool"),
        ({"tokenizer.chat_template": 5}, "chat_template"),
    ],
)
def test_a_header_of_another_model_is_refused(
    fields: dict[str, Any], message: str, whole: Path, tmp_path: Path
) -> None:
    file = rewritten(whole, tmp_path / "m.gguf", fields=fields)
    with pytest.raises(ArtifactError, match=message) as error:
        gguf_vocabulary(open_gguf(file))
    assert str(error.value).startswith(f"{file}: ")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({QUERY: None}, f"{QUERY} is missing"),
        ({QUERY: np.zeros((32, 16), np.float32)}, rf"{QUERY} is \(32, 16\)"),
        ({QUERY: np.zeros((32, 32), np.int8)}, f"{QUERY} is of type I8"),
        ({QUERY: np.zeros((32, 32), np.float64)}, f"{QUERY} is of type F64"),
        (
            {"blk.1.attn_q.bias": np.zeros(32, np.float32)},
            "attn_q.bias is .* where it is not there",
        ),
        ({"blk.2.attn_norm.weight": np.zeros(32, np.float32)}, "blk.2.attn_norm.*not there"),
        ({"token_embd.weight": None}, "token_embd.weight is missing"),
    ],
)
def test_weights_of_another_model_are_refused(
    tensors: dict[str, Any], message: str, whole: Path, tmp_path: Path
) -> None:
    file = rewritten(whole, tmp_path / "m.gguf", tensors=tensors)
    with pytest.raises(ArtifactError, match=message):
        gguf_to_folder(file, tmp_path / "folder")
    assert not (tmp_path / "folder").exists()


def test_a_head_left_out_is_tied(whole: Path, tmp_path: Path) -> None:
    file = rewritten(whole, tmp_path / "m.gguf", tensors={"output.weight": None})
    assert open_gguf(file).config["tie_word_embeddings"] is True


def test_rope_factors_are_passed_over(whole: Path, tmp_path: Path) -> None:
    extra = {"rope_freqs.weight": np.ones(4, np.float32)}
    model = open_gguf(rewritten(whole, tmp_path / "m.gguf", tensors=extra))
    assert model.tensors.keys() == open_gguf(whole).tensors.keys()


def test_a_weight_that_is_no_number_is_refused(whole: Path, tmp_path: Path) -> None:
    values = np.ones((32, 32), np.float16)
    values[3, 4] = np.nan
    file = rewritten(whole, tmp_path / "m.gguf", tensors={QUERY: values})
    with pytest.raises(ArtifactError, match=r"q_proj\.weight holds NaN"):
        gguf_to_folder(file, tmp_path / "folder")
    assert not (tmp_path / "folder").exists()


@settings(deadline=None, max_examples=60, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_a_damaged_file_gives_an_error_or_a_model(
    data: st.DataObject, whole: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Whatever byte of it is damaged: no traceback, no hanging, no half-written folder."""
    folder = tmp_path_factory.mktemp("d")
    content = bytearray(whole.read_bytes())
    places = st.integers(0, 2_000) | st.integers(0, len(content) - 1)
    for position in data.draw(st.lists(places, min_size=1, max_size=3)):
        content[position] ^= data.draw(st.integers(1, 255))
    kept = data.draw(st.just(len(content)) | st.integers(0, len(content)))
    (folder / "m.gguf").write_bytes(content[:kept])
    try:
        gguf_to_folder(folder / "m.gguf", folder / "model")
    except ArtifactError:
        assert not (folder / "model").exists()
        return
    # A damaged text of a token may make a tokenizer that cannot be loaded: that is said then.
    with contextlib.suppress(ArtifactError):
        load_tokenizer(folder / "model")
    load_model(folder / "model")
