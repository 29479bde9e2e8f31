"""The scorer of a model in memory says what transformers says, one prompt at a time."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from hanpaca.evals.choice.rules import TEMPERATURE, ChoiceRequest, Cue, ask, pick, scores
from hanpaca.model.choices import choices_of
from hanpaca.model.load import CausalLM, load_model, load_tokenizer
from tests.support.texts import ENGLISH, POEMS

CUE = Cue("：", "")
OPTIONS = ("一", "二二", "three", "4")
PROMPTS = [f"{text}\nA. 一\nB. 二二\nC. three\nD. 4\n答案：" for text in (*POEMS, ENGLISH[:90])]


@pytest.fixture(scope="module")
def model(pico_base: Path) -> CausalLM:
    return load_model(pico_base, dtype=torch.float32)


def encoder(folder: Path) -> Callable[[str], list[int]]:
    tokenizer = load_tokenizer(folder)
    return lambda text: list(tokenizer.encode(text, add_special_tokens=False))


@pytest.mark.slow
def test_log_probabilities_are_those_of_a_forward_pass_each(model: CausalLM) -> None:
    begin = tuple(range(60, 110))
    asked = [
        ChoiceRequest((*begin, 7, 8), ((1,), (2,), (3, 4, 5))),
        ChoiceRequest((*begin, 9), ((6,), (7, 8))),
        ChoiceRequest((*begin, 9, 10, 11, 12, 13), ((6,),)),
    ]
    for some in (
        asked,
        [*asked, ChoiceRequest((9,), ((1,),))],
    ):  # with and without a shared beginning
        found = choices_of(model, batch_tokens=40)(some)
        for one, scored in zip(some, found, strict=True):
            for candidate, log_p in zip(one.candidates, scored.log_ps, strict=True):
                ids = torch.tensor([[*one.prompt, *candidate]])
                with torch.inference_mode():
                    log_p_tv = model(ids).logits[0].log_softmax(-1)
                at = range(len(one.prompt) - 1, ids.shape[1] - 1)
                wanted = sum(
                    float(log_p_tv[t, token]) for t, token in zip(at, candidate, strict=True)
                )
                assert log_p == pytest.approx(wanted, abs=1e-4)


def test_a_candidate_is_greedy_where_every_token_is_the_likeliest(model: CausalLM) -> None:
    with torch.inference_mode():
        first = int(model(torch.tensor([[7, 8, 9]])).logits[0, -1].argmax())
        second = int(model(torch.tensor([[7, 8, 9, first]])).logits[0, -1].argmax())
    other = (second + 1) % 300
    asked = ChoiceRequest((7, 8, 9), ((first,), (first, second), (first, other), (other,)))
    (found,) = choices_of(model)([asked])
    assert found.greedy == (True, True, False, False)


def test_the_rule_of_the_reference_is_what_generate_scores(
    model: CausalLM, pico_base: Path
) -> None:
    encode = encoder(pico_base)
    asked = [ask("reference", text, OPTIONS, encode=encode, cue=CUE) for text in PROMPTS]
    assert len({encode(text)[-1] for text in PROMPTS}) == 1
    found = choices_of(model)(asked)
    picks = set()
    for one, scored in zip(asked, found, strict=True):
        ids = torch.tensor([one.prompt])
        told: Any = model.generate(  # type: ignore[misc]
            ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=1,
            do_sample=True,
            repetition_penalty=1.1,
            temperature=0.2,
            top_k=0,
            top_p=1.0,
            output_scores=True,
            return_dict_in_generate=True,
            pad_token_id=2,
        )
        row = told.scores[0][0]
        first, after = (
            [row[token].item() for (token,) in one.candidates[at : at + 4]] for at in (0, 4)
        )
        wanted = [a + b for a, b in zip(first, after, strict=True)]
        got = scores("reference", one, scored, OPTIONS)
        assert [value * TEMPERATURE for value in got] == pytest.approx(
            [value * TEMPERATURE for value in wanted], abs=1e-4
        )
        assert pick(got) == wanted.index(max(wanted))
        picks.add(pick(got))
    assert len(picks) > 1  # else any constant would pass
