import hashlib
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import peft
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from transformers import LlamaForCausalLM
from typer.testing import CliRunner

from hanpaca.checkpoints import published
from hanpaca.checkpoints import released as catalogue
from hanpaca.checkpoints.fingerprint import model_fingerprint, tokenizer_fingerprint
from hanpaca.cli import app
from hanpaca.errors import ArtifactError
from hanpaca.steps.inspect import Inspection, inspect
from hanpaca.steps.write_gguf import folder_to_gguf

P = "base_model.model."


def load(folder: Path) -> LlamaForCausalLM:
    model: LlamaForCausalLM = LlamaForCausalLM.from_pretrained(folder)
    return model


@pytest.fixture
def copied(pico_base: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(pico_base, tmp_path / "model"))


def edit(file: Path, **changes: object) -> None:
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


def warns(found: Inspection, text: str) -> bool:
    return any(text in warning for warning in found.warnings)


@pytest.mark.parametrize(("which", "tied"), [("pico_base", True), ("pico_untied", False)])
def test_a_model_is_what_transformers_counts(
    which: str, tied: bool, request: pytest.FixtureRequest
) -> None:
    folder = request.getfixturevalue(which)
    found, oracle = inspect(folder), load(folder)
    assert (found.kind, found.layout) == ("model", "safetensors")
    assert found.architecture == "LlamaForCausalLM"
    assert found.num_parameters == oracle.num_parameters()
    assert found.dtypes == {"BF16": oracle.num_parameters()}
    assert found.shape is not None
    assert found.shape.tied == tied
    assert found.shape.vocab_rows == found.tokenizer_entries == oracle.config.vocab_size
    assert found.warnings == ()
    assert found.fingerprints == {}


def test_fingerprints_are_read_only_on_request(pico_base: Path) -> None:
    found = inspect(pico_base, hash_content=True)
    assert found.fingerprints["model"] == model_fingerprint(pico_base)
    assert found.fingerprints["tokenizer"] == tokenizer_fingerprint(pico_base)


def test_headers_alone_are_read_without_hash(copied: Path) -> None:
    """The data may be anything: a file whose data is a hole is read in no time."""
    file = copied / "model.safetensors"
    size = file.stat().st_size
    with file.open("r+b") as stream:
        header = 8 + int.from_bytes(stream.read(8), "little")
        stream.truncate(header)
        stream.truncate(size)
    assert inspect(copied).warnings == ()


@pytest.mark.parametrize("layout", ["bin", "gguf"])
def test_other_layouts_have_the_same_shape(pico_base: Path, tmp_path: Path, layout: str) -> None:
    path = tmp_path / "m"
    if layout == "gguf":
        path = tmp_path / "m.gguf"
        folder_to_gguf(pico_base, path, file_type="f16", metadata={})
    else:
        shutil.copytree(pico_base, path, ignore=shutil.ignore_patterns("*.safetensors"))
        torch.save(load_file(pico_base / "model.safetensors"), path / "pytorch_model.bin")
    found, plain = inspect(path), inspect(pico_base)
    assert found.shape == plain.shape
    assert found.num_parameters == plain.num_parameters
    assert found.tokenizer_entries == plain.tokenizer_entries
    assert warns(found, "pickles") == (layout == "bin")


def test_metas_files_are_a_model_and_want_their_parameters(tmp_path: Path) -> None:
    tensors = {"tok_embeddings.weight": torch.zeros(9, 4), "norm.weight": torch.zeros(4)}
    tensors |= {"layers.0.feed_forward.w1.weight": torch.zeros(6, 4)}
    torch.save(tensors, tmp_path / "consolidated.00.pth")
    found = inspect(tmp_path)
    assert (found.kind, found.layout) == ("model", "meta")
    assert found.shape is not None
    assert found.shape.in_words == "1 layers, hidden size 4, vocabulary 9"
    assert warns(found, "params.json is missing")
    (tmp_path / "params.json").write_text('{"dim": 4}')
    assert not warns(inspect(tmp_path), "params.json")


@pytest.mark.parametrize(
    ("settings_", "variant"),
    [({}, "LoRA"), ({"use_rslora": True}, "rsLoRA"), ({"use_dora": True}, "DoRA")],
)
def test_variants_of_lora_are_told(
    pico_base: Path, tmp_path: Path, settings_: dict[str, Any], variant: str
) -> None:
    config = peft.LoraConfig(r=4, target_modules=["q_proj"], **settings_)
    peft.get_peft_model(load(pico_base), config).save_pretrained(str(tmp_path))
    found = inspect(tmp_path)
    assert found.adapter is not None
    assert found.adapter.variant == variant


def test_a_pickle_with_code_is_not_run(pico_base: Path, tmp_path: Path) -> None:
    class Runs:
        def __reduce__(self) -> tuple[Callable[..., Any], tuple[str]]:
            return os.mkdir, (str(tmp_path / "made"),)

    folder = tmp_path / "m"
    shutil.copytree(pico_base, folder, ignore=shutil.ignore_patterns("*.safetensors"))
    torch.save({"x": Runs()}, folder / "pytorch_model.bin")
    with pytest.raises(ArtifactError, match="was not run"):
        inspect(folder)
    assert not (tmp_path / "made").exists()


def test_a_tokenizer_of_another_size_is_told(copied: Path) -> None:
    file = copied / "tokenizer.json"
    tree = json.loads(file.read_text())
    tree["added_tokens"].append({"content": "[PAD]", "id": 394})
    file.write_text(json.dumps(tree))
    assert warns(inspect(copied), "395 entries, the weights 394 rows: ids from 394 on will fail")
    del tree["added_tokens"][-1]
    tree["model"]["vocab"] = {k: v for k, v in tree["model"]["vocab"].items() if v < 390}
    file.write_text(json.dumps(tree))
    assert warns(inspect(copied), "4 rows are never used")


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("vocab_size", 32_000, "config.json says vocab_size 32000, the weights have 394"),
        ("num_hidden_layers", 3, "config.json says num_hidden_layers 3, the weights have 2"),
        ("tie_word_embeddings", False, "there is no lm_head.weight"),
        ("model_type", "gpt2", "model_type is 'gpt2'"),
    ],
)
def test_a_configuration_that_is_not_the_weights_is_told(
    copied: Path, name: str, value: object, message: str
) -> None:
    edit(copied / "config.json", **{name: value})
    assert warns(inspect(copied), message)


def test_missing_files_are_told(copied: Path) -> None:
    for name in ("config.json", "tokenizer.json"):
        (copied / name).unlink()
    found = inspect(copied)
    assert warns(found, "config.json is missing")
    assert warns(found, "there is no tokenizer here")


def test_a_tokenizer_alone_is_one(pico_base: Path, tmp_path: Path) -> None:
    shutil.copy(pico_base / "tokenizer.json", tmp_path)
    for path in (tmp_path, tmp_path / "tokenizer.json"):
        found = inspect(path)
        assert (found.kind, found.tokenizer_entries) == ("tokenizer", 394)


def test_llamas_tokenizer_is_counted(shared_data: Path) -> None:
    found = inspect(shared_data / "tokenizers/llama")
    assert (found.kind, found.tokenizer_entries, found.known_as) == ("tokenizer", 32_000, None)
    # The known hash of Meta's file.
    assert found.fingerprints["tokenizer.model"].startswith("9e556afd44213b6bd1be2b850ebbbd98")


def test_a_real_trained_model_has_no_warning(shared_data: Path) -> None:
    found = inspect(shared_data / "models/stories260K")
    assert found.num_parameters == 260_032
    assert found.warnings == ()


def save_old_adapter(
    folder: Path,
    *,
    rank: int,
    rows: int,
    hidden: int,
    alpha: int = 32,
    inner: int = 0,
    num_layers: int = 1,
) -> Path:
    """An adapter as the reference project released them, of any size; the data is a hole.

    With `inner` on all seven matrices of a layer, else on q_proj alone.
    """
    folder.mkdir(parents=True)
    matrices = {"self_attn.q_proj": (hidden, hidden)}
    if inner:
        matrices |= {f"self_attn.{name}_proj": (hidden, hidden) for name in "kvo"}
        matrices |= {f"mlp.{name}_proj": (inner, hidden) for name in ("gate", "up")}
        matrices["mlp.down_proj"] = (hidden, inner)
    shapes = {f"{P}{name}.weight": (rows, hidden) for name in ("model.embed_tokens", "lm_head")}
    for layer in range(num_layers):
        for name, (num_out, num_in) in matrices.items():
            key = f"{P}model.layers.{layer}.{name}"
            shapes[f"{key}.lora_A.weight"] = (rank, num_in)
            shapes[f"{key}.lora_B.weight"] = (num_out, rank)
    header: dict[str, Any] = {}
    at = 0
    for name, shape in shapes.items():
        end = at + 2 * int(np.prod(shape))
        header[name] = {"dtype": "F16", "shape": shape, "data_offsets": [at, end]}
        at = end
    text = json.dumps(header).encode()
    with (folder / "adapter_model.safetensors").open("wb") as stream:
        stream.write(len(text).to_bytes(8, "little") + text)
        stream.truncate(8 + len(text) + at)
    config = {"peft_type": "LORA", "r": rank, "lora_alpha": alpha, "enable_lora": None}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    return folder


# Trainable parameters as the reference project's training logs and report give them.
PUBLISHED = [
    ("LLaMA-7B", 8, 49_953, 429_203_456, "chinese-llama-7b or chinese-llama-plus-7b"),
    ("LLaMA-7B", 8, 49_954, 429_211_648, "chinese-alpaca-7b"),
    ("LLaMA-7B", 64, 49_954, 569_131_008, "chinese-alpaca-plus-7b or chinese-alpaca-pro-7b"),
    ("LLaMA-13B", 8, 49_953, 542_812_160, "chinese-llama-13b or chinese-llama-plus-13b"),
    ("LLaMA-13B", 64, 49_954, 761_876_480, "chinese-alpaca-plus-13b or chinese-alpaca-pro-13b"),
    ("LLaMA-33B", 8, 49_953, 725_922_816, "chinese-llama-33b or chinese-llama-plus-33b"),
]


@pytest.mark.parametrize(("base", "rank", "rows", "num_parameters", "names"), PUBLISHED)
def test_released_adapters_have_the_published_number_of_parameters(
    tmp_path: Path, base: str, rank: int, rows: int, num_parameters: int, names: str
) -> None:
    sizes = catalogue.bases()[base]
    folder = save_old_adapter(
        tmp_path / "a",
        rank=rank,
        rows=rows,
        hidden=sizes.hidden_size,
        inner=sizes.intermediate_size,
        num_layers=sizes.num_layers,
    )
    found = inspect(folder)
    assert found.num_parameters == num_parameters
    assert found.known_as == f"the sizes of {names}"


def test_an_adapter_of_alpaca_plus_is_known_by_its_sizes(tmp_path: Path) -> None:
    found = inspect(save_old_adapter(tmp_path / "a", rank=64, rows=49_954, hidden=4096, alpha=128))
    assert found.kind == "adapter"
    assert found.known_as == "the sizes of chinese-alpaca-plus-7b or chinese-alpaca-pro-7b"
    assert found.fits == "LLaMA-7B + chinese-llama-plus-7b"
    assert found.adapter is not None
    assert (found.adapter.rank, found.adapter.alpha, found.adapter.vocab_rows) == (64, 128, 49_954)
    assert warns(found, "does not record which base")


def test_an_adapter_of_no_release_says_what_it_needs(pico_base: Path, tmp_path: Path) -> None:
    config = peft.LoraConfig(
        r=4, target_modules=["q_proj"], trainable_token_indices={"embed_tokens": [390, 391]}
    )
    peft.get_peft_model(load(pico_base), config).save_pretrained(str(tmp_path))
    found = inspect(tmp_path)
    assert found.adapter is not None
    assert found.adapter.new_rows == {"model.embed_tokens.weight": 2}
    assert found.adapter.targets == ("q_proj",)
    assert found.known_as is None
    assert found.fits == "a model of hidden size 32, at least 2 layers"


def test_deepspeeds_adapter_without_a_configuration_is_an_adapter(tmp_path: Path) -> None:
    factors = {
        f"{P}model.layers.0.self_attn.q_proj.lora_A.default.weight": torch.zeros(8, 32),
        f"{P}model.layers.0.self_attn.q_proj.lora_B.default.weight": torch.zeros(32, 8),
    }
    torch.save(factors, tmp_path / "pytorch_model.bin")
    found = inspect(tmp_path)
    assert found.kind == "adapter"
    assert warns(found, "so the scaling is unknown")


def test_an_empty_adapter_is_told(tmp_path: Path) -> None:
    """The 443-byte adapter of the reference project's users."""
    save_file({}, tmp_path / "adapter_model.safetensors")
    assert warns(inspect(tmp_path), "the adapter is empty")


@pytest.mark.parametrize("name", ["none", "a.txt", "."])
def test_what_is_nothing_known_is_told(tmp_path: Path, name: str) -> None:
    (tmp_path / "a.txt").write_text("text")
    with pytest.raises(ArtifactError):
        inspect(tmp_path / name)


def test_the_command_prints_words_and_json(pico_base: Path, tmp_path: Path) -> None:
    runner = CliRunner()
    plain = runner.invoke(app, ["inspect", str(pico_base)])
    assert "2 layers, hidden size 32, vocabulary 394" in plain.stdout
    tree = json.loads(runner.invoke(app, ["inspect", str(pico_base), "--json"]).stdout)
    assert tree["shape"]["hidden_size"] == 32
    adapter = save_old_adapter(tmp_path / "a", rank=8, rows=49_954, hidden=5120)
    assert "LLaMA-13B" in runner.invoke(app, ["inspect", str(adapter)]).stdout


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner),
    max_leaves=6,
)


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    st.dictionaries(
        st.sampled_from(["r", "lora_alpha", "trainable_token_indices", "bias", "peft_type", "x"]),
        JSON,
    )
)
def test_no_adapter_configuration_crashes(tmp_path: Path, tree: dict[str, Any]) -> None:
    folder = tmp_path / "a"
    if not folder.exists():
        save_old_adapter(folder, rank=2, rows=5, hidden=4)
    (folder / "adapter_config.json").write_text(json.dumps(tree))
    assert inspect(folder).kind == "adapter"


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    st.dictionaries(
        st.sampled_from(["vocab_size", "architectures", "model_type", "tie_word_embeddings"]), JSON
    )
)
def test_no_model_configuration_crashes(
    pico_base: Path, tmp_path: Path, tree: dict[str, Any]
) -> None:
    folder = tmp_path / "m"
    if not folder.exists():
        shutil.copytree(pico_base, folder)
    (folder / "config.json").write_text(json.dumps(tree))
    assert inspect(folder).kind == "model"


def test_a_number_of_more_digits_than_any_float_is_refused(tmp_path: Path) -> None:
    folder = save_old_adapter(tmp_path / "a", rank=2, rows=5, hidden=4)
    edit(folder / "adapter_config.json", lora_alpha=10**400)
    with pytest.raises(ArtifactError, match="a number of 401 digits"):
        inspect(folder)


def test_a_number_too_large_for_alpha_is_noted(tmp_path: Path) -> None:
    folder = save_old_adapter(tmp_path / "a", rank=2, rows=5, hidden=4)
    edit(folder / "adapter_config.json", lora_alpha=10**399)
    assert warns(inspect(folder), "lora_alpha inf")


def test_names_in_a_file_do_not_steer_the_terminal(tmp_path: Path) -> None:
    folder = save_old_adapter(tmp_path / "a", rank=2, rows=5, hidden=4)
    edit(folder / "adapter_config.json", base_model_name_or_path="\x1b[2J\x07evil\nfits: all")
    printed = CliRunner().invoke(app, ["inspect", str(folder)]).stdout
    assert "?[2J?evil?fits: all" in printed
    assert "\x1b" not in printed


def test_a_head_of_another_shape_is_told(pico_untied: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(pico_untied, tmp_path / "m"))
    tensors = load_file(folder / "model.safetensors")
    save_file(tensors | {"lm_head.weight": torch.zeros(300, 32)}, folder / "model.safetensors")
    assert warns(inspect(folder), "lm_head.weight is [300, 32], not of the embedding's shape")


def test_published_files_are_known_by_their_hashes(
    pico_base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sha256 = hashlib.sha256((pico_base / "model.safetensors").read_bytes()).hexdigest()
    real = catalogue.releases()
    release = replace(real["chinese-alpaca-7b"], merged_pth=(sha256,))
    monkeypatch.setattr(published, "releases", lambda: {release.name: release})
    assert inspect(pico_base, hash_content=True).known_as == "chinese-alpaca-7b"
    assert inspect(pico_base).known_as is None
