from pathlib import Path
from typing import get_args

import pytest
from gguf.constants import GGMLQuantizationType as Type

from hanpaca.checkpoints.gguf import read_header
from hanpaca.gguf.types import FILE_TYPES, Shape, needs_importance, tensor_type
from hanpaca.settings import FileType


def test_a_recipe_may_name_every_type_that_needs_no_importance_matrix() -> None:
    assert get_args(FileType) == tuple(name for name in FILE_TYPES if name != "q2_k_s")


def test_types_are_those_of_a_file_made_by_llama_cpp(smollm2_gguf: Path) -> None:
    found = read_header(smollm2_gguf).tensors
    assert len(found) == 272
    model = Shape(30, 9, 3, tied=True)
    for name, entry in found.items():
        assert tensor_type(name, entry.shape, file_type="q4_1", model=model) == entry.kind, name


@pytest.mark.parametrize(
    ("num_layers", "finer"),
    [
        # `use_more_bits` of llama-quant.cpp, worked out by hand.
        (32, [0, 1, 2, 3, 6, 9, 12, 15, 18, 21, 24, 27, 28, 29, 30, 31]),
        (22, [0, 1, 4, 7, 10, 13, 16, 19, 20, 21]),
        (2, [1]),
    ],
)
def test_some_layers_get_finer_types(num_layers: int, finer: list[int]) -> None:
    model = Shape(num_layers, 8, 8, tied=False)
    for part, expected in (("attn_v", finer), ("ffn_down", finer), ("attn_q", [])):
        names = [f"blk.{layer}.{part}.weight" for layer in range(num_layers)]
        kinds = [tensor_type(n, (256, 256), file_type="q4_k_m", model=model) for n in names]
        assert [n for n, kind in enumerate(kinds) if kind == Type.Q6_K] == expected
        assert set(kinds) <= {Type.Q4_K, Type.Q6_K}


@pytest.mark.parametrize(
    ("name", "shape", "file_type", "tied", "expected"),
    [
        ("output_norm.weight", (256,), "q4_0", False, Type.F32),
        ("output_norm.weight", (256,), "f16", False, Type.F32),
        ("output.weight", (9, 256), "q4_0", False, Type.Q6_K),
        ("output.weight", (9, 256), "q8_0", False, Type.Q8_0),
        ("output.weight", (9, 256), "bf16", False, Type.BF16),
        ("token_embd.weight", (9, 256), "q4_k_m", False, Type.Q4_K),
        ("token_embd.weight", (9, 256), "q4_k_m", True, Type.Q6_K),
        ("output.weight", (9, 288), "q4_k_m", False, Type.Q8_0),
        ("blk.0.attn_q.weight", (9, 288), "q4_k_m", False, Type.Q5_0),
        ("blk.0.attn_q.weight", (9, 288), "q5_k_m", False, Type.Q5_1),
        ("blk.0.attn_q.weight", (9, 288), "q4_0", False, Type.Q4_0),
        ("blk.0.attn_q.weight", (9, 288), "iq4_xs", False, Type.IQ4_NL),
        ("blk.0.attn_q.weight", (9, 288), "q2_k", False, Type.Q4_0),
        ("blk.0.attn_q.weight", (9, 40), "q4_k_m", False, Type.F16),
        ("blk.0.attn_q.weight", (9, 40), "q8_0", False, Type.F16),
    ],
)
def test_which_type_a_tensor_gets(
    name: str, shape: tuple[int, ...], file_type: str, tied: bool, expected: Type
) -> None:
    model = Shape(2, 8, 8, tied=tied)
    assert tensor_type(name, shape, file_type=file_type, model=model) == expected


def test_only_the_smallest_type_needs_an_importance_matrix() -> None:
    assert needs_importance("blk.0.attn_q.weight", Type.Q2_K, file_type="q2_k_s")
    assert not needs_importance("blk.0.attn_q.weight", Type.Q2_K, file_type="q2_k")
    assert not needs_importance("blk.0.attn_v.weight", Type.Q4_K, file_type="q2_k_s")
    assert not needs_importance("token_embd.weight", Type.Q2_K, file_type="q2_k_s")
