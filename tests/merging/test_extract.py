import errno
import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from peft import PeftModel
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import LlamaForCausalLM
from typer.testing import CliRunner

from hanpaca.checkpoints.fingerprint import model_fingerprint
from hanpaca.cli import app
from hanpaca.errors import ArtifactError, RecipeError, ResourceError
from hanpaca.merging import MergeOptions, extract, merge_adapters
from hanpaca.merging.extract import extract_adapter, low_rank

P = "base_model.model."
Q0 = "model.layers.0.self_attn.q_proj.weight"
DOWN1 = "model.layers.1.mlp.down_proj.weight"
NORM = "model.norm.weight"
EMBEDDING, HEAD = "model.embed_tokens.weight", "lm_head.weight"
PROMPT = torch.tensor([[1, 5, 380, 7, 383, 9]])


def load(folder: Path) -> LlamaForCausalLM:
    model: LlamaForCausalLM = LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32)
    model.train(False)
    return model


@pytest.fixture(scope="module")
def base(pico_untied: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The untied pico model in float32."""
    folder = tmp_path_factory.mktemp("f32") / "base"
    load(pico_untied).save_pretrained(folder)
    shutil.copy(pico_untied / "tokenizer.json", folder)
    return folder


def tuned_from(base: Path, folder: Path, changes: Mapping[str, Tensor]) -> Path:
    """The base with some tensors added to or, where the shape differs, replaced."""
    shutil.copytree(base, folder)
    tensors = load_file(base / "model.safetensors")
    for name, change in changes.items():
        same = tensors[name].shape == change.shape
        tensors[name] = (tensors[name] + change).to(tensors[name].dtype) if same else change
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((folder / "config.json").read_text())
    config["vocab_size"] = len(tensors[EMBEDDING])
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def random(*shape: int, seed: int = 0, scale: float = 0.05) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * scale


def of_rank(rank: int, rows: int, columns: int, seed: int = 0) -> Tensor:
    return random(rows, rank, seed=seed) @ random(rank, columns, seed=seed + 1)


@settings(max_examples=20, deadline=None)
@given(
    rows=st.integers(1, 60),
    columns=st.integers(1, 60),
    rank=st.integers(1, 6),
    seed=st.integers(0, 99),
)
def test_factors_of_a_matrix_of_that_rank_are_exact(
    rows: int, columns: int, rank: int, seed: int
) -> None:
    rank = min(rank, rows, columns)
    matrix = of_rank(rank, rows, columns, seed)
    left, right = low_rank(matrix, rank)
    assert (left.shape, right.shape) == ((rows, rank), (rank, columns))
    lost = (matrix.double() - left.double() @ right.double()).norm()
    assert lost <= 3e-6 * matrix.norm()


@pytest.mark.parametrize("decay", [0.0, 0.5, 1.0])
def test_factors_lose_no_more_than_the_best_there_are(decay: float) -> None:
    """Against all singular values by LAPACK in float64; a flat spectrum is the hardest."""
    values = torch.arange(1, 201, dtype=torch.float64) ** -decay
    left = torch.linalg.qr(random(300, 200).double()).Q
    right = torch.linalg.qr(random(200, 200, seed=1).double()).Q
    matrix = (left * values @ right).float()
    best = torch.linalg.svdvals(matrix.double())[16:].norm()
    one, other = low_rank(matrix, 16)
    lost = (matrix.double() - one.double() @ other.double()).norm()
    assert best * (1 - 1e-6) <= lost <= best * 1.01


def test_an_exact_difference_comes_back(base: Path, tmp_path: Path) -> None:
    changes = {Q0: of_rank(4, 32, 32), DOWN1: of_rank(4, 32, 64, seed=5)}
    tuned = tuned_from(base, tmp_path / "tuned", changes)
    found = extract_adapter(base, tuned, tmp_path / "adapter", rank=4)
    assert found.relative_errors.keys() == changes.keys()
    assert max(found.relative_errors.values()) < 3e-6
    assert (found.whole, found.num_new_rows) == ((), 0)
    merge_adapters(base, [tmp_path / "adapter"], tmp_path / "merged")
    merged, wanted = (load_file(f / "model.safetensors") for f in (tmp_path / "merged", tuned))
    for name, tensor in wanted.items():
        torch.testing.assert_close(merged[name], tensor, rtol=0, atol=2e-7)
    assert not torch.equal(merged[Q0], load_file(base / "model.safetensors")[Q0])


def test_the_reported_loss_is_the_loss_and_the_least_there_is(base: Path, tmp_path: Path) -> None:
    change = random(32, 32)
    tuned = tuned_from(base, tmp_path / "tuned", {Q0: change})
    found = extract_adapter(base, tuned, tmp_path / "adapter", rank=8)
    difference = load_file(tuned / "model.safetensors")[Q0].double()
    difference -= load_file(base / "model.safetensors")[Q0].double()
    factors = load_file(tmp_path / "adapter" / "adapter_model.safetensors")
    key = P + Q0.removesuffix("weight")
    update = factors[f"{key}lora_B.weight"].double() @ factors[f"{key}lora_A.weight"].double()
    measured = float((difference - update).norm() / difference.norm())
    values = torch.linalg.svdvals(difference)
    assert found.relative_errors[Q0] == pytest.approx(measured, rel=1e-4)
    assert measured == pytest.approx(float(values[8:].norm() / values.norm()), rel=1e-3)


def test_peft_answers_as_the_tuned_model_does(base: Path, tmp_path: Path) -> None:
    """With norms changed, a matrix of one layer changed, and the vocabulary grown."""
    tensors = load_file(base / "model.safetensors")
    grown = {
        name: torch.cat([tensors[name], random(6, 32, seed=number)])
        for number, name in enumerate((EMBEDDING, HEAD))
    }
    changes = {Q0: of_rank(4, 32, 32), NORM: random(32, scale=0.3), **grown}
    tuned = tuned_from(base, tmp_path / "tuned", changes)
    found = extract_adapter(base, tuned, tmp_path / "adapter", rank=4)
    assert found.num_new_rows == 6
    assert NORM in found.whole
    model = load(base)
    model.resize_token_embeddings(400, mean_resizing=False)
    prompt = torch.tensor([[1, 395, 5, 399, 7]])
    with torch.inference_mode():
        ours = PeftModel.from_pretrained(model, str(tmp_path / "adapter"))(prompt).logits
        oracle = load(tuned)(prompt).logits
    torch.testing.assert_close(ours, oracle, rtol=1e-4, atol=1e-4)


def test_a_rewritten_vocabulary_is_kept_whole(base: Path, tmp_path: Path) -> None:
    tuned = tuned_from(base, tmp_path / "tuned", {Q0: of_rank(2, 32, 32), HEAD: random(394, 32)})
    found = extract_adapter(base, tuned, tmp_path / "adapter", rank=2)
    assert found.whole == (HEAD,)
    with torch.inference_mode():
        adapted = PeftModel.from_pretrained(load(base), str(tmp_path / "adapter"))
        torch.testing.assert_close(
            adapted(PROMPT).logits, load(tuned)(PROMPT).logits, rtol=1e-4, atol=1e-4
        )


def test_a_tied_model_with_new_rows_keeps_one_set_of_them(pico_base: Path, tmp_path: Path) -> None:
    old = load_file(pico_base / "model.safetensors")[EMBEDDING]
    changes = {
        Q0: of_rank(2, 32, 32).bfloat16(),
        EMBEDDING: torch.cat([old, random(6, 32).bfloat16()]),
    }
    tuned = tuned_from(pico_base, tmp_path / "tuned", changes)
    extract_adapter(pico_base, tuned, tmp_path / "adapter", rank=2)
    tensors = load_file(tmp_path / "adapter" / "adapter_model.safetensors")
    rows = tensors[f"{P}model.embed_tokens.token_adapter.trainable_tokens_delta"]
    assert torch.equal(rows, changes[EMBEDDING][394:])
    config = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())
    assert config["trainable_token_indices"] == {"embed_tokens": [394, 395, 396, 397, 398, 399]}


def as_tied(folder: Path, *, tied: bool, **more: int) -> None:
    config = json.loads((folder / "config.json").read_text())
    config |= {"tie_word_embeddings": tied, **more}
    (folder / "config.json").write_text(json.dumps(config))


@pytest.mark.parametrize("table", ["head", "embedding", "both, grown", "none"])
def test_a_head_that_parted_from_its_embedding_is_kept(
    table: str, pico_base: Path, tmp_path: Path
) -> None:
    """The base is tied, the tuned model has a head of its own."""
    old = load_file(pico_base / "model.safetensors")[EMBEDDING]
    grown = [old] if table != "both, grown" else [old, random(3, 32).bfloat16()]
    new = {EMBEDDING: torch.cat(grown), HEAD: torch.cat(grown)}
    if table in ("head", "both, grown"):
        new[HEAD][-1] += 1
    elif table == "embedding":
        new[EMBEDDING][5] += 1
    tuned = tuned_from(pico_base, tmp_path / "tuned", {Q0: of_rank(2, 32, 32).bfloat16()})
    tensors = load_file(tuned / "model.safetensors")
    save_file(tensors | new, tuned / "model.safetensors")
    as_tied(tuned, tied=False, vocab_size=len(new[EMBEDDING]))
    found = extract_adapter(pico_base, tuned, tmp_path / "a", rank=2)
    kept = {"head": (HEAD,), "embedding": (EMBEDDING,), "both, grown": (HEAD, EMBEDDING)}
    assert found.whole == kept.get(table, ())
    merge_adapters(pico_base, [tmp_path / "a"], tmp_path / "out")
    merged = load_file(tmp_path / "out/model.safetensors")
    assert torch.equal(merged[EMBEDDING], new[EMBEDDING])
    assert (HEAD in merged) is (table != "none")
    assert table == "none" or torch.equal(merged[HEAD], new[HEAD])


def test_a_tied_model_tuned_from_an_untied_one_keeps_its_table(base: Path, tmp_path: Path) -> None:
    tuned = tuned_from(base, tmp_path / "tuned", {NORM: random(32)})
    tensors = load_file(tuned / "model.safetensors")
    del tensors[HEAD]
    save_file(tensors, tuned / "model.safetensors")
    as_tied(tuned, tied=True)
    assert HEAD in extract_adapter(base, tuned, tmp_path / "a", rank=2).whole
    merge_adapters(base, [tmp_path / "a"], tmp_path / "out")
    merged = load_file(tmp_path / "out/model.safetensors")
    assert torch.equal(merged[HEAD], tensors[EMBEDDING])
    assert torch.equal(merged[NORM], tensors[NORM])


def test_models_of_2023_can_be_compared(base: Path, tmp_path: Path) -> None:
    """A `.bin` with its rotary constants against Meta's files: rows of heads in another order."""
    tuned = tuned_from(base, tmp_path / "tuned", {Q0: of_rank(2, 32, 32)})
    merge_adapters(tuned, [], tmp_path / "pth", options=MergeOptions(format="pth", num_files=2))
    old = tmp_path / "bin"
    old.mkdir()
    shutil.copy(base / "config.json", old)
    tensors = load_file(base / "model.safetensors")
    constant = {"model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(4)}
    torch.save(tensors | constant, old / "pytorch_model.bin")
    found = extract_adapter(old, tmp_path / "pth", tmp_path / "a", rank=2)
    assert list(found.relative_errors) == [Q0]
    extract_adapter(base, tuned, tmp_path / "b", rank=2)
    one, two = (tmp_path / name / "adapter_model.safetensors" for name in "ab")
    assert load_file(one).keys() == load_file(two).keys()
    assert all(torch.equal(load_file(one)[name], load_file(two)[name]) for name in load_file(one))


def test_unchanged_layers_of_a_target_get_factors_of_zero(base: Path, tmp_path: Path) -> None:
    tuned = tuned_from(base, tmp_path / "tuned", {Q0: of_rank(2, 32, 32)})
    found = extract_adapter(base, tuned, tmp_path / "adapter", rank=2)
    tensors = load_file(tmp_path / "adapter" / "adapter_model.safetensors")
    assert len(tensors) == 4
    assert not any(tensor.any() for name, tensor in tensors.items() if "layers.1." in name)
    assert list(found.relative_errors) == [Q0]


def test_the_same_models_give_the_same_bytes_and_their_fingerprints(
    base: Path, tmp_path: Path
) -> None:
    tuned = tuned_from(base, tmp_path / "tuned", {DOWN1: random(32, 64)})
    files = []
    for name in ("a", "b"):
        extract_adapter(base, tuned, tmp_path / name, rank=3)
        files.append((tmp_path / name / "adapter_model.safetensors").read_bytes())
    assert files[0] == files[1]
    assert model_fingerprint(base).encode() in files[0]
    assert (tmp_path / "a" / "tokenizer.json").is_file()
    assert not (tmp_path / "a" / "config.json").exists()


def left(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({}, "nothing to extract"),
        ({Q0: torch.full((32, 32), torch.nan)}, r"q_proj\.weight holds NaN"),
        ({Q0: torch.zeros(16, 32)}, r"is \[16, 32\], but \[32, 32\]"),
        ({EMBEDDING: torch.zeros(400, 32)}, r"lm_head.weight is \[394, 32\], but \[400, 32\]"),
        (
            {name: torch.zeros(300, 32) for name in (EMBEDDING, HEAD)},
            "give the base it was tuned from",
        ),
    ],
)
def test_what_cannot_be_extracted_leaves_nothing_behind(
    base: Path, tmp_path: Path, changes: dict[str, Tensor], message: str
) -> None:
    tuned = tuned_from(base, tmp_path / "tuned", changes)
    with pytest.raises(ArtifactError, match=message):
        extract_adapter(base, tuned, tmp_path / "adapter", rank=2)
    assert left(tmp_path) == ["tuned"]


@pytest.mark.parametrize(
    "code", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS, errno.EACCES]
)
def test_a_disk_that_fails_is_one_line_and_leaves_nothing_behind(
    code: int, base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(extract, "write_safetensors", full)
    tuned = tuned_from(base, tmp_path / "tuned", {Q0: random(32, 32)})
    with pytest.raises(ResourceError, match=f"cannot be written: {os.strerror(code)}"):
        extract_adapter(base, tuned, tmp_path / "adapter", rank=2)
    assert left(tmp_path) == ["tuned"]


@pytest.mark.parametrize("rank", [-1, 0, 33])
def test_an_impossible_rank_is_told(base: Path, tmp_path: Path, rank: int) -> None:
    tuned = tuned_from(base, tmp_path / "tuned", {Q0: random(32, 32)})
    with pytest.raises(RecipeError, match=f"rank {rank}: it must be from 1 to 32"):
        extract_adapter(base, tuned, tmp_path / "adapter", rank=rank)
    assert left(tmp_path) == ["tuned"]


def test_other_architectures_and_existing_outputs_are_told(
    base: Path, pico_base: Path, tmp_path: Path
) -> None:
    other = tuned_from(pico_base, tmp_path / "other", {})
    tensors = load_file(other / "model.safetensors")
    del tensors[DOWN1]
    save_file(tensors, other / "model.safetensors")
    with pytest.raises(ArtifactError, match=r"down_proj\.weight is missing"):
        extract_adapter(base, other, tmp_path / "adapter", rank=2)
    (tmp_path / "adapter").mkdir()
    with pytest.raises(ArtifactError, match="already exists"):
        extract_adapter(base, base, tmp_path / "adapter", rank=2)


def test_the_command_says_what_was_lost(base: Path, tmp_path: Path) -> None:
    tuned = tuned_from(base, tmp_path / "tuned", {Q0: random(32, 32), NORM: random(32)})
    words = ["extract", "--base", str(base), "--tuned", str(tuned), "--rank", "8"]
    result = CliRunner().invoke(app, [*words, "-o", str(tmp_path / "a")])
    assert result.exit_code == 0, result.output
    assert "lost of the change: median" in result.stdout
    assert f"kept whole: {NORM}" in result.stdout or "kept whole: model." in result.stdout
    tree = json.loads(CliRunner().invoke(app, [*words, "-o", str(tmp_path / "b"), "--json"]).stdout)
    assert tree["relative_errors"][Q0] > 0.1
