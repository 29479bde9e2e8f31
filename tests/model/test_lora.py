from pathlib import Path

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch import nn

from hanpaca.errors import ArtifactError
from hanpaca.lora_settings import LoraSettings
from hanpaca.model.load import load_model, load_tokenizer, start_token
from hanpaca.model.lora import (
    ADAPTER_WEIGHTS,
    add_lora,
    add_new_rows,
    load_adapter_state,
    save_adapter,
    trainable_groups,
    trained_weights,
)
from hanpaca.model.new_rows import (
    first_piece_rows,
    grow_model,
    log_rest_given_first,
    mean_hidden_state,
    mean_rows,
)
from hanpaca.model.score import negative_log_likelihoods

IDS = torch.tensor([[1, 5, 9, 380, 381, 7]])


def prepare(base: Path, dtype: torch.dtype = torch.float32) -> nn.Module:
    model = load_model(base, dtype=dtype)
    torch.manual_seed(3)
    add_lora(model, LoraSettings(rank=4, alpha=8, targets=("q_proj", "down_proj")))
    add_new_rows(model, 6)
    return model


def disturb(model: nn.Module) -> None:
    for parameter in model.parameters():
        if parameter.requires_grad:
            nn.init.normal_(parameter, std=0.1)


@pytest.mark.parametrize("which", ["pico_base", "pico_untied"])
def test_preparing_changes_no_answer(which: str, request: pytest.FixtureRequest) -> None:
    base = request.getfixturevalue(which)
    with torch.inference_mode():
        assert torch.equal(prepare(base, torch.bfloat16)(IDS).logits, load_model(base)(IDS).logits)


@pytest.mark.parametrize("which", ["pico_base", "pico_untied"])
def test_peft_loads_what_is_saved_and_answers_the_same(
    which: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    base = request.getfixturevalue(which)
    model = prepare(base)
    disturb(model)
    save_adapter(model, tmp_path, metadata={})  # type: ignore[arg-type]
    oracle = PeftModel.from_pretrained(load_model(base, dtype=torch.float32), str(tmp_path))
    with torch.inference_mode():
        torch.testing.assert_close(model(IDS).logits, oracle(IDS).logits, rtol=1e-5, atol=1e-5)


def test_only_factors_and_new_rows_learn(pico_untied: Path) -> None:
    model = prepare(pico_untied, torch.bfloat16)
    factors, rows = trainable_groups(model)  # type: ignore[arg-type]
    assert {parameter.dtype for parameter in (*factors, *rows)} == {torch.float32}
    assert [tuple(parameter.shape) for parameter in rows] == [(6, 32), (6, 32)]
    model(input_ids=IDS, labels=IDS).loss.backward()
    assert all(parameter.grad is not None for parameter in (*factors, *rows))
    learning = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert len(learning) == len(factors) + len(rows)


def test_saving_twice_gives_the_same_bytes_and_loading_restores(
    pico_base: Path, tmp_path: Path
) -> None:
    model = prepare(pico_base, torch.bfloat16)
    disturb(model)
    meta = {"b": "1", "a": "2", "c": "3"}
    for name in ("one", "two"):
        save_adapter(model, tmp_path / name, metadata=meta)  # type: ignore[arg-type]
    files = [tmp_path / name / ADAPTER_WEIGHTS for name in ("one", "two")]
    assert files[0].read_bytes() == files[1].read_bytes()
    other = prepare(pico_base, torch.bfloat16)
    load_adapter_state(other, files[0])  # type: ignore[arg-type]
    with torch.inference_mode():
        assert torch.equal(model(IDS).logits, other(IDS).logits)


def test_a_wrong_target_or_file_is_named(pico_base: Path, tmp_path: Path) -> None:
    settings = LoraSettings.model_construct(targets=("k_prj",))  # type: ignore[arg-type]
    with pytest.raises(ArtifactError, match="no layer named 'k_prj'"):
        add_lora(load_model(pico_base), settings)
    (tmp_path / "x").write_bytes(b"123456789")
    with pytest.raises(ArtifactError, match="cannot be read"):
        load_adapter_state(prepare(pico_base), tmp_path / "x")  # type: ignore[arg-type]


def test_likelihoods_equal_those_of_one_text_at_a_time(pico_base: Path) -> None:
    model = load_model(pico_base, dtype=torch.float32)
    texts = [[1, 5, 9, 380], [1, 7], [1], [1, 4, 4, 4, 4, 4, 4]]
    found = negative_log_likelihoods(model, texts, batch_tokens=12)
    for ids, nats in zip(texts, found, strict=True):
        with torch.inference_mode():
            logprobs = model(torch.tensor([ids])).logits[0].log_softmax(-1)
        expected = -sum(float(logprobs[at, token]) for at, token in enumerate(ids[1:]))
        assert nats == pytest.approx(expected, rel=1e-5, abs=1e-6)


def test_rows_start_where_the_formulas_say(pico_untied: Path) -> None:
    matrix = torch.arange(12.0).reshape(4, 3)
    assert torch.equal(mean_rows(matrix, [[0, 2], [3]]), torch.tensor([[3.0, 4, 5], [9, 10, 11]]))
    mean = torch.tensor([1.0, 2.0, 2.0])
    rows = first_piece_rows(matrix, [[1, 2]], log_rest=[-3.0], mean_hidden_d=mean, nats=2.0)
    assert float(rows[0] @ mean) == pytest.approx(float(matrix[1] @ mean) - 1.0)
    rest = log_rest_given_first([[7, 8]], [9], {7: 18})
    assert rest[0] == pytest.approx(float(torch.tensor(9.5 / 19).log()))
    model = load_model(pico_untied, dtype=torch.float32)
    with torch.inference_mode():
        hidden = model.model(torch.tensor([[1, 2, 3]]))[0][0].mean(0)
    torch.testing.assert_close(mean_hidden_state(model, [[1, 2, 3]]), hidden)


@pytest.mark.parametrize("untie", [True, False])
def test_a_grown_model_keeps_every_old_row(pico_base: Path, tmp_path: Path, untie: bool) -> None:
    new = torch.randn(5, 32)
    model = load_model(pico_base)
    old = model.model.embed_tokens.weight.detach().clone()
    num_old = len(load_tokenizer(pico_base))
    grow_model(
        model, tmp_path, num_old=num_old, input_rows=new, output_rows=2 * new if untie else None
    )
    grown = load_model(tmp_path)
    assert torch.equal(grown.model.embed_tokens.weight[:num_old], old[:num_old])
    assert torch.equal(grown.model.embed_tokens.weight[num_old:], new.bfloat16())
    expected = (2 * new if untie else new).bfloat16()
    assert torch.equal(grown.lm_head.weight[num_old:], expected)
    assert grown.config.tie_word_embeddings is not untie
    assert grown.config.vocab_size == num_old + 5


def test_folders_without_a_model_are_refused(pico_base: Path, tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"no config\.json"):
        load_model(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "gpt2"}')
    with pytest.raises(ArtifactError, match="'gpt2' is not a Llama-style model"):
        load_model(tmp_path)
    with pytest.raises(ArtifactError, match=r"no tokenizer\.json"):
        load_tokenizer(tmp_path)
    assert start_token(load_tokenizer(pico_base)) == 1


@pytest.mark.parametrize("new_rows", [0, 7])
@pytest.mark.parametrize("base", ["pico_base", "pico_untied"])
def test_trained_weights_are_counted_as_peft_counts_them(
    base: str, new_rows: int, request: pytest.FixtureRequest
) -> None:
    folder = request.getfixturevalue(base)
    model = load_model(folder, dtype=torch.float32)
    size, tied = model.config.vocab_size, model.config.tie_word_embeddings
    ids = list(range(size - new_rows, size))
    names = ["embed_tokens"] if tied else ["embed_tokens", "lm_head"]
    config = LoraConfig(
        r=4,
        target_modules=["q_proj", "down_proj"],
        trainable_token_indices=dict.fromkeys(names, ids) if ids else None,
    )
    trained, _ = get_peft_model(model, config).get_nb_trainable_parameters()
    whole = sum(one.numel() for one in load_model(folder).parameters())
    model = load_model(folder, dtype=torch.float32)
    add_lora(model, LoraSettings(rank=4, alpha=8, targets=("q_proj", "down_proj")))
    if new_rows:
        add_new_rows(model, new_rows)
    numbers, share = trained_weights(model)
    assert sum(numbers.values()) == trained
    assert set(numbers) == ({"LoRA factors", "new rows"} if ids else {"LoRA factors"})
    # The old values of new rows are learned in place, and not held a second time.
    again = numbers.get("new rows", 0)
    assert share == pytest.approx(trained / (whole + trained - again))


def test_an_adapter_without_weights_is_not_written(pico_base: Path, tmp_path: Path) -> None:
    """As sharding that this does not know leaves them."""
    model = load_model(pico_base, dtype=torch.float32)
    add_lora(model, LoraSettings(rank=4, alpha=8, targets=("q_proj",)))
    for layer in model.model.layers:
        layer.self_attn.q_proj.lora_A.data = torch.empty(0)
    with pytest.raises(ArtifactError, match=r"would be empty: base_model.*lora_A\.weight is"):
        save_adapter(model, tmp_path / "out", metadata={})
    assert not (tmp_path / "out").exists()
