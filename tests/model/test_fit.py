from pathlib import Path

import pytest
import torch

from hanpaca.model.fit import fit_input_rows, fit_output_rows, spell_out
from hanpaca.model.load import CausalLM, load_model
from hanpaca.model.new_rows import mean_rows

SPELLINGS = [[20, 21], [22, 23, 24], [30, 31]]


@pytest.fixture
def model(pico_untied: Path) -> CausalLM:
    return load_model(pico_untied, dtype=torch.float32).requires_grad_(False)


def test_a_text_is_spelled_out_with_the_end_of_every_token(model: CausalLM) -> None:
    first = model.config.vocab_size
    text = spell_out([1, first, 7, first + 1], SPELLINGS, first_id=first)
    assert text.base_ids == (1, 20, 21, 7, 22, 23, 24)
    assert text.ends == (0, 2, 3, 6)
    assert [text.base_ids[end] for end in text.ends] == [1, 21, 7, 24]


@pytest.mark.slow
def test_fitted_input_rows_come_closer_to_the_spelled_text(model: CausalLM) -> None:
    first = model.config.vocab_size
    texts = [
        spell_out([1, first + one, 5 + two, first + two], SPELLINGS, first_id=first)
        for one in range(3)
        for two in range(3)
    ]
    start = mean_rows(model.model.embed_tokens.weight, SPELLINGS)
    before = model.model.embed_tokens.weight.clone()
    fitted = fit_input_rows(model, start, texts, num_steps=40, batch_tokens=36)
    assert fitted.shape == start.shape
    assert torch.equal(model.model.embed_tokens.weight, before)
    assert _distance(model, fitted, texts) < 0.7 * _distance(model, start, texts)


def test_fitted_output_rows_predict_the_new_pieces(model: CausalLM) -> None:
    first = model.config.vocab_size
    texts = [spell_out([1, 40 + n, first + n, 50], SPELLINGS, first_id=first) for n in range(3)]
    start = mean_rows(model.lm_head.weight, SPELLINGS)
    fitted = fit_output_rows(model, start, texts, num_passes=60, batch_tokens=12, learning_rate=0.1)
    with torch.inference_mode():
        for number in range(3):
            hidden = model.model(torch.tensor([[1, 40 + number]])).last_hidden_state[0, -1]
            before, after = (
                torch.cat([model.lm_head.weight, rows]) @ hidden for rows in (start, fitted)
            )
            piece = first + number
            assert after.log_softmax(0)[piece] > before.log_softmax(0)[piece] + 1
            assert int(after[first:].argmax()) == number


def _distance(model: CausalLM, rows: torch.Tensor, texts: list) -> float:  # type: ignore[type-arg]
    table = torch.cat([model.model.embed_tokens.weight, rows])
    total = 0.0
    with torch.inference_mode():
        for text in texts:
            taught = model.model(torch.tensor([text.base_ids])).last_hidden_state[0]
            found = model.model(inputs_embeds=table[list(text.new_ids)][None]).last_hidden_state[0]
            total += float((taught[list(text.ends)] - found).square().mean())
    return total
