"""Every kind of change an adapter can make, alone and in any order, bit for bit in plain torch."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import Tensor

from hanpaca.merging import MergeOptions, merge_adapters
from tests.support.formats import joined, meta_names, unpermuted
from tests.support.merge_oracle import EMBED, HEAD, State, check, prefixed, write_adapter

HIDDEN, INNER, VOCABULARY, RANK, ALPHA = 16, 24, 40, 3, 10
Q, DOWN = "model.layers.0.self_attn.q_proj", "model.layers.0.mlp.down_proj"
EMBEDDING = EMBED.removesuffix(".weight")
TABLES = ("model.embed_tokens", "lm_head")
DTYPES = {"f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16}


def write_base(
    folder: Path, dtype: torch.dtype, *, tied: bool, vocabulary: int = VOCABULARY, heads: int = 4
) -> State:
    """A model of one layer, and its weights."""
    layer = {
        "self_attn.q_proj": (HIDDEN, HIDDEN),
        "self_attn.k_proj": (HIDDEN, HIDDEN),
        "self_attn.v_proj": (HIDDEN, HIDDEN),
        "self_attn.o_proj": (HIDDEN, HIDDEN),
        "mlp.gate_proj": (INNER, HIDDEN),
        "mlp.up_proj": (INNER, HIDDEN),
        "mlp.down_proj": (HIDDEN, INNER),
        "input_layernorm": (HIDDEN,),
        "post_attention_layernorm": (HIDDEN,),
    }
    shapes: dict[str, tuple[int, ...]] = {EMBED: (vocabulary, HIDDEN)}
    shapes |= {f"model.layers.0.{name}.weight": shape for name, shape in layer.items()}
    shapes |= {"model.norm.weight": (HIDDEN,)} | ({} if tied else {HEAD: (vocabulary, HIDDEN)})
    chance = torch.Generator().manual_seed(0)
    state = {name: torch.randn(shape, generator=chance).to(dtype) for name, shape in shapes.items()}
    config = {
        "model_type": "llama",
        "vocab_size": vocabulary,
        "hidden_size": HIDDEN,
        "intermediate_size": INNER,
        "num_hidden_layers": 1,
        "num_attention_heads": heads,
        "num_key_value_heads": heads,
        "rms_norm_eps": 1e-6,
        "tie_word_embeddings": tied,
    }
    folder.mkdir()
    save_file(state, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(config))
    return state


@dataclass
class Kind:
    """An adapter: which parts of which modules, and its configuration."""

    parts: Mapping[str, tuple[str, ...]]
    config: Mapping[str, Any] = field(default_factory=dict)
    ids: tuple[int, ...] = ()

    def state(self, seed: int) -> State:
        """Its tensors, by names without prefix."""
        chance = torch.Generator().manual_seed(seed)
        state: State = {}

        for module, parts in self.parts.items():
            rows, columns = SHAPES.get(module, (HIDDEN, HIDDEN))
            rank = self.config.get("rank_pattern", {}).get(module, RANK)
            shapes: dict[str, dict[str, tuple[int, ...]]] = {
                "lora": {"lora_A.weight": (rank, columns), "lora_B.weight": (rows, rank)},
                "lora_embedding": {
                    "lora_embedding_A": (RANK, rows),
                    "lora_embedding_B": (columns, RANK),
                },
                "magnitude": {"lora_magnitude_vector.weight": (rows,)},
                "rows": {"token_adapter.trainable_tokens_delta": (len(self.ids), columns)},
                "norm": {"weight": (HIDDEN,)},
                "whole": {"weight": (rows, columns)},
            }
            for part in parts:
                for name, shape in shapes[part].items():
                    state[f"{module}.{name}"] = torch.randn(shape, generator=chance) / 4
        if self.config.get("ensure_weight_tying"):
            state[HEAD] = state[EMBED].clone()
        return state


SHAPES = {DOWN: (HIDDEN, INNER), **dict.fromkeys(TABLES, (VOCABULARY, HIDDEN))}
LORA = {Q: ("lora",), DOWN: ("lora",)}
UNTIED = {
    "plain": Kind(LORA),
    "rslora": Kind(LORA, {"use_rslora": True}),
    "dora": Kind({Q: ("lora", "magnitude"), DOWN: ("lora", "magnitude")}, {"use_dora": True}),
    "fan in fan out, which peft ignores": Kind(LORA, {"fan_in_fan_out": True}),
    "patterns": Kind(LORA, {"rank_pattern": {Q: 2}, "alpha_pattern": {"down_proj": 7}}),
    "whole tables": Kind(LORA | dict.fromkeys(TABLES, ("whole",))),
    "a norm": Kind(LORA | {"model.norm": ("norm",)}, {"modules_to_save": ["norm"]}),
    "lora on tables": Kind({EMBEDDING: ("lora_embedding",), "lm_head": ("lora",)}),
    "rows": Kind(
        LORA | dict.fromkeys(TABLES, ("rows",)),
        {"trainable_token_indices": {"embed_tokens": [7, 2, 39], "lm_head": [7, 2, 39]}},
        ids=(7, 2, 39),
    ),
}
TIED = {
    "rows of both": Kind({EMBEDDING: ("rows",)}, {"trainable_token_indices": [7, 2]}, ids=(7, 2)),
    "embedding replaced": Kind({EMBEDDING: ("whole",)}),
    "head replaced": Kind({"lm_head": ("whole",)}),
    "both replaced": Kind(dict.fromkeys(TABLES, ("whole",))),
    "kept tied": Kind({EMBEDDING: ("whole",)}, {"ensure_weight_tying": True}),
    "lora on the embedding": Kind({EMBEDDING: ("lora_embedding",)}),
    "lora on the head": Kind({"lm_head": ("lora",)}),
    "plain": Kind(LORA),
}


def changed(module: str, weight: Tensor, state: State, kind: Kind) -> Tensor:
    """One weight, in float32, after an adapter."""
    weight = state.get(f"{module}.weight", weight)
    a, b = (state.get(f"{module}.lora_{side}.weight") for side in "AB")
    if f"{module}.lora_embedding_A" in state:
        a, b = (state[f"{module}.lora_embedding_{side}"] for side in "AB")
    if a is not None and b is not None:
        patterns = kind.config.get("alpha_pattern", {})
        alpha = next((patterns[end] for end in patterns if module.endswith(end)), ALPHA)
        divisor = len(a) ** 0.5 if kind.config.get("use_rslora") else len(a)
        of_embedding = f"{module}.lora_embedding_A" in state
        product = (a.T @ b.T) if of_embedding else b @ a
        weight = weight + (alpha / divisor) * product
    if (size := state.get(f"{module}.lora_magnitude_vector.weight")) is not None:
        weight = weight * (size[:, None] / torch.linalg.norm(weight, dim=1, keepdim=True))
    rows = state.get(f"{module}.token_adapter.trainable_tokens_delta")
    if rows is not None:
        weight = weight.clone()
        weight[list(kind.ids)] = rows
    return weight


def folded(base: State, kinds: list[Kind], dtype: torch.dtype, *, each: bool) -> State:
    """Adapters in turn: in float32 throughout, or rounded after each."""
    result = {name: tensor.float() for name, tensor in base.items()}
    for number, kind in enumerate(kinds):
        state = kind.state(number)
        one_sided = {f"{EMBEDDING}.weight", f"{EMBEDDING}.lora_embedding_A"} & state.keys()
        of_head = any(name.startswith("lm_head") for name in state)
        parts = (one_sided or of_head) and not kind.config.get("ensure_weight_tying")
        if parts and HEAD not in result:
            result[HEAD] = result[EMBED].clone()
        for name, weight in result.items():
            new = changed(name.removesuffix(".weight"), weight, state, kind)
            result[name] = new.to(dtype).float() if each else new
    return {name: tensor.to(dtype) for name, tensor in result.items()}


def merged(base: Path, kinds: list[Kind], folder: Path, **options: Any) -> Path:
    adapters = [
        write_adapter(
            folder / str(number),
            prefixed(kind.state(number)),
            **{"r": RANK, "lora_alpha": ALPHA, "target_modules": None, **kind.config},
        )
        for number, kind in enumerate(kinds)
    ]
    merge_adapters(base, adapters, folder / "out", options=MergeOptions(**options))
    return folder / "out"


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", UNTIED)
def test_each_kind_alone(name: str, dtype: str, tmp_path: Path) -> None:
    base = write_base(tmp_path / "base", DTYPES[dtype], tied=False)
    wanted = folded(base, [UNTIED[name]], DTYPES[dtype], each=False)
    assert any(not torch.equal(base[key], wanted[key]) for key in base)
    check(merged(tmp_path / "base", [UNTIED[name]], tmp_path), wanted)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", TIED)
def test_each_kind_on_a_tied_model(name: str, dtype: str, tmp_path: Path) -> None:
    base = write_base(tmp_path / "base", DTYPES[dtype], tied=True)
    output = merged(tmp_path / "base", [TIED[name]], tmp_path)
    check(output, folded(base, [TIED[name]], DTYPES[dtype], each=False))
    tied = json.loads((output / "config.json").read_text())["tie_word_embeddings"]
    assert tied is (name in ("rows of both", "kept tied", "plain"))


@given(
    names=st.lists(st.sampled_from(sorted(UNTIED)), min_size=2, max_size=3),
    dtype=st.sampled_from(sorted(DTYPES)),
    rounding=st.sampled_from(["once", "per-adapter"]),
)
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_kinds_in_any_order(
    names: list[str], dtype: str, rounding: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder, kinds = tmp_path_factory.mktemp("order"), [UNTIED[name] for name in names]
    base = write_base(folder / "base", DTYPES[dtype], tied=False)
    wanted = folded(base, kinds, DTYPES[dtype], each=rounding == "per-adapter")
    check(merged(folder / "base", kinds, folder, rounding=rounding), wanted)


def published(num_rows: int, seed: int) -> State:
    """An adapter as the Chinese-LLaMA releases are: factors and whole tables, in float16."""
    chance = torch.Generator().manual_seed(seed)
    shapes = {EMBED: (num_rows, HIDDEN), HEAD: (num_rows, HIDDEN)}
    for module in (Q, DOWN):
        rows, columns = SHAPES.get(module, (HIDDEN, HIDDEN))
        shapes |= {f"{module}.lora_A.weight": (RANK, columns)}
        shapes |= {f"{module}.lora_B.weight": (rows, RANK)}
    return {name: torch.randn(shape, generator=chance).half() for name, shape in shapes.items()}


@pytest.mark.slow
@pytest.mark.parametrize("num_files", [1, 2, 4, 8])
@pytest.mark.parametrize("rounding", ["once", "per-adapter"])
def test_alpaca_plus_in_metas_files(num_files: int, rounding: str, tmp_path: Path) -> None:
    """32,000 rows, then 49,953, then 49,954 with [PAD]; what is left over lies in the last file."""
    base = write_base(tmp_path / "base", torch.float16, tied=False, vocabulary=32_000, heads=8)
    states = [published(49_953, 1), published(49_954, 2)]
    folders = [
        write_adapter(
            tmp_path / f"a{number}",
            prefixed(state),
            file="adapter_model.bin",
            r=RANK,
            lora_alpha=ALPHA,
            modules_to_save=["embed_tokens", "lm_head"],
        )
        for number, state in enumerate(states)
    ]
    for adapters, num_rows in ((folders[:1], 49_953), (folders, 49_954)):
        output = tmp_path / f"out{num_rows}"
        options = MergeOptions(format="pth", num_files=num_files, rounding=rounding)  # type: ignore[arg-type]
        merge_adapters(tmp_path / "base", adapters, output, options=options)
        result = {name: tensor.float() for name, tensor in base.items()}
        for state in states[: len(adapters)]:
            floats = {name: tensor.float() for name, tensor in state.items()}
            for name, weight in result.items():
                new = changed(name.removesuffix(".weight"), weight, floats, Kind({}))
                result[name] = new.half().float() if rounding == "per-adapter" else new
        parts = [
            torch.load(output / f"consolidated.{number:02d}.pth", weights_only=True)
            for number in range(num_files)
        ]
        each = num_rows // num_files
        last = num_rows - each * (num_files - 1)
        assert [len(part["output.weight"]) for part in parts] == [each] * (num_files - 1) + [last]
        for name, tensor in result.items():
            theirs = meta_names(name)
            is_turned = theirs.endswith(("wq.weight", "wk.weight"))
            wanted = unpermuted(tensor.half(), 8) if is_turned else tensor.half()
            assert torch.equal(joined(theirs, [part[theirs] for part in parts]), wanted), name
