"""Adapters beside their base: one model in memory, and each asked by its name."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pytest
from safetensors.numpy import save_file

from hanpaca.checkpoints.fingerprint import model_fingerprint
from hanpaca.errors import ArtifactError
from hanpaca.progress import Progress
from hanpaca.steps.serve_adapters import served_adapters
from hanpaca.steps.write_gguf import folder_to_gguf, model_to_gguf
from hanpaca.steps.write_gguf_adapter import write_gguf_adapter
from tests.support.serving import Served, served

pytest.importorskip("starlette")
WORDS = ("--context-tokens", "256", "--num-parallel", "2")


def write_lora(folder: Path, base: Path | None, *, seed: int, rows: int = 32) -> Path:
    """LoRA of the attention's query matrices, strong enough to change what is said."""
    folder.mkdir()
    random = np.random.RandomState(seed)
    name = "base_model.model.model.layers.{}.self_attn.q_proj.lora_{}.weight"
    state = {}
    for layer in range(2):
        state[name.format(layer, "A")] = random.randn(4, 32).astype("f4")
        state[name.format(layer, "B")] = random.randn(rows, 4).astype("f4")
    metadata = {"hanpaca.base.fingerprint": model_fingerprint(base)} if base else None
    save_file(state, folder / "adapter_model.safetensors", metadata=metadata)
    config = {"peft_type": "LORA", "r": 4, "lora_alpha": 8, "target_modules": ["q_proj"]}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    return folder


@pytest.fixture(scope="module")
def files(pico_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`base.gguf`, the adapters `a` and `b` as folders and files, and `a` folded in."""
    folder = tmp_path_factory.mktemp("adapters")
    folder_to_gguf(pico_base, folder / "base.gguf", file_type="f16", metadata={})
    for seed, name in enumerate("ab"):
        adapter = write_lora(folder / name, pico_base, seed=seed)
        write_gguf_adapter(adapter, pico_base, folder / f"{name}.gguf", dtype="f32")
    outputs = {"f32": folder / "folded.gguf"}
    model_to_gguf(pico_base, outputs, adapters=[folder / "a"], metadata={})
    return folder


@pytest.fixture(scope="module")
def server(files: Path) -> Iterator[Served]:
    adapters = ("--adapter", f"a={files}/a.gguf", "--adapter", f"b={files}/b")
    with served(files / "base.gguf", *WORDS, *adapters) as one:
        yield one


def said(server: Served, model: str) -> list[Any]:
    """Texts and probabilities, at temperature 0."""
    body = {"model": model, "max_tokens": 12, "temperature": 0, "logprobs": 1}
    found = []
    for prompt in ("The quick brown", "It was the", "春"):
        more = {"prompt": prompt, "cache_prompt": False}
        reply = httpx2.post(server.url + "/v1/completions", json=body | more, timeout=240).json()
        assert reply["model"] == model
        tokens = reply["choices"][0]["logprobs"]["content"]
        found.append((reply["choices"][0]["text"], [one["logprob"] for one in tokens]))
    return found


@pytest.mark.slow
def test_the_base_answers_to_the_byte_as_without_adapters(server: Served, files: Path) -> None:
    names = httpx2.get(server.url + "/v1/models", timeout=120).json()["data"]
    assert [one["id"] for one in names] == ["base", "a", "b"]
    own, a, b = (said(server, name) for name in ("base", "a", "b"))
    assert own != a != b != own
    assert said(server, "base") == own
    with served(files / "base.gguf", *WORDS) as alone:
        assert said(alone, "base") == own


def test_an_adapter_answers_as_if_it_were_folded_in(server: Served, files: Path) -> None:
    """Folding rounds to bfloat16, so only the first token's probability is compared."""
    with served(files / "folded.gguf", *WORDS) as folded:
        wanted = said(folded, "folded")
    found, base = said(server, "a"), said(server, "base")
    first, expected, plain = ([one[0] for _, one in each] for each in (found, wanted, base))
    np.testing.assert_allclose(first, expected, atol=0.1)
    assert not np.allclose(first, plain, atol=0.2)


@pytest.mark.slow
def test_vectors_are_the_bases_whichever_name_is_asked(files: Path) -> None:
    words = (*WORDS, "--embeddings", "--adapter", f"a={files}/a.gguf")
    with served(files / "base.gguf", *words) as server:
        base, tuned = (
            httpx2.post(
                server.url + "/v1/embeddings", json={"model": name, "input": "one two"}, timeout=120
            )
            for name in ("base", "a")
        )
    one, other = (each.json()["data"][0]["embedding"] for each in (base, tuned))
    assert tuned.json()["model"] == "a"
    assert one == other


def checked(adapter: Path, base: Path, folder: Path) -> list[str]:
    told: list[Progress] = []
    served_adapters({"a": adapter}, base, base, folder=folder / "made", tell=told.append)
    return [one.note for one in told]


def test_an_adapter_of_another_base_is_refused_by_its_fingerprint(
    pico_untied: Path, files: Path, tmp_path: Path
) -> None:
    other = write_lora(tmp_path / "other", pico_untied, seed=3)
    write_gguf_adapter(other, pico_untied, tmp_path / "other.gguf")
    mine = model_fingerprint(pico_untied)[:12]
    told = rf"other\.gguf: this adapter was trained on another base \(fingerprint {mine}\) than"
    with pytest.raises(ArtifactError, match=told):
        checked(tmp_path / "other.gguf", files / "base.gguf", tmp_path)


def test_what_cannot_be_known_is_said(pico_base: Path, files: Path, tmp_path: Path) -> None:
    assert checked(files / "a.gguf", files / "base.gguf", tmp_path) == []
    nameless = write_lora(tmp_path / "nameless", None, seed=3)
    write_gguf_adapter(nameless, pico_base, tmp_path / "nameless.gguf")
    (note,) = checked(tmp_path / "nameless.gguf", files / "base.gguf", tmp_path)
    assert "nameless.gguf does not say which weights it was made of" in note
    folder_to_gguf(pico_base, tmp_path / "small.gguf", file_type="q8_0", metadata={})
    (note,) = checked(files / "a.gguf", tmp_path / "small.gguf", tmp_path)
    assert "small.gguf does not say which weights it was made of" in note


def test_a_file_that_is_no_adapter_is_named(files: Path, tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"base\.gguf: no GGUF adapter"):
        checked(files / "base.gguf", files / "base.gguf", tmp_path)
