"""From folders, with or without adapters, to GGUF files of several types in one reading."""

import errno
import os
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest
from gguf.constants import GGMLQuantizationType as Type

from hanpaca.checkpoints.gguf import read_header
from hanpaca.checkpoints.gguf_names import hf_name, to_interleaved
from hanpaca.errors import ArtifactError, ResourceError
from hanpaca.gguf import stream
from hanpaca.gguf.kernels import quantize
from hanpaca.merging import MergeOptions, merge_adapters, merged_rows, plan_merge
from hanpaca.steps.write_gguf import folder_to_gguf, model_to_gguf
from tests.support.formats import as_bin
from tests.support.merge_oracle import factors, prefixed, tables, write_adapter
from tests.support.models import make_pico_model
from tests.support.peft_adapters import make_adapter

TYPES = ("f32", "bf16", "q8_0", "q4_k_m", "q2_k", "iq4_xs")


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pico model with rows as long as the blocks of the K-types."""
    folder = tmp_path_factory.mktemp("wide") / "base"
    make_pico_model(folder, tied=False, hidden_size=256)
    return folder


def outputs(folder: Path, types: tuple[str, ...] = TYPES) -> dict[str, Path]:
    return {file_type: folder / f"m.{file_type}.gguf" for file_type in types}


def contents(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


@pytest.mark.slow
@pytest.mark.parametrize("chunk", [1, 5_000, stream._CHUNK_ELEMENTS])
def test_files_are_the_kernels_bytes_however_they_are_cut(
    chunk: int, wide: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "_CHUNK_ELEMENTS", chunk)
    told: list[tuple[int, int]] = []
    files = outputs(tmp_path)
    model_to_gguf(wide, files, metadata={}, on_bytes=lambda *both: told.append(both))
    assert told[-1][0] == told[-1][1]
    with merged_rows(plan_merge(wide, [], MergeOptions())) as tensors:
        weights = {one.name: np.asarray(one.read(0, one.shape[0])) for one in tensors}
    kinds = set()
    for file in files.values():
        data = file.read_bytes()
        for name, entry in read_header(file).tensors.items():
            values = weights[hf_name(name) or ""]
            if name.endswith(("attn_q.weight", "attn_k.weight")):
                values = to_interleaved(values, len(values) // 64)
            expected = quantize(values, entry.kind).tobytes()
            assert data[entry.begin : entry.begin + entry.num_bytes] == expected, name
            kinds.add(entry.kind)
    assert kinds > {Type.Q2_K, Type.Q4_K, Type.Q6_K, Type.IQ4_XS, Type.Q8_0}


def test_one_reading_gives_what_several_give(wide: Path, tmp_path: Path) -> None:
    types = ("f16", "q4_k_m", "q4_k_s")
    summaries = model_to_gguf(wide, outputs(tmp_path / "together", types), metadata={"a": "b"})
    for file_type, file in outputs(tmp_path / "alone", types).items():
        alone = folder_to_gguf(wide, file, file_type=file_type, metadata={"a": "b"})
        assert summaries[file_type] == alone
    assert contents(tmp_path / "together") == contents(tmp_path / "alone")


ADAPTERS: dict[str, dict[str, Any]] = {
    "lora": {"target_modules": ["q_proj", "k_proj", "down_proj"]},
    "dora": {"use_dora": True, "target_modules": ["q_proj", "o_proj"]},
    "rows": {"trainable_token_indices": {"embed_tokens": [380, 381, 383]}},
    "tables": {"modules_to_save": ["embed_tokens", "lm_head"]},
}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("dialect", [*ADAPTERS, "longer"])
@pytest.mark.parametrize("layout", ["safetensors", "bin", "pth"])
def test_adapters_folded_on_the_way_give_the_merged_models_files(
    layout: str, dialect: str, pico_untied: Path, tmp_path: Path
) -> None:
    types = ("f32", "q8_0", "q4_0")
    base = pico_untied
    if layout == "bin":
        base = as_bin(pico_untied, tmp_path / "base", 3)
    elif layout == "pth":
        base = tmp_path / "base"
        merge_adapters(pico_untied, [], base, options=MergeOptions(format="pth", num_files=2))
    if layout != "safetensors":
        for name in ("tokenizer.json", "tokenizer_config.json"):
            (base / name).write_bytes((pico_untied / name).read_bytes())
    if dialect == "longer":
        first = write_adapter(tmp_path / "a", prefixed(factors() | tables(399)))
    else:
        first = make_adapter(pico_untied, tmp_path / "a", **ADAPTERS[dialect])
    second = write_adapter(tmp_path / "b", prefixed(factors(seed=3)))
    (second / "chat_template.jinja").write_text("{{ messages[0]['content'] }}")
    merge_adapters(base, [first, second], tmp_path / "merged")
    model_to_gguf(tmp_path / "merged", outputs(tmp_path / "twice", types), metadata={})
    model_to_gguf(base, outputs(tmp_path / "once", types), adapters=[first, second], metadata={})
    assert contents(tmp_path / "once") == contents(tmp_path / "twice")


def test_an_importance_matrix_is_applied_row_by_row(wide: Path, tmp_path: Path) -> None:
    chance = np.random.default_rng(0)
    importance = {"blk.0.ffn_up.weight": chance.random(256, dtype=np.float32)}
    files = outputs(tmp_path, ("q4_k_m",))
    folder_to_gguf(wide, tmp_path / "without.gguf", file_type="q4_k_m", metadata={})
    model_to_gguf(wide, files, metadata={}, importance=importance)
    with merged_rows(plan_merge(wide, [], MergeOptions())) as tensors:
        (up,) = (one for one in tensors if one.name == "model.layers.0.mlp.up_proj.weight")
        values = np.asarray(up.read(0, up.shape[0]))
    data = files["q4_k_m"].read_bytes()
    for name, entry in read_header(files["q4_k_m"]).tensors.items():
        found = data[entry.begin : entry.begin + entry.num_bytes]
        if name in importance:
            assert found == quantize(values, Type.Q4_K, importance[name]).tobytes()
            assert found != quantize(values, Type.Q4_K).tobytes()
        else:
            before = read_header(tmp_path / "without.gguf").tensors[name]
            old = (tmp_path / "without.gguf").read_bytes()
            assert found == old[before.begin : before.begin + before.num_bytes], name


@pytest.mark.parametrize(
    ("file_type", "importance", "message"),
    [
        ("q2_k_s", None, r"q2_k_s needs an importance matrix with blk\.0\.\w+\.weight.*q2_k"),
        ("q4_k_m", np.ones(9, np.float32), r"blk\.0\.ffn_up\.weight has .*another"),
        ("q4_k_m", np.full(256, np.nan, np.float32), r"blk\.0\.ffn_up\.weight holds NaN"),
    ],
)
def test_an_importance_matrix_that_does_not_do_is_refused(
    file_type: str, importance: Any, message: str, wide: Path, tmp_path: Path
) -> None:
    given = None if importance is None else {"blk.0.ffn_up.weight": importance}
    files = outputs(tmp_path, ("q8_0", file_type))
    with pytest.raises(ArtifactError, match=message):
        model_to_gguf(wide, files, metadata={}, importance=given)
    assert not list(tmp_path.iterdir())


def no_space(*_: object) -> NoReturn:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_full_disk_leaves_nothing_and_what_was_there(
    wide: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = outputs(tmp_path / "out")
    (tmp_path / "out").mkdir()
    files["q8_0"].write_bytes(b"earlier")
    monkeypatch.setattr(os, "pwrite", no_space)
    with pytest.raises(ResourceError, match=r"out: No space left on device"):
        model_to_gguf(wide, files, metadata={})
    assert contents(tmp_path / "out") == {files["q8_0"].name: b"earlier"}


def test_a_tokenizer_that_does_not_fit_is_named_where_the_user_has_it(
    pico_untied: Path, tmp_path: Path
) -> None:
    base = as_bin(pico_untied, tmp_path / "base", 1)
    (base / "tokenizer.json").write_text('{"model": {"type": "WordPiece", "vocab": {}}}')
    adapter = write_adapter(tmp_path / "a", prefixed(factors()))
    with pytest.raises(ArtifactError, match=str(base / "tokenizer.json")):
        model_to_gguf(base, outputs(tmp_path / "out"), adapters=[adapter], metadata={})
